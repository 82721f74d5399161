"""What normalisation runs: single samples of a graph, for sizes, roles and shapes, and computed weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from intrain_onnx.errors import IntrainError
from intrain_onnx.loading import allowance
from intrain_onnx.measure.search_sizes import Dimension, Search, Sizes, of_input
from intrain_onnx.measure.settle_values import settle_values
from intrain_onnx.measure.trial import Trial
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.network.signature.input_roles import Role
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.rewrites.network import Resolve, Runs
from intrain_onnx.rewrites.solve_sizes import Solved
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.arrays import to_numpy
from intrain_onnx.runtime.interpreter import run


class TrialRunner(Trial):
    """A ``rewrites.network.Runner`` that runs a converted model."""

    def fit(self, solved: Solved, resolve: Resolve) -> Solved:
        """Sizes of free dimensions with which one sample runs; the given ones if the search fails."""
        usual = resolve(solved.sizes)
        try:
            free = _free_dimensions(usual)
            search = Search(self, free, lambda sizes: resolve(_named(free, sizes)))
            if search.first is None or of_input(search.first.failure, usual) is not None:
                return solved
            found = search.best()
        except IntrainError as error:  # reported when the model is run
            allowance.raise_spent(error)
            return solved
        if found is None:
            return solved
        changed = {d.key: n for d, n in zip(free, found[0], strict=True) if n != d.size}
        return solved.then({**solved.sizes, **changed}, "trial", _reason(search))

    def settle(self, single: Signature) -> Mapping[str, Role]:
        """Roles that the static analysis cannot tell (see ``settle_values``)."""
        return settle_values(self, single)


def runs_on(device: torch.device) -> Runs:
    """The functions that run a graph: on ``device``, but for computed weights, on the CPU."""
    return Runs(
        see=lambda model, single: Trial(model, device).shapes(single),
        evaluate=evaluate,
        runner=lambda model: TrialRunner(model, device),
    )


def evaluate(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    """The outputs of a model without inputs.

    Raises:
        UnsupportedError, LimitError: a node cannot be run, or its output is too large; names it.
    """
    with torch.no_grad(), element_limit(allowance.current().elements()):
        return [to_numpy(part) for (part,) in run(convert.convert(model), [])]


def _free_dimensions(fed: Signature) -> list[Dimension]:
    """The dimensions that neither file nor user fixes."""
    axes: dict[str, list[tuple[str, int]]] = {key: [] for key in fed.free}
    for spec in fed.inputs:
        for axis, declared in enumerate(spec.declared):
            key = declared if isinstance(declared, str) else f"{spec.name}[{axis}]"
            if key in axes and not isinstance(declared, int):
                axes[key].append((spec.name, axis))
    return [Dimension(key, tuple(found), fed.free[key]) for key, found in axes.items()]


def _named(free: list[Dimension], sizes: Sizes) -> dict[str, int]:
    return {d.key: size for d, size in zip(free, sizes, strict=True)}


def _reason(search: Search) -> str:
    """The failure with the default sizes."""
    assert search.first is not None
    error = search.first
    return f"{error.op} node {error.node!r} fails with the usual size: {error.failure.cause.text}"
