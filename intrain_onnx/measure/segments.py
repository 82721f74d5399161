"""Cuts a graph into segments, of which autograd keeps only what goes from one to the next.

The activations inside of a segment are made again on the way back (see ``runtime.recomputed``), as in
checkpointing (Chen et al. 2016, arXiv 1604.06174), with the cuts where the fewest bytes cross.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from intrain_onnx.network.footprint import kept_of, size_of
from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.subgraphs import bodies

_PARTS: Final = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of segments that are tried: the best is near the square root of the number of layers."""

_EARLY: Final = 0.75
_LATE: Final = 1.25
"""A cut lies where so much of an even part is kept since the one before, at the place with fewest bytes."""

_GAIN: Final = 0.95
"""Of what is kept without cuts: with more there is nothing to gain."""


@dataclass(frozen=True, slots=True)
class Segments:
    """A graph in segments.

    Attributes:
        of: number of the segment that makes a value, by name.
        kept: bytes that autograd keeps at most: what crosses the cuts, and one segment. Per sample.
    """

    of: Mapping[str, int]
    kept: int

    @property
    def last(self) -> int:
        """Number of the last, whose activations are kept: the backward pass begins there."""
        return max(self.of.values())


@dataclass(frozen=True, slots=True)
class Way:
    """What a run does without, to take less memory.

    Attributes:
        stream: weights are not held (see ``runtime.streamed``).
        segments: whose activations are not kept; None to keep all.
    """

    stream: bool = False
    segments: Segments | None = None


PLAIN: Final = Way()
"""All is kept."""


def segments(model: ir.Model, samples: int = 1) -> Segments | None:
    """The cuts with the least memory among those that are tried; None where cuts do not lower it.

    Args:
        model: a normalised model, with shapes inferred.
        samples: that its shapes are for.
    """
    line = _Line(model.graph)
    whole = sum(line.kept)
    ends, kept = min((line.cut(whole / parts) for parts in _PARTS), key=lambda found: found[1])
    if not ends or kept > _GAIN * whole:
        return None
    numbers: dict[str, int] = {}
    for place, node in enumerate(model.graph):
        number = sum(end < place for end in ends)
        numbers |= {value.name: number for value in node.outputs if value.name}
    return Segments(numbers, kept // samples)


class _Line:
    """The nodes of a graph in order, with what autograd keeps of each and what is alive after it."""

    def __init__(self, graph: ir.Graph) -> None:
        data = data_dependent(graph)
        self.nodes = list(graph)
        self.kept = [kept_of(node, data) for node in self.nodes]
        last = {value: place for place, node in enumerate(self.nodes) for value in _read(node)}
        last |= {value: len(self.nodes) for value in graph.outputs}
        self.born = [
            {v: size_of(v) for v in node.outputs if v in data and last.get(v, -1) > place}
            for place, node in enumerate(self.nodes)
        ]
        self.dead: list[list[ir.Value]] = [[] for _ in self.nodes]
        for value in (v for born in self.born for v in born):
            if last[value] < len(self.nodes):
                self.dead[last[value]].append(value)

    def cut(self, target: float) -> tuple[list[int], int]:
        """Places of the nodes that end segments of about so many bytes, and what is kept at most."""
        ends: list[int] = []
        stored: dict[ir.Value, int] = {}
        alive: dict[ir.Value, int] = {}
        best: tuple[int, int, int, dict[ir.Value, int]] | None = None
        most = since = 0
        for place, kept in enumerate(self.kept):
            since += kept
            alive |= self.born[place]
            for value in self.dead[place]:
                del alive[value]
            crossing = sum(alive.values())
            if since >= _EARLY * target and (best is None or crossing <= best[0]):
                best = crossing, place, since, dict(alive)
            if best is not None and since >= _LATE * target:
                most = max(most, sum(stored.values()) + best[2])
                ends.append(best[1])
                stored |= best[3]
                since -= best[2]
                best = None
        return ends, max(most, sum(stored.values()) + since)


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, and its bodies."""
    yield from (value for value in node.inputs if value is not None)
    for _, body in bodies(node):
        yield from body.outputs
        for inner in body:
            yield from _read(inner)
