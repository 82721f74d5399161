"""VKDNW: layer count plus the entropy of the deciles of the Fisher information's eigenvalues.

Tybl and Neumann, Training-free Neural Architecture Search through Variance of Knowledge of Deep Network
Weights, CVPR 2025. Higher is better. The entropy is -sum over k of d_k log d_k, d the nine deciles of the
eigenvalues over their sum; the single score adds the number of layers. The information is the mean over
samples of J^T (diag p - p p^T) J, J the derivatives of the logits by one weight of each of the first 128
layers, p the softmax with a share of 0.05 spread evenly, as in the authors' code.

Their code takes the first element of every parameter tensor; here it is that of each layer's weight, since
biases and BatchNorm depend on the exporter. The statistics of a BatchNorm in training mode are treated as
constants, so that samples are independent. With more than 32 classes, the sum over classes is estimated from
32 random sign vectors, without bias. Their aggregate is `aggregate.aggregate("vkdnw", ...)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import of_call
from intrain_onnx.proxies.blocks import live_nodes
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError
from intrain_onnx.proxies.modified_interpreter import ModifiedInterpreter, Norms
from intrain_onnx.runtime.interpreter import Samples
from intrain_onnx.runtime.random_streams import generator_for

_LAYERS = 128
_SMOOTHING = 0.05
_DIRECTIONS = 32
_STEP = 1e-3
_LINEAR = (Kind.PRODUCT, Kind.CONVOLUTION, Kind.LOOKUP)


def compute(network: ProxyContext) -> dict[str, float]:
    """Entropy of the deciles of the Fisher information's eigenvalues, alone and with the layer count."""
    entropy = decile_entropy(information(network))
    return {"vkdnw": len(network.layers.layers) + entropy, "vkdnw_entropy": entropy}


def decile_entropy(matrix: Tensor) -> float:
    """Entropy of the nine deciles of a matrix's eigenvalues."""
    values = torch.linalg.eigvalsh(matrix).clamp(min=0)
    steps = torch.arange(1, 10, dtype=values.dtype, device=values.device) / 10
    deciles = torch.quantile(values, steps)
    if not deciles.sum() > 0:
        raise NoValueError("nine of ten eigenvalues of the Fisher information are zero")
    shares = deciles / deciles.sum()
    return float(-torch.special.xlogy(shares, shares).sum().item())


def information(network: ProxyContext) -> Tensor:
    """Fisher information matrix of the softmax output by one weight of each layer: (weights, weights)."""
    chosen = [x.weights[0].name for x in network.layers.layers[:_LAYERS]]
    weights = network.weights
    names = [n for n in dict.fromkeys(chosen) if n in weights]
    norms: Norms = "frozen" if network.config.batch_norm == "training" else "as_is"
    one_call = _OneWeight(network.module, {weights[n].data_ptr(): n for n in names}, norms)
    outputs = one_call.outputs(*network.feed())[0]
    logits = torch.cat([p.flatten(1) for p in outputs]) if outputs[0].dim() > 1 else outputs[0]
    if logits.dim() != 2 or len(logits) != network.samples or logits.shape[1] < 2:
        raise NoValueError("needs class logits")
    values = [v for v, _, _ in one_call.made]
    total = torch.zeros(len(names), len(names), dtype=torch.float64, device=network.runnable.device)
    directions = _directions(logits.detach(), network.seed)
    for direction in directions:
        gradients = torch.autograd.grad(logits, values, direction, retain_graph=True, allow_unused=True)
        rows = torch.zeros(network.samples, len(names), dtype=torch.float64, device=network.runnable.device)
        for (_, tangent, place), gradient in zip(one_call.made, gradients, strict=True):
            if gradient is not None:
                name, part, count = place
                size = network.samples // count
                effect = network.by_sample(gradient * tangent, (), size).sum((1, 2))
                rows[part * size : (part + 1) * size, names.index(name)] += effect
        total += rows.T @ rows / network.samples
    return total


