"""SNIP: sum over the layers' weights of |w dL/dw|.

Lee, Ajanthan and Torr, SNIP: Single-shot Network Pruning Based on Connection Sensitivity, ICLR 2019; summed
up as a proxy by Abdelfattah et al., ICLR 2021. Higher is better. The derivative by a mask of ones, which
the authors take, is w dL/dw. Pruning divides by the sum over the network; the proxy does not.
"""

from __future__ import annotations

import math

from intrain_onnx.proxies.context import ProxyContext


def compute(network: ProxyContext) -> dict[str, float]:
    """Sum the sensitivities."""
    weights = network.weights
    gradients = network.backward().gradients
    return {"snip": math.fsum((weights[n] * g).abs().sum().item() for n, g in gradients.items())}
