"""The normalised graph of a file: the input of all analyses, protocols and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import onnx_ir as ir

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading import allowance
from intrain_onnx.loading.load import LoadedModel
from intrain_onnx.network import coverage, given_inputs, gradient_reach, input_shapes
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.network.signature.input_roles import Role
from intrain_onnx.opset.support import unsupported
from intrain_onnx.rewrites import computed_weights, dequantise
from intrain_onnx.rewrites.forms import has_forms, restore_forms
from intrain_onnx.rewrites.infer_shapes import (
    See,
    all_known,
    are_inferred,
    complete_shapes,
    forget_inferred,
    infer_for,
    infer_shapes,
)
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.rewrites.protocol.loss_heads import find_heads
from intrain_onnx.rewrites.solve_sizes import Solved, solve_sizes

Resolve = Callable[[Mapping[str, int]], input_shapes.Signature]


class Runner(Protocol):
    """Runs one model, converted once, on single samples."""

    @property
    def module(self) -> Any:
        """The converted model, a ``torch.fx.GraphModule``."""

    def fit(self, solved: Solved, resolve: Resolve) -> Solved:
        """Sizes of free dimensions with which one sample runs, searched from the given ones."""

    def settle(self, single: input_shapes.Signature) -> Mapping[str, Role]:
        """Roles of inputs, by name, that override the static ones."""

    def shapes(self, single: input_shapes.Signature) -> Mapping[str, tuple[int, ...]]:
        """Shapes of all values in a run of one sample; empty if it fails."""

    def forget(self) -> None:
        """Free the memory of the converted model until it is used again."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Functions that run a graph or part of it.

    Attributes:
        see: shapes of all values in a run of one sample.
        evaluate: outputs of a model without inputs, for weights computed by the graph.
        runner: of a model that is run several times.
    """

    see: See
    evaluate: computed_weights.Evaluate
    runner: Callable[[ir.Model], Runner]


@dataclass(frozen=True)
class Network:
    """The normalised graph of a file; immutable once created.

    Attributes:
        loaded: the file.
        exact: the graph in normal form, quantised if the file is (see ``normalise``).
        model: the dequantised graph, with an initializer for each parameter: the one that is scored. It is
            ``exact`` itself if nothing in that had to be rewritten.
        single: shapes of the inputs for one sample.
        shapes_known: False if onnx's shape inference rejects the model.
        constants: nodes of the file that only compute constants or parameters.
        quantisation: what was dequantised; None if nothing is quantised.
        shaped_by: the settings that shapes depend on.
        keyed: give layers structural keys, which determine their order.
        solved: sizes of free dimensions whose default does not fit the graph, with reasons.
        given: inputs that the user gives, by name, as they were read.
        runner: runs ``exact``; None if nothing may be run.
    """

    loaded: LoadedModel
    exact: ir.Model
    model: ir.Model
    single: input_shapes.Signature
    shapes_known: bool
    constants: int
    quantisation: dequantise.Quantisation | None
    shaped_by: tuple[object, ...]
    keyed: bool
    solved: Solved
    given: Mapping[str, Any]
    runner: Runner | None = None

    @classmethod
    def of(
        cls, loaded: LoadedModel, config: ScoreConfig, runs: Runs | None = None, *, keyed: bool = False
    ) -> Network:
        """Normalise and dequantise a loaded model, and infer its shapes.

        Args:
            loaded: the file.
            config: its ``size``, ``sequence``, ``input_shapes`` and ``inputs`` set the free dimensions.
            runs: supplies shapes that inference misses, and computed weights; without it they stay unknown.
            keyed: give layers structural keys; a score needs those of the protocol's graph only.

        Raises:
            SettingsError: an input shape or a given input does not fit.
            LimitError: a constant or the dequantised model does not fit into memory, or the time is over.
            ModelFileError: the graph has a cycle.
        """
        allowed = allowance.current()
        exact = loaded.fresh()
        allowed.check_time()
        constants = normalise(exact)
        allowed.check_time()
        asked, config = config, given_inputs.read_for(exact, config)
        runner = runs.runner(exact) if runs is not None else None
        solved, single, known = _inputs(exact, config, runner)
        if runner is not None:
            complete_shapes(exact, single, lambda _, of: runner.shapes(of))
        allowed.check_time()
        model, quantisation = exact, None
        if not _is_float_form(exact):
            with memory.collector_paused():
                model = exact.clone()
            constants += restore_forms(model)
            allowed.check_time()
            quantisation = dequantise.to_float(model)
            if quantisation is not None or not all_known(model):
                infer_shapes(model, single)
            if runs is not None:
                complete_shapes(model, single, runs.see)
            evaluate = runs.evaluate if runs is not None else None
            constants += computed_weights.separate(model, evaluate, partial(infer_for, model, single))
            forget_inferred(model)
        return cls(
            loaded,
            exact,
            model,
            single,
            known,
            constants,
            quantisation,
            _shaped_by(asked),
            keyed,
            solved,
            config.inputs,
            runner,
        )

    def serves(self, config: ScoreConfig) -> bool:
        """Whether its shapes are valid for these settings."""
        *shapes, inputs = _shaped_by(config)
        *own, asked = self.shaped_by
        return shapes == own and (config.inputs is self.given or inputs == asked)

    @cached_property
    def layers(self) -> LayerMap:
        """Static analysis of ``model``."""
        return analyse(self.model, keys=self.keyed)

    @cached_property
    def coverage(self) -> coverage.Coverage:
        """Share of the weights that the layers account for."""
        return coverage.measure(self.model, self.layers)

    @cached_property
    def reach(self) -> gradient_reach.Reach:
        """Parameters that the gradient of a loss on the outputs can reach."""
        return gradient_reach.trace(self.model.graph, find_heads(self.model))

    @cached_property
    def missing_operators(self) -> Mapping[str, int]:
        """Number of nodes by operator without a handler."""
        return unsupported(self.exact)


def _is_float_form(exact: ir.Model) -> bool:
    """Whether nothing has to be rewritten: of most files nothing has, and a copy costs as much as reading."""
    return (
        not has_forms(exact)
        and all_known(exact)
        and not dequantise.is_quantised(exact)
        and not computed_weights.are_wanted(exact)
    )


def _inputs(
    exact: ir.Model, config: ScoreConfig, runner: Runner | None
) -> tuple[Solved, input_shapes.Signature, bool]:
    """Sizes of free dimensions, the inputs of one sample, and whether shape inference accepts them."""

    def resolve(tried: Mapping[str, int]) -> input_shapes.Signature:
        return given_inputs.resolve(exact, config, batch=1, sizes=tried)

    solved = solve_sizes(exact, given_inputs.sized(exact, config))
    single = resolve(solved.sizes)
    known = are_inferred(exact, single) or infer_shapes(exact, single)
    input_shapes.mark_roles(exact)
    if runner is not None and single.free:
        fitted = runner.fit(solved, resolve)
        if fitted != solved:
            solved = fitted
            known = infer_shapes(exact, resolve(solved.sizes))
    if runner is not None:
        input_shapes.mark_roles(exact, runner.settle(resolve(solved.sizes)))
    return solved, resolve(solved.sizes), known


def _shaped_by(config: ScoreConfig) -> tuple[object, ...]:
    return (
        config.size,
        config.sequence,
        dict(config.input_shapes),
        dict(config.batch_axes),
        dict(config.inputs),
    )
