"""Estimates how strongly the outputs of a network respond to round-off, by random perturbation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx

from intrain_onnx.errors import IntrainError
from intrain_onnx.parity.comparable import Comparable
from intrain_onnx.parity.compare import Array, Spread, spread_of
from intrain_onnx.runtime.arrays import to_numpy
from intrain_onnx.runtime.interpreter import Observer, run

ROUND_OFF = 2.0**-20
"""Relative error that a float32 operator may make in each element: 8 units in the last place, as a sum of
some hundred terms in another order does."""


def response_to_round_off(
    module: fx.GraphModule,
    inputs: Sequence[Tensor],
    names: Sequence[str],
    rounding: float = 0.0,
    trials: int = 3,
    graph: Comparable | None = None,
) -> Spread | None:
    """Largest relative change of the outputs under Gaussian noise on each element of each float32 value.

    Its relative standard deviation is :data:`ROUND_OFF`, or ``rounding`` if that is more. Arithmetic on sizes
    stays exact. Trials that fail or change a shape are discarded; if all do, values that sizes depend on stay
    exact too. The change of the output that changes most is reported for all.

    Returns:
        None if every trial was discarded.
    """
    error = max(ROUND_OFF, rounding)
    graphs = [m.graph for m in module.modules() if isinstance(m, fx.GraphModule)]
    values = [name for g in graphs for n in g.nodes for name in n.meta.get("onnx_outputs", ())]
    with torch.no_grad():
        exact = [to_numpy(parts[0]) for parts in run(module, inputs)]
        for kept in _kept(graph):
            generator = torch.Generator(device=inputs[0].device if inputs else "cpu").manual_seed(0)
            observers = dict.fromkeys((v for v in values if v not in kept), _disturber(error, generator))
            tried = {str(i): _trial(module, inputs, observers, exact) for i in range(trials)}
            read = {i: outputs for i, outputs in tried.items() if outputs is not None}
            if read:
                found = spread_of(names, exact, read, "round-off alone changes it")
                return replace(found, relative=dict.fromkeys(names, found.most), how="")
    return None


def _kept(graph: Comparable | None) -> Iterable[Collection[str]]:
    """Sets of values that are not perturbed: first shape arithmetic, then all that sizes depend on."""
    if graph is None:
        return ((),)
    return (graph.shape_arithmetic, graph.shape_arithmetic | graph.to_sizes)


def _disturber(error: float, generator: torch.Generator) -> Observer:
    def disturb(parts: list[Tensor]) -> list[Tensor]:
        return [
            p * (1 + error * torch.randn(p.shape, generator=generator, device=p.device, dtype=torch.float32))
            if p.dtype == torch.float32
            else p
            for p in parts
        ]

    return disturb


def _trial(
    module: fx.GraphModule,
    inputs: Sequence[Tensor],
    observers: Mapping[str, Observer],
    exact: Sequence[Array],
) -> list[Array] | None:
    """The outputs of one perturbed run; None if it fails, changes a shape or is not finite."""
    try:
        found = [to_numpy(parts[0]) for parts in run(module, inputs, observers)]
    except IntrainError:
        return None
    for a, b in zip(found, exact, strict=True):
        if a.shape != b.shape or (a.dtype.kind == "f" and not np.isfinite(a).all()):
            return None
    return found
