"""Edges of the graph of layers: reaching-layers data flow with bit sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir


class Feeders:
    """The layers whose outputs reach each value, and the ancestors of each layer, as bits of an integer.

    At a join, each branch keeps only its nearest layers: those that are no ancestor of another one of the
    branch (a transitive reduction within the branch). So a block has an edge from its own shortcut, but not
    from all earlier ones, whose number would grow with the square of the depth.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._before: list[int] = []
        self._reaching: dict[ir.Value, int] = {}

    def read(self, values: Iterable[ir.Value | None]) -> int:
        """Bit set of the layers that reach a node which reads these values."""
        masks = {self._reaching.get(v, 0) for v in values if v is not None} - {0}
        if len(masks) == 1:
            return masks.pop()
        met = 0
        for mask in masks:
            met |= self._nearest(mask)
        return met

    def write(self, values: Iterable[ir.Value], mask: int) -> None:
        """Set the layers that reach the outputs of a node."""
        for value in values:
            self._reaching[value] = mask

    def add(self, name: str, mask: int) -> int:
        """Add a layer that those in ``mask`` reach; returns its own bit, the mask of its outputs."""
        before = mask
        for index in _bits(mask):
            before |= self._before[index]
        self._names.append(name)
        self._before.append(before)
        return 1 << len(self._names) - 1

    def names(self, mask: int) -> tuple[str, ...]:
        """Names of layers, in the order in which they were added."""
        return tuple(self._names[index] for index in _bits(mask))

    def _nearest(self, mask: int) -> int:
        for index in _bits(mask):
            mask &= ~self._before[index]
        return mask


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
