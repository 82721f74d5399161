"""From a loaded file to a module that is ready to be probed: the steps that every measurement shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from intrain_onnx import (
    canonical,
    computed,
    convert,
    fused,
    graph,
    initialise,
    inputs,
    memory,
    points,
    rewrite,
    signature,
    written_out,
)
from intrain_onnx.arrays import to_numpy
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.float_form import Quantisation
from intrain_onnx.interpreter import run
from intrain_onnx.load import LoadedModel
from intrain_onnx.ops.limits import element_limit


def floating(loaded: LoadedModel, config: ScoreConfig, device: torch.device) -> ir.Model:
    """A loaded model as protocols take it: normalised, in its float form, with the shapes of one sample.

    Raises:
        IntrainError: one of its kinds.
    """
    model = loaded.fresh()
    rewrite.normalise(model)
    single = signature.resolve(model, config, batch=1)
    rewrite.infer_shapes(model, single)
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


def use_float_form(model: ir.Model, single: signature.Signature, device: torch.device) -> Floating:
    """Bring a normalised model to its float form with initializers for parameters, in place."""
    restored = written_out.restore(model)
    quantisation = rewrite.use_float_form(model, single)
    _complete_shapes(model, single, device)
    made = restored + computed.separate(model, evaluate, partial(rewrite.infer_for, model, single))
    return Floating(quantisation, made)


def _complete_shapes(model: ir.Model, single: signature.Signature, device: torch.device) -> None:
    """Take the shapes that inference missed from a run."""
    if rewrite.lacks_shapes(model):
        rewrite.remember_shapes(model, seen_shapes(model, single, device))


def evaluate(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    """The outputs of a model without inputs.

    Raises:
        UnsupportedError, LimitError: a node cannot be run, or makes too much; names it.
    """
    with torch.no_grad(), element_limit(memory.elements_of_one_tensor()):
        return [to_numpy(part) for (part,) in run(convert.convert(model), [])]


@dataclass
class Rewritten:
    """A graph in the form that a protocol probes.

    Attributes:
        model: the graph; its outputs are those that the loss reads.
        layers: the static pass of it.
        heads: where the loss attaches.
        norms: BatchNorm nodes that no layer absorbed.
        kept: nodes of the file that are live up to the heads, by their first outputs.
        absorbed: BatchNorm nodes, written out ones included, that a layer took in or that were replaced.
        split: layers that stand for one of the file, by its name.
    """

    model: ir.Model
    layers: graph.LayerMap
    heads: list[rewrite.Head]
    norms: list[rewrite.FreeNorm]
    kept: frozenset[str]
    absorbed: list[str]
    split: dict[str, list[str]]


@dataclass
class Prepared:
    """A rewritten graph, the values between its layers to be measured, and the module made from it."""

    rewritten: Rewritten
    module: fx.GraphModule
    points: tuple[points.Point, ...]

    @property
    def layers(self) -> graph.LayerMap:
        """The static pass of the graph that the module was made from."""
        return self.rewritten.layers

    @property
    def heads(self) -> list[rewrite.Head]:
        """Where the loss attaches."""
        return self.rewritten.heads

    @property
    def norms(self) -> list[rewrite.FreeNorm]:
        """BatchNorm nodes to be calibrated."""
        return self.rewritten.norms


def rewrite_for(model: ir.Model, config: ScoreConfig) -> Rewritten:
    """Rewrite a normalised model for a protocol, in place.

    Raises:
        UnsupportedError: see ``rewrite.cut_heads``.
    """
    if config.weights == "reinitialise" and computed.are_in(model):
        computed.forget_values(model, graph.analyse(model, keys=False).slots)
    single = signature.resolve(model, config, batch=1)
    rewrite.infer_shapes(model, single)
    heads = rewrite.cut_heads(model)
    layers = graph.analyse(model, keys=False)
    kept = layers.live
    absorbed: list[str] = []
    norms: list[rewrite.FreeNorm] = []
    split: dict[str, list[str]] = {}
    if config.batch_norm == "fold":
        absorbed = rewrite.absorb_batch_norm(model, layers)
        absorbed += canonical.absorb_affine_chains(model, graph.analyse(model, keys=False))
    if config.weights == "reinitialise" and config.calibrate:
        layers = graph.analyse(model, keys=False)
        if canonical.tie_heads(model, layers):
            layers = graph.analyse(model, keys=False)
        split = fused.split_fused(model, layers)
    if config.calibrate:
        rewrite.own_biases(model, graph.analyse(model, keys=False))
        norms = rewrite.own_norms(model)
        rewrite.infer_shapes(model, single)
        _complete_shapes(model, single, torch.device("cpu"))
    if single.fixed_batch is not None:
        rewrite.free_batch(model, single.fixed_batch)
    layers = graph.analyse(model)
    return Rewritten(model, layers, heads, norms, kept, absorbed, split)


def prepare(model: ir.Model, config: ScoreConfig) -> Prepared:
    """Rewrite a normalised model for a protocol, in place, and convert it.

    Raises:
        MissingOpsError, UnsupportedError: see ``convert`` and ``rewrite.cut_heads``.
    """
    rewritten = rewrite_for(model, config)
    module = convert.convert(model, rewritten.layers.slots)
    if config.batch_norm == "training":
        initialise.use_batch_statistics(module)
    found = points.find(rewritten.model, rewritten.layers)
    return Prepared(rewritten, module, tuple(p for p in found if p.cut or config.points == "all"))


def seen_shapes(
    model: ir.Model, single: signature.Signature, device: torch.device
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
