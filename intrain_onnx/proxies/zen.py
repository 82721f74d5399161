"""Zen-score: log of the mean of ||f(x) - f(x + a e)||_1, plus the sum over BatchNorms of log sigma; a = 0.01.

Lin, Wang, Sun, Chen, Sun, Qian, Li and Jin, Zen-NAS: A Zero-Shot NAS for High-Performance Image
Recognition, ICCV 2021. Higher is better. f is the network up to its last pooling, all weights are N(0, 1),
BatchNorm normalises by the batch in every protocol, and sigma^2 is the mean over channels of the variance
that it divides by. The authors' code reads the running variance instead, of which the batch's is one tenth.
If BatchNorm is folded, or the network has none, the output of each convolution and linear layer is normalised
instead: otherwise activations overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from intrain_onnx.measure import initialise
from intrain_onnx.proxies.blocks import before_pooling
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError
from intrain_onnx.runtime.interpreter import Observer
from intrain_onnx.runtime.random_streams import generator_for

_STEP = 0.01


def compute(network: ProxyContext) -> dict[str, float]:
    """Log of the feature difference under a Gaussian input perturbation, plus the log scales of BatchNorm."""
    generator = generator_for(network.seed, "zen step")
    with network.scratch(), torch.no_grad():
        _draw(network)
        scales: list[float] = []
        plain = _features(network, lambda x: x, scales)
        moved = _features(network, lambda x: x + _STEP * _noise(x, generator), [])
    difference = sum((a - b).abs().sum().item() for a, b in zip(plain, moved, strict=True)) / network.samples
    if difference == 0.0 or not all(scales):
        raise NoValueError("the features do not depend on the input")
    return {"zen": math.log(difference) + math.fsum(map(math.log, scales))}


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator).to(x)


def _draw(network: ProxyContext) -> None:
    """Draw N(0, 1) for every layer's weight, in the canonical layout; scales are 1, offsets 0."""
    initialise.reinitialise(network.module, network.layers, network.seed)
    weights = network.weights
    for layer in network.layers.layers:
        for index, weight in enumerate(layer.weights):
            if weight.name in weights:
                target = weights[weight.name]
                generator = generator_for(network.seed, f"zen {layer.key}.{index}")
                drawn = torch.randn(weight.shape, generator=generator)
                target.copy_(initialise.to_file_layout(drawn, tuple(target.shape), weight.steps))


def _features(network: ProxyContext, change: Callable[[Tensor], Tensor], scales: list[float]) -> list[Tensor]:
    fed, observers = network.continuous(change)
    kept: list[Tensor] = []
    name = before_pooling(network.module, network.layers)

    def normalise(axis: int) -> Observer:
        return lambda parts: _normalised(parts, axis, scales)

    has_norms = any(n.meta.get("onnx_op") == "BatchNormalization" for n in network.module.graph.nodes)
    if network.config.batch_norm == "fold" or not has_norms:
        for x in network.layers.layers:
            if x.kind in ("convolution", "linear"):
                observers[x.node_output] = normalise(x.channel_axes[0])
    observers[name] = _keeper(kept, observers.get(name))
    network.run(fed, observers, norms="batch", batch_norm=lambda parts: _note_scale(parts, scales))
    return kept


def _keeper(kept: list[Tensor], before: Observer | None) -> Observer:
    def keep(parts: list[Tensor]) -> list[Tensor] | None:
        changed = before(parts) if before is not None else None
        kept.extend(parts if changed is None else changed)
        return changed

    return keep


def _note_scale(parts: list[Tensor], scales: list[float]) -> None:
    whole = torch.cat(parts)
    axes = [i for i in range(whole.dim()) if i != 1]
    scales.append(math.sqrt(whole.var(axes, correction=0).mean().item()))


def _normalised(parts: list[Tensor], axis: int, scales: list[float]) -> list[Tensor]:
    """Normalise each channel by the batch, as BatchNorm; appends its scale."""
    moved = [p.movedim(axis, -1) for p in parts]
    rows = torch.cat([m.reshape(-1, m.shape[-1]) for m in moved])
    var, mean = torch.var_mean(rows, 0, correction=0)
    scales.append(math.sqrt(var.mean().item()))
    return [((m - mean) * torch.rsqrt(var + 1e-5)).movedim(-1, axis) for m in moved]
