"""What a rewrite of a protocol is given, and what it says that it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.rewrites.infer_shapes import See


@dataclass(frozen=True, slots=True)
class Head:
    """Where the loss attaches.

    Attributes:
        value: name of the value that the loss reads.
        output: the graph output that it stands for.
        through: operators that were cut off between the two.
    """

    value: str
    output: str
    through: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FreeNorm:
    """A BatchNormalization that no layer absorbed: the value that it makes, and its two parameters."""

    output: str
    scale: str
    bias: str


@dataclass(frozen=True, slots=True)
class Declined:
    """A place that a rewrite is meant for, and left as it was.

    Attributes:
        place: the node, layer or value.
        reason: the condition that does not hold there.
    """

    place: str
    reason: str


@dataclass(frozen=True)
class Changes:
    """What one rewrite did to a graph, and where it declined.

    Attributes:
        places: the nodes, layers or values that it rewrote.
        absorbed: nodes of the file that a layer took in, or that were replaced.
        split: new layers by the layer of the file that they stand for.
        heads: where the loss attaches.
        norms: BatchNorm nodes to be calibrated.
        declined: places that it left as they were.
    """

    places: Sequence[str] = ()
    absorbed: Sequence[str] = ()
    split: Mapping[str, Sequence[str]] = field(default_factory=dict)
    heads: Sequence[Head] = ()
    norms: Sequence[FreeNorm] = ()
    declined: Sequence[Declined] = ()


class Draft:
    """A graph that is being rewritten for a protocol, in place.

    Attributes:
        model: the graph, with shapes inferred.
        config: the protocol's settings.
        single: the inputs for one sample; None where no shapes are needed.
        see: runs the model for shapes that inference misses; None where nothing is run.
    """

    def __init__(
        self,
        model: ir.Model,
        config: ScoreConfig | None = None,
        single: Signature | None = None,
        see: See | None = None,
    ) -> None:
        self.model = model
        self.config = config or ScoreConfig.for_protocol()
        self.single = single
        self.see = see
        self._layers: LayerMap | None = None

    @property
    def layers(self) -> LayerMap:
        """The static pass of the graph as it is now, without keys."""
        if self._layers is None:
            self._layers = analyse(self.model, keys=False)
        return self._layers

    def changed(self) -> None:
        """Forget the static pass: a rewrite changed the graph."""
        self._layers = None


Rewrite = Callable[[Draft], Changes | None]
"""Changes a draft in place; None where it only finds shapes."""
