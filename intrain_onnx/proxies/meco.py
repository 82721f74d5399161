"""MeCo: sum over layers of the least eigenvalue of the correlation matrix between the channels of one sample.

Jiang, Wang and Bie, MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum Eigenvalue of
Correlation, NeurIPS 2023. Higher is better. Layers are the canonical ones, read before their activation;
the authors' code hooks every module, containers included. The sample is the first of the batch, so that
BatchNorm has statistics. A channel that does not vary has no correlation and makes the matrix singular, and
so do more channels than positions less one: both count 0, as they do in the authors' code but for
round-off. A layer with one position has no correlation and is left out.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from intrain_onnx.network.recognise import Layer
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError


def compute(network: ProxyContext) -> dict[str, float]:
    """Sum the least eigenvalues over the layers."""
    found: dict[str, float] = {}
    with torch.no_grad():
        network.run(observers={x.output: partial(_observe, network, x, found) for x in network.layers.layers})
    if not found:
        raise NoValueError("no layer gives several positions for one sample")
    return {"meco": sum(found.values())}


def _observe(network: ProxyContext, layer: Layer, found: dict[str, float], parts: list[Tensor]) -> None:
    samples = network.samples // len(parts)
    first = network.by_sample(parts[0], layer.channel_axes, samples)[0]
    if len(first) > 1 and layer.name not in found:
        found[layer.name] = least_eigenvalue(first.double())


def least_eigenvalue(rows: Tensor) -> float:
    """Least eigenvalue of the correlation matrix of the columns; 0 if it is rank-deficient by its shape."""
    positions, channels = rows.shape
    centred = rows - rows.mean(0)
    norms = centred.norm(dim=0)
    if channels >= positions or not bool((norms > 0).all()):
        return 0.0
    unit = centred / norms
    return max(float(torch.linalg.eigvalsh(unit.T @ unit)[0].item()), 0.0)