def _directions(logits: Tensor, seed: int) -> list[Tensor]:
    """Vectors, each (samples, classes), whose outer products sum up to diag p - p p^T for each sample."""
    classes = logits.shape[1]
    p = torch.softmax(logits, 1) * (1 - _SMOOTHING) + _SMOOTHING / classes
    root = p.sqrt()
    if classes <= _DIRECTIONS:
        units = torch.eye(classes, device=logits.device, dtype=logits.dtype)
    else:
        signs = torch.randint(0, 2, (_DIRECTIONS, classes), generator=generator_for(seed, "vkdnw signs"))
        units = (signs * 2 - 1).to(logits) / math.sqrt(_DIRECTIONS)
    # With r = sqrt p: diag p - p p^T = B B^T for B = diag(r) (1 - r r^T), since r has length one.
    return [root * (u - root * (root @ u)[:, None]) for u in units]


class _OneWeight(ModifiedInterpreter):
    """Derivative by the first element of each chosen weight, forward up to the first data-dependent values.

    ``made`` lists each such value, its tangent, and (weight, index of the part, number of parts).
    """

    def __init__(self, module: fx.GraphModule, chosen: dict[int, str], norms: Norms) -> None:
        super().__init__(module, norms=norms)
        self.chosen = chosen
        self.tangents: dict[fx.Node, dict[str, Tensor]] = {}
        self.made: list[tuple[Tensor, Tensor, tuple[str, int, int]]] = []
        self.live = frozenset(live_nodes(module))

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and propagate tangents through nodes that depend on weights alone."""
        result = super().run_node(n)
        if n.op == "get_attr" and isinstance(result, Tensor) and result.data_ptr() in self.chosen:
            tangent = torch.zeros_like(result)
            tangent.view(-1)[0] = 1
            self.tangents[n] = {self.chosen[result.data_ptr()]: tangent}
        elif n.op == "call_function":
            names = {name for source in n.all_input_nodes for name in self.tangents.get(source, {})}
            for name in sorted(names):
                self._carry(n, name, result)
        return result

    def _carry(self, n: fx.Node, name: str, result: Any) -> None:
        with torch.no_grad():
            tangents = self._derivative(n, name, result)
        if n not in self.live:
            self.tangents.setdefault(n, {})[name] = tangents
            return
        split = isinstance(result, Samples)
        pairs = list(zip(result, tangents, strict=True)) if split else [(result, tangents)]
        for index, (part, change) in enumerate(pairs):
            for value, tangent in zip(_flat(part), _flat(change), strict=True):
                if isinstance(tangent, Tensor) and value.requires_grad:
                    self.made.append((value, tangent, (name, index, len(pairs))))

    def _derivative(self, n: fx.Node, name: str, result: Any) -> Any:
        """The tangent by finite differences: exact for a linear map, else central and in float64."""
        if n in self.live and of_call(n.meta).kind in _LINEAR:
            return _combine(lambda b, a: b - a, self._call(n, name, 1.0, wide=False), result)
        ends = [self._call(n, name, step, wide=True) for step in (_STEP, -_STEP)]
        return _combine(lambda b, a: (b - a).to(torch.float32) / (2 * _STEP), *ends)

    def _call(self, n: fx.Node, name: str, step: float, *, wide: bool) -> Any:
        """The outputs of a node with the weight's first element increased by a step."""

        def moved(source: fx.Node) -> Any:
            value = self.env[source]
            tangents = self.tangents.get(source, {}).get(name)
            if tangents is not None:
                value = _combine(lambda v, t: v + step * t, value, tangents)
            return _each(value, lambda t: t.double() if t.dtype == torch.float32 else t) if wide else value

        args, kwargs = fx.map_arg((n.args, n.kwargs), moved)
        return self.call_function(n.target, args, kwargs)


def _each(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(_each(v, function) for v in value) if isinstance(value, (tuple, Samples)) else value


def _combine(function: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any) -> Any:
    """A function of two values, element-wise over tuples; None for values that are not floats."""
    if isinstance(a, (tuple, Samples)):
        return type(a)(_combine(function, x, y) for x, y in zip(a, b, strict=True))
    return function(a, b) if isinstance(a, Tensor) and a.is_floating_point() else None


def _flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]
