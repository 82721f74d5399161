"""From a loaded file to a module that is ready to be probed: the steps that every measurement shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.loading.load import LoadedModel
from intrain_onnx.measure import initialise, inputs
from intrain_onnx.network import input_shapes, measuring_points
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.rewrites import computed_weights, normalise, written_out
from intrain_onnx.rewrites.dequantise import Quantisation
from intrain_onnx.rewrites.protocol import Rewritten, rewrite_for
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.arrays import to_numpy
from intrain_onnx.runtime.interpreter import run

_CPU = torch.device("cpu")


def floating(loaded: LoadedModel, config: ScoreConfig, device: torch.device) -> ir.Model:
    """A loaded model as protocols take it: normalised, in its float form, with the shapes of one sample.

    Raises:
        IntrainError: one of its kinds.
    """
    model = loaded.fresh()
    normalise.normalise(model)
    single = input_shapes.resolve(model, config, batch=1)
    normalise.infer_shapes(model, single)
    use_float_form(model, single, device)
    return model


@dataclass(frozen=True, slots=True)
class Floating:
    """What gave a model its float form.

    Attributes:
        quantisation: what was dequantised; None where nothing is quantised.
        made: nodes that only computed parameters, which are initializers now.
    """

    quantisation: Quantisation | None
    made: int


def use_float_form(model: ir.Model, single: input_shapes.Signature, device: torch.device) -> Floating:
    """Bring a normalised model to its float form with initializers for parameters, in place."""
    restored = written_out.restore(model)
    quantisation = normalise.use_float_form(model, single)
    normalise.complete_shapes(model, single, partial(seen_shapes, device=device))
    made = restored + computed_weights.separate(model, evaluate, partial(normalise.infer_for, model, single))
    return Floating(quantisation, made)


def evaluate(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    """The outputs of a model without inputs.

    Raises:
        UnsupportedError, LimitError: a node cannot be run, or makes too much; names it.
    """
    with torch.no_grad(), element_limit(memory.elements_of_one_tensor()):
        return [to_numpy(part) for (part,) in run(convert.convert(model), [])]


@dataclass
class Prepared:
    """A rewritten graph, the values between its layers to be measured, and the module made from it."""

    rewritten: Rewritten
    module: fx.GraphModule
    points: tuple[measuring_points.Point, ...]

    @property
    def layers(self) -> LayerMap:
        """The static pass of the graph that the module was made from."""
        return self.rewritten.layers

    @property
    def heads(self) -> list[normalise.Head]:
        """Where the loss attaches."""
        return self.rewritten.heads

    @property
    def norms(self) -> list[normalise.FreeNorm]:
        """BatchNorm nodes to be calibrated."""
        return self.rewritten.norms


def prepare(model: ir.Model, config: ScoreConfig) -> Prepared:
    """Rewrite a normalised model for a protocol, in place, and convert it.

    Raises:
        MissingOpsError, UnsupportedError: see ``convert`` and ``normalise.cut_heads``.
    """
    rewritten = rewrite_for(model, config, seen_shapes)
    module = convert.convert(model, rewritten.layers.slots)
    if config.batch_norm == "training":
        initialise.use_batch_statistics(module)
    found = measuring_points.find(rewritten.model, rewritten.layers)
    return Prepared(rewritten, module, tuple(p for p in found if p.cut or config.points == "all"))


def seen_shapes(
    model: ir.Model, single: input_shapes.Signature, device: torch.device = _CPU
) -> dict[str, tuple[int, ...]]:
    """Shapes of all values in a run of one sample; none where the whole graph cannot be run."""
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        module = convert.convert(model).to(device)
        names = [n for node in module.graph.nodes for n in node.meta.get("onnx_outputs", ()) if n]
        drawn = inputs.draw(single, torch.Generator().manual_seed(0), device)
        with torch.no_grad():
            run(module, drawn, {name: partial(_note_shape, shapes, name) for name in names})
    except UnsupportedError:
        return {}
    return shapes


def _note_shape(shapes: dict[str, tuple[int, ...]], name: str, parts: list[Tensor]) -> None:
    shapes[name] = tuple(parts[0].shape)
