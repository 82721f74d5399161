"""Fisher: sum over layers and channels of n/2 mean over samples of (sum over space of z dL/dz)^2.

Turner, Crowley, O'Boyle, Storkey and Gray, BlockSwap, ICLR 2020, after Theis et al., arXiv 1801.05787; as a
proxy Abdelfattah et al., ICLR 2021. Higher is better. z is a layer's output before its activation, as in
the proxy's code; BlockSwap reads it after. n is the number of weights of a channel: the proxy's code counts
a channel once for each of them, and published values come from it. BlockSwap counts it once.
"""

from __future__ import annotations

import math

from intrain_onnx.proxies.context import ProxyContext


def compute(network: ProxyContext) -> dict[str, float]:
    """Sum the squared channel saliencies, weighted by n/2."""
    saliency = network.backward().saliency
    layers = [x for x in network.layers.layers if x.name in saliency]
    return {
        "fisher": math.fsum(
            0.5 * math.prod(x.weights[0].shape[1:]) * saliency[x.name].double().square().mean(0).sum().item()
            for x in layers
        )
    }
