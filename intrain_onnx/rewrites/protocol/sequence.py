"""The sequence of rewrites of each protocol, from a normalised network to the one that is probed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.network.given_inputs import resolve
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.rewrites.computed_weights import are_in, forget_values
from intrain_onnx.rewrites.infer_shapes import See, are_inferred, complete_shapes, infer_shapes
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.absorb_batch_norm import absorb_batch_norm
from intrain_onnx.rewrites.protocol.affine_chains import absorb_affine_chains
from intrain_onnx.rewrites.protocol.free_batch import free_batch
from intrain_onnx.rewrites.protocol.loss_heads import cut_at_loss_heads
from intrain_onnx.rewrites.protocol.own_biases import own_biases
from intrain_onnx.rewrites.protocol.own_norms import own_norms
from intrain_onnx.rewrites.protocol.split_fused_linear import split_fused_linear
from intrain_onnx.rewrites.protocol.step import Changes, Draft, FreeNorm, Head, Rewrite
from intrain_onnx.rewrites.protocol.tie_embeddings import tie_embeddings


def _always(draft: Draft) -> bool:
    return True


def _redraws(draft: Draft) -> bool:
    """Whether weights are re-initialised, so that their values do not matter."""
    return draft.config.weights == "reinitialise"


def _folds(draft: Draft) -> bool:
    return draft.config.batch_norm == "fold"


def _calibrates(draft: Draft) -> bool:
    return draft.config.calibrate


def _redraws_and_calibrates(draft: Draft) -> bool:
    return _redraws(draft) and _calibrates(draft)


def _has_fixed_batch(draft: Draft) -> bool:
    single = draft.single
    return single is not None and single.fixed_batch is not None and not single.separate


@dataclass(frozen=True, slots=True)
class Step:
    """A rewrite, and the condition on settings and graph under which it applies."""

    rewrite: Rewrite
    when: Callable[[Draft], bool] = _always

    @property
    def name(self) -> str:
        """The name of the rewrite."""
        return self.rewrite.__name__


def forget_computed_values(draft: Draft) -> Changes:
    """Set computed weights to zero: they are re-initialised, so their values are never computed."""
    return Changes(places=forget_values(draft.model, draft.layers.slots) if are_in(draft.model) else ())


def infer_shapes_again(draft: Draft) -> None:
    """Infer the shapes of new values."""
    if draft.single is not None and are_inferred(draft.model, draft.single):
        return
    before = _types(draft.model) if draft.is_analysed else None
    infer_shapes(draft.model, draft.single)
    if before is not None and _types(draft.model) != before:
        draft.changed()


def _types(model: ir.Model) -> list[object]:
    """Shape and element type of every value that the static analysis may ask for."""
    values = (v for node in every_node(model.graph) for v in node.outputs)
    return [(v.shape and tuple(v.shape.dims), v.dtype) for v in (*model.graph.inputs, *values)]


def complete_shapes_again(draft: Draft) -> None:
    """Take shapes that inference misses from a run, if one may be made."""
    if draft.single is not None and draft.see is not None:
        complete_shapes(draft.model, draft.single, draft.see)
        draft.changed()


STEPS = (
    Step(forget_computed_values, when=_redraws),
    Step(infer_shapes_again),
    Step(cut_at_loss_heads),
    Step(absorb_batch_norm, when=_folds),
    Step(absorb_affine_chains, when=_folds),  # after it: a chain may follow a removed BatchNorm
    Step(tie_embeddings, when=_redraws_and_calibrates),
    Step(split_fused_linear, when=_redraws_and_calibrates),  # after it: a tied weight is no separate weight
    Step(own_biases, when=_calibrates),  # after all that remove or split layers
    Step(own_norms, when=_calibrates),
    Step(infer_shapes_again, when=_calibrates),
    Step(complete_shapes_again, when=_calibrates),
    Step(free_batch, when=_has_fixed_batch),  # last: it reads shapes, and infers none
)
"""Applied in this order."""


@dataclass(frozen=True)
class ProtocolNetwork:
    """A network after a protocol's rewrites.

    Attributes:
        model: the graph, whose outputs the loss reads.
        layers: its static analysis, with keys.
        heads: the values that the loss reads.
        norms: BatchNorm nodes that no layer absorbed, to be calibrated.
        kept: nodes of the network that are live up to the heads, by their first outputs.
        absorbed: BatchNorm nodes, decomposed ones included, that were folded into a layer or replaced.
        split: by name of a fused layer, those that it was split into.
        changes: what each rewrite did, and where it declined, by its name.
        sizes: of free dimensions, as the network has them.
    """

    model: ir.Model
    layers: LayerMap
    heads: tuple[Head, ...]
    norms: tuple[FreeNorm, ...]
    kept: frozenset[str]
    absorbed: tuple[str, ...]
    split: dict[str, tuple[str, ...]]
    changes: dict[str, Changes]
    sizes: Mapping[str, int]


@memory.collector_paused()
def for_protocol(network: Network, config: ScoreConfig, see: See | None = None) -> ProtocolNetwork:
    """Rewrite a copy of a network for a protocol.

    Args:
        network: not changed.
        config: the settings; the network must serve them (``Network.serves``).
        see: runs a model for shapes that inference misses; without it they stay unknown.

    Raises:
        UnsupportedError: no output that a loss can read is left.
    """
    model = network.model.clone()
    single = resolve(model, config, batch=1, sizes=network.solved.sizes)
    draft = Draft(model, config, single, see, None if network.keyed else network.layers)
    changes: dict[str, Changes] = {}
    kept: frozenset[str] = frozenset()
    for step in STEPS:
        if step.when(draft):
            done = step.rewrite(draft)
            if done is not None:
                changes[step.name] = done
                if done.places or done.rewired:
                    draft.changed()
        if step.rewrite is cut_at_loss_heads:
            kept = draft.layers.live
    return ProtocolNetwork(
        model=model,
        layers=analyse(model),
        heads=tuple(head for c in changes.values() for head in c.heads),
        norms=tuple(norm for c in changes.values() for norm in c.norms),
        kept=kept,
        absorbed=tuple(name for c in changes.values() for name in c.absorbed),
        split={name: tuple(parts) for c in changes.values() for name, parts in c.split.items()},
        changes=changes,
        sizes=network.solved.sizes,
    )
