"""Fisher: sum over layers and channels of 1/2 mean over samples of (sum over space of z dL/dz)^2.

Turner, Crowley, O'Boyle, Storkey and Gray, BlockSwap, ICLR 2020, after Theis et al., arXiv 1801.05787; as a
proxy Abdelfattah et al., ICLR 2021. Higher is better. z is a layer's output before its activation, as in
the proxy's code; BlockSwap reads it after. Each channel counts once, as in the paper; the proxy's code
repeats it for every element of the channel's weight, which weighs a layer by its fan-in.
"""

from __future__ import annotations

import math

from intrain_onnx.proxies.network import Network


def compute(network: Network) -> dict[str, float]:
    """Sum the squared saliencies."""
    saliency = network.backward().saliency
    return {"fisher": math.fsum(0.5 * s.double().square().mean(0).sum().item() for s in saliency.values())}
