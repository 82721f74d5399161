"""Layer count: the number of layers with weights.

Tybl and Neumann (VKDNW, CVPR 2025) show that it ranks NAS-Bench-201 better than most proxies do. A layer is
a canonical one on a path from an input to an output: a convolution, a linear map, a recurrence, an
embedding. Normalisations do not count, since exporters fold them away.
"""

from __future__ import annotations

from intrain_onnx.proxies.context import ProxyContext


def compute(network: ProxyContext) -> dict[str, float]:
    """Count the canonical layers."""
    return {"layers": float(len(network.layers.layers))}
