"""GradNorm: sum over the layers' weights W of ||dL/dW||_2.

Abdelfattah, Mehrotra, Dudziak and Lane, Zero-Cost Proxies for Lightweight NAS, ICLR 2021. Higher is better.
Biases and scales are left out, as in the authors' code. L is the loss with random labels.
"""

from __future__ import annotations

import math

from intrain_onnx.proxies.context import ProxyContext


def compute(network: ProxyContext) -> dict[str, float]:
    """Sum the norms of the gradients."""
    return {"grad_norm": math.fsum(g.norm().item() for g in network.backward().gradients.values())}
