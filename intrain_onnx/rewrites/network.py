"""A graph in normal form: what every analysis, protocol and check begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import onnx_ir as ir

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import LoadedModel
from intrain_onnx.network import coverage, given_inputs, gradient_reach, input_shapes
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.opset.support import unsupported
from intrain_onnx.rewrites import computed_weights, dequantise, written_out
from intrain_onnx.rewrites.infer_shapes import See, complete_shapes, infer_for, infer_shapes
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.rewrites.protocol.loss_heads import find_heads


@dataclass(frozen=True, slots=True)
class Runs:
    """What is found by running a graph, or a part of it.

    Attributes:
        see: shapes of all values in a run of one sample.
        evaluate: the outputs of a model without inputs: weights that a graph computes.
    """

    see: See
    evaluate: computed_weights.Evaluate


@dataclass(frozen=True)
class Network:
    """The graph of a file in normal form, made once; nothing changes it afterwards.

    Attributes:
        loaded: the file.
        exact: what the file computes, quantised where it is, in normal form (see ``normalise``).
        model: the same with floats for quantised values and initializers for all parameters: what is scored.
        single: the inputs of one sample.
        shapes_known: False where onnx's inference refuses the model.
        constants: nodes of the file that only made constants or parameters.
        quantisation: what was dequantised; None where nothing is quantised.
        shaped_by: the settings that shapes follow from.
        keyed: layers are to have their structural keys, which order them.
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

    @classmethod
    def of(
        cls, loaded: LoadedModel, config: ScoreConfig, runs: Runs | None = None, *, keyed: bool = False
    ) -> Network:
        """Bring a loaded model to normal form, with shapes inferred.

        Args:
            loaded: the file.
            config: its ``size``, ``sequence``, ``input_shapes`` and ``inputs`` give free dimensions their
                sizes.
            runs: finds what inference misses; without it, shapes and values stay unknown there.
            keyed: give layers their structural keys; a score needs those of the protocol's graph alone.

        Raises:
            SettingsError: an input shape, or what is given for an input, that does not fit.
            LimitError: a constant, or the floats of a quantised model, do not fit into memory.
            ModelFileError: the graph has a cycle.
        """
        if runs is not None:
            memory.require_for_weights(loaded.tensor_bytes)
        exact = loaded.fresh()
        constants = normalise(exact)
        config = given_inputs.read_for(exact, config)
        single = given_inputs.resolve(exact, config, batch=1)
        known = infer_shapes(exact, single)
        model = exact.clone()
        constants += written_out.restore(model)
        quantisation = dequantise.to_float(model)
        if quantisation is not None:
            infer_shapes(model, single)
        if runs is not None:
            complete_shapes(model, single, runs.see)
        evaluate = runs.evaluate if runs is not None else None
        constants += computed_weights.separate(model, evaluate, partial(infer_for, model, single))
        return cls(loaded, exact, model, single, known, constants, quantisation, _shaped_by(config), keyed)

    def serves(self, config: ScoreConfig) -> bool:
        """Whether its shapes are those that a score with these settings has."""
        return self.shaped_by == _shaped_by(config)

    @cached_property
    def layers(self) -> LayerMap:
        """The static pass."""
        return analyse(self.model, keys=self.keyed)

    @cached_property
    def coverage(self) -> coverage.Coverage:
        """How much of the weights the layers are."""
        return coverage.measure(self.model, self.layers)

    @cached_property
    def reach(self) -> gradient_reach.Reach:
        """Which parameters a loss on the outputs can reach."""
        return gradient_reach.trace(self.model.graph, find_heads(self.model))

    @cached_property
    def missing_operators(self) -> Mapping[str, int]:
        """Operators without a handler, with the number of nodes of each."""
        return unsupported(self.exact)


def _shaped_by(config: ScoreConfig) -> tuple[object, ...]:
    return config.size, config.sequence, dict(config.input_shapes), dict(config.inputs)
