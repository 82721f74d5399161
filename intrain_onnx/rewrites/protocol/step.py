"""Types of a protocol's rewrite: its argument, a draft of the graph, and its result, a record of changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.rewrites.infer_shapes import See, forget_inferred


@dataclass(frozen=True, slots=True)
class Head:
    """A value that the loss reads.

    Attributes:
        value: its name.
        output: the graph output that is computed from it.
        through: operators between the two, which are removed.
    """

    value: str
    output: str
    through: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FreeNorm:
    """A BatchNormalization that no layer absorbed: names of its output and its two parameters."""

    output: str
    scale: str
    bias: str


@dataclass(frozen=True, slots=True)
class Declined:
    """A place that matches a rewrite, but was left unchanged.

    Attributes:
        place: the node, layer or value.
        reason: the condition that is not met there.
    """

    place: str
    reason: str


@dataclass(frozen=True)
class Changes:
    """What one rewrite did to a graph, and where it declined.

    Attributes:
        places: the nodes, layers or values that it rewrote.
        absorbed: nodes of the file that were folded into a layer, or replaced.
        split: by layer of the file, the new layers that replace it.
        heads: the values that the loss reads.
        norms: BatchNorm nodes to be calibrated.
        declined: matching places that it left unchanged.
        rewired: other nodes or outputs are left, although no place is named.
    """

    places: Sequence[str] = ()
    absorbed: Sequence[str] = ()
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)
    heads: Sequence[Head] = ()
    norms: Sequence[FreeNorm] = ()
    declined: Sequence[Declined] = ()
    rewired: bool = False


class Draft:
    """A graph that is being rewritten for a protocol, in place.

    Attributes:
        model: the graph, with shapes inferred.
        config: the protocol's settings.
        single: shapes of the inputs for one sample; None if no shapes are needed.
        see: runs the model for shapes that inference misses; None if nothing may be run.
        known: the static analysis of the graph, without keys, if there is one.
    """

    def __init__(
        self,
        model: ir.Model,
        config: ScoreConfig | None = None,
        single: Signature | None = None,
        see: See | None = None,
        known: LayerMap | None = None,
    ) -> None:
        self.model = model
        self.config = config or ScoreConfig.for_protocol()
        self.single = single
        self.see = see
        self._layers = known

    @property
    def layers(self) -> LayerMap:
        """Static analysis of the current graph, without keys."""
        if self._layers is None:
            self._layers = analyse(self.model, keys=False)
        return self._layers

    @property
    def is_analysed(self) -> bool:
        """Whether there is a static analysis that a change would invalidate."""
        return self._layers is not None

    def changed(self) -> None:
        """Invalidate the static analysis and the shapes: a rewrite changed the graph."""
        self._layers = None
        forget_inferred(self.model)


Rewrite = Callable[[Draft], Changes | None]
"""Changes a draft in place; returns None if it only infers shapes."""
