"""Which layers feed a layer, over nodes that are none: bookkeeping of the static pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir


class Feeders:
    """The layers whose outputs reach each value, as bits of an integer, and those before each layer.

    Where ways meet, each brings only the layers that no other of its own lies behind. So a block has an edge
    from its shortcut, and not from all shortcuts before it, whose number would grow with the square of the
    depth.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._before: list[int] = []
        self._reaching: dict[ir.Value, int] = {}

    def read(self, values: Iterable[ir.Value | None]) -> int:
        """The layers that reach a node which reads these values."""
        masks = {self._reaching.get(v, 0) for v in values if v is not None} - {0}
        if len(masks) == 1:
            return masks.pop()
        met = 0
        for mask in masks:
            met |= self._nearest(mask)
        return met

    def write(self, values: Iterable[ir.Value], mask: int) -> None:
        """Note what reaches the outputs of a node."""
        for value in values:
            self._reaching[value] = mask

    def add(self, name: str, mask: int) -> int:
        """Note a layer that is reached by others; what reaches its outputs is the layer alone."""
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
