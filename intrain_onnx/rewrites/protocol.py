"""The rewrites of each protocol, in their order."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.network import input_shapes
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.rewrites import canonical, computed_weights, normalise
from intrain_onnx.rewrites.split_fused_linear import split_fused


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
    layers: LayerMap
    heads: list[normalise.Head]
    norms: list[normalise.FreeNorm]
    kept: frozenset[str]
    absorbed: list[str]
    split: dict[str, list[str]]


def rewrite_for(model: ir.Model, config: ScoreConfig, see: normalise.See) -> Rewritten:
    """Rewrite a normalised model for a protocol, in place.

    ``see`` runs the model for shapes that inference misses.

    Raises:
        UnsupportedError: see ``normalise.cut_heads``.
    """
    if config.weights == "reinitialise" and computed_weights.are_in(model):
        computed_weights.forget_values(model, analyse(model, keys=False).slots)
    single = input_shapes.resolve(model, config, batch=1)
    normalise.infer_shapes(model, single)
    heads = normalise.cut_heads(model)
    layers = analyse(model, keys=False)
    kept = layers.live
    absorbed: list[str] = []
    norms: list[normalise.FreeNorm] = []
    split: dict[str, list[str]] = {}
    if config.batch_norm == "fold":
        absorbed = normalise.absorb_batch_norm(model, layers)
        absorbed += canonical.absorb_affine_chains(model, analyse(model, keys=False))
    if config.weights == "reinitialise" and config.calibrate:
        layers = analyse(model, keys=False)
        if canonical.tie_heads(model, layers):
            layers = analyse(model, keys=False)
        split = split_fused(model, layers)
    if config.calibrate:
        normalise.own_biases(model, analyse(model, keys=False))
        norms = normalise.own_norms(model)
        normalise.infer_shapes(model, single)
        normalise.complete_shapes(model, single, see)
    if single.fixed_batch is not None:
        normalise.free_batch(model, single.fixed_batch)
    layers = analyse(model)
    return Rewritten(model, layers, heads, norms, kept, absorbed, split)
