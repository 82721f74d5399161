"""FLOPs: multiply-accumulate operations for one sample.

One multiplication with its addition counts once, as in most papers that say FLOPs. All products count,
those of attention included; additions of biases, normalisation, activation and pooling do not.
"""

from __future__ import annotations

from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError


def compute(network: ProxyContext) -> dict[str, float]:
    """The multiply-accumulate operations of the static analysis."""
    if network.macs is None:
        raise NoValueError("no shape of a product is known")
    return {"flops": float(network.macs)}
