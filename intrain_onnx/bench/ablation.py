"""Ablation: forms of the InTrain score, computed from stored values of layers and tensors. No torch.

A form is a choice on each of six axes: what is combined, how, at which activations, over which layers and
tensors, and how depth is normalised. The paper's ablation and this project's variants are points of the same
grid. The steps to `volume` are of other values, and so functions of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from intrain_onnx.scores import variants
from intrain_onnx.scores.run_values import RunValues, TensorValue

Combination = Literal["product", "sum", "capacity only", "resilience only", "log product"]
Where = Literal["layers", "read", "joins", "cuts", "standardised cuts"]
Depth = Literal["log(L + 1)", "L", "none", "mean"]
Formula = Callable[[RunValues], float]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the score; the defaults are the paper's.

    Attributes:
        combine: of geometric capacity and optimisation resilience; ``log product`` is capacity times
            log(1 + resilience).
        where: activations whose log participation ratios are summed: layer outputs, layer inputs (``read``),
            joins of branches, or cuts of the graph.
        live: count only layers that receive a gradient.
        weights: sum the health of layers' weights only, not of all parameters.
        corrected: use health corrected for the size of the tensor.
        sized: multiply each health by log(1 + size of the tensor).
        depth: divisor of the score; ``mean`` instead divides the capacity by its number of terms.
        eps: added to the largest gradient in the denominator of the health.
    """

    combine: Combination = "product"
    where: Where = "layers"
    live: bool = False
    weights: bool = False
    corrected: bool = False
    sized: bool = False
    depth: Depth = "log(L + 1)"
    eps: float = 0.0

    def __call__(self, values: RunValues) -> float:
        """Compute this form of the score for one network."""
        ratios = _ratios(self, values)
        capacity = math.fsum(ratios)
        if self.depth == "mean" and ratios:
            capacity /= len(ratios)
        resilience = math.fsum(_health(self, t) for t in _tensors(self, values))
        combined = _COMBINE[self.combine](capacity, resilience)
        layers = len(values.live_layers) if self.live else len(values.layers)
        return combined / max(_divisor(self.depth, layers), 1e-12)


_COMBINE: dict[str, Callable[[float, float], float]] = {
    "product": lambda capacity, resilience: capacity * (1.0 + resilience),
    "sum": lambda capacity, resilience: capacity + resilience,
    "capacity only": lambda capacity, _: capacity,
    "resilience only": lambda _, resilience: resilience,
    "log product": lambda capacity, resilience: capacity * math.log1p(resilience),
}


def _ratios(form: Form, values: RunValues) -> list[float]:
    if form.where == "layers":
        return values.live_layers if form.live else [layer.log_ratio for layer in values.layers]
    if form.where == "standardised cuts":
        return values.cuts
    flag = {"read": "read", "joins": "join", "cuts": "cut"}[form.where]
    return [p.plain or 0.0 for p in values.points if getattr(p, flag)]


def _tensors(form: Form, values: RunValues) -> tuple[TensorValue, ...] | list[TensorValue]:
    return values.live_weights if form.weights else values.tensors


def _health(form: Form, tensor: TensorValue) -> float:
    health = tensor.corrected_health if form.corrected else tensor.health
    health *= math.log1p(tensor.size) if form.sized else 1.0
    return health * tensor.max_abs / (tensor.max_abs + form.eps) if tensor.max_abs else 0.0


def _divisor(depth: Depth, layers: int) -> float:
    return {"log(L + 1)": math.log(layers + 1), "L": float(layers), "none": 1.0, "mean": 1.0}[depth]


PAPER = Form()
LIVE = replace(PAPER, live=True, weights=True)


def forms() -> Iterator[tuple[str, str, Formula]]:
    """All forms that are compared, each with its axis and the choice on it."""
    for combine in ("product", "sum", "capacity only", "resilience only"):
        depth: Depth = "log(L + 1)" if combine == "product" else "none"
        yield "combination", f"{combine}, all layers", replace(PAPER, combine=combine, depth=depth)
        yield "combination", f"{combine}, live layers", replace(LIVE, combine=combine, depth=depth)
    for choice in ("log(L + 1)", "L", "none", "mean"):
        yield "depth", choice, replace(LIVE, depth=choice)
    for where in ("layers", "read", "joins", "cuts", "standardised cuts"):
        yield "activations", f"{where}, mean", replace(LIVE, where=where, depth="mean")
    yield "dead layers", "kept", replace(LIVE, live=False)
    yield "dead layers", "left out", LIVE
    yield "health over", "all parameters", replace(LIVE, weights=False)
    yield "health over", "weights", LIVE
    yield "health", "corrected for size", replace(LIVE, corrected=True)
    for eps in (1e-10, 1e-6, 1e-3, 1e-1):
        yield "eps", f"{eps:g}", replace(LIVE, eps=eps)
    taken = replace(LIVE, depth="mean", corrected=True)
    yield "steps to the variants", "mean log PR, corrected health", taken
    taken = replace(taken, combine="log product")
    yield "steps to the variants", "… and the log of the health", taken
    taken = replace(taken, sized=True)
    yield "steps to the variants", "… weighed with log n", taken
    taken = replace(taken, where="cuts")
    yield "steps to the variants", "… at the cuts", taken
    taken = replace(taken, where="standardised cuts")
    yield "steps to the variants", "… standardised: width_depth", taken
    yield "steps to the variants", "its first factor: width", replace(taken, combine="capacity only")
    yield from (("volume", choice, formula) for choice, formula in _steps_to_volume())


def _steps_to_volume() -> Iterator[tuple[str, Formula]]:
    """`volume` factor by factor; recurrent networks have their own form of it, in the last step alone."""

    def deep(values: RunValues) -> float:
        return variants.inner_width(values) * variants.size_depth(values)

    yield "mean log PR at the cuts", variants.width
    yield "… and of the stages", variants.inner_width
    yield "… times depth", deep
    yield "… times extent", lambda values: deep(values) * variants.log_extent(values)
    yield "… times reach: volume", variants.volume
