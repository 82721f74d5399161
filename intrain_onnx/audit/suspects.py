"""Layers that the measurements so far say are dead, before the inputs are varied. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intrain_onnx.report.rows import Document, Layer

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence
    from intrain_onnx.audit.facts import ChannelFacts


@dataclass(frozen=True, slots=True)
class Suspects:
    """Names of layers by what is suspected of them.

    Attributes:
        silent: all channels are zero after the activation function.
        constant: the output does not vary.
        without_gradient: the gradient is zero, with fresh weights too.
    """

    silent: frozenset[str]
    constant: frozenset[str]
    without_gradient: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.silent or self.constant or self.without_gradient)


def suspects(evidence: Evidence) -> Suspects:
    """All layers that the audit would call dead or collapsed."""
    return Suspects(
        frozenset(silent(evidence)),
        frozenset(layer.name for layer in collapsed(evidence)),
        frozenset(layer.name for layer, at_first in without_gradient(evidence) if at_first),
    )


def layers_of(report: Document | None) -> tuple[Layer, ...]:
    """The layers of a report; none without one."""
    return report.layers if report is not None else ()


def channels_of(evidence: Evidence) -> Mapping[str, ChannelFacts]:
    """Channel statistics by layer; none without ranges."""
    return evidence.ranges.channels if evidence.ranges is not None else {}


def silent(evidence: Evidence) -> dict[str, ChannelFacts]:
    """Layers with several rows whose channels are all zero after the activation function."""
    return {n: c for n, c in channels_of(evidence).items() if c.zero == c.channels and c.rows > 1}


def has_one_row(layer: Layer) -> bool:
    """Whether it is a table that cannot vary."""
    return layer.kind == "embedding" and layer.weight_shape[0] == 1


def collapsed(evidence: Evidence) -> list[Layer]:
    """Layers whose output could vary and does not, nor what their activation function makes of it."""
    channels = channels_of(evidence)
    found = [x for x in layers_of(evidence.checkpoint) if x.status == "collapsed" and not has_one_row(x)]
    return [
        x for x in found if x.name not in channels or channels[x.name].constant == channels[x.name].channels
    ]


def without_gradient(evidence: Evidence) -> list[tuple[Layer, bool]]:
    """Layers whose weights get zero gradient although the channels after them are not all zero.

    Each with whether its gradient is zero at initialisation too.
    """
    quiet = {name for name, c in channels_of(evidence).items() if c.zero == c.channels}
    first = {layer.name for layer in layers_of(evidence.architecture) if layer.status == "dead"}
    layers = [x for x in layers_of(evidence.checkpoint) if x.status == "dead" and x.name not in quiet]
    return [(layer, layer.name in first) for layer in layers]
