"""#Params: the number of trainable elements of the network in the file.

A tied weight counts once. What an exporter folded away, such as the scale of a BatchNorm, is not counted.
"""

from __future__ import annotations

from intrain_onnx.proxies.context import ProxyContext


def compute(network: ProxyContext) -> dict[str, float]:
    """Count the elements."""
    return {"params": float(network.parameter_count)}
