"""ZiCo: sum over weights W of log of the sum over w of mean |g_w| / std g_w, over two batches.

Li, Yang, Bhardwaj and Marculescu, ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients,
ICLR 2023. Higher is better. As in the authors' code, elements whose gradient does not vary between the
batches are left out, and so is a weight of which no element remains. Two batches of noise with random
labels replace two of training data. The standard deviation is the population's.
"""

from __future__ import annotations

import math

from torch import Tensor

from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError


def compute(network: ProxyContext) -> dict[str, float]:
    """Sum of logs of the inverse coefficients of variation of the gradients over two batches."""
    first, second = (network.backward(batch).gradients for batch in (0, 1))
    sums = [_certainty(g, second[name]) for name, g in first.items() if name in second]
    logs = [math.log(s) for s in sums if s > 0]
    if not logs:
        raise NoValueError("no gradient varies between batches")
    return {"zico": math.fsum(logs)}


def _certainty(a: Tensor, b: Tensor) -> float:
    """Sum of mean |g| / std g over the elements that vary."""
    deviation = (a - b).abs() / 2
    varies = deviation > 0
    mean = (a.abs() + b.abs()) / 2
    return float((mean[varies].double() / deviation[varies].double()).sum().item())
