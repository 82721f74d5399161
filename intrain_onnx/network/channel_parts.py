"""Partition of a layer's output channels by use, found by propagating channel indices through the graph."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.known_values import Constants
from intrain_onnx.network.values import permutation, source, static_shape
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, is_view, kind

SELECTING = ("Split", "Gather", "Slice")
"""Operators that take a part of the channels: without one, no layer's channels are used apart."""

_MAX_ELEMENTS = 2**24
Indices = np.ndarray[Any, np.dtype[np.int64]]
Parts = dict[tuple[int, ...], list[ir.Value]]


@dataclass
class Tracer:
    """Propagates arrays of channel indices through views, selections and elementwise operators.

    Attributes:
        places: position of each node in a topological order.
        known: constants of the graph, read for the bounds of slices.
        held: channel index of each element of a value.
    """

    places: dict[ir.Node, int]
    known: Constants
    held: dict[ir.Value, Indices] = field(default_factory=dict)

    def parts(self, out: ir.Value, axis: int, channels: int) -> Parts | None:
        """Partition of a value's channels into disjoint sets that are used apart, with the values of each.

        Args:
            out: the output of a layer, in the main graph, with a known shape of at most 2**24 elements.
            axis: its channel axis.
            channels: the number of channels.

        Returns:
            None if the channels are used together, or an operator mixes them before they are split.
        """
        shape = static_shape(out)
        if not shape or shape[axis] != channels or math.prod(shape) > _MAX_ELEMENTS or out.is_graph_output():
            return None
        numbers = np.arange(channels).reshape(
            [channels if i == axis % len(shape) else 1 for i in range(len(shape))]
        )
        self.held = {out: np.broadcast_to(numbers, shape)}
        found = self._follow(out, channels)
        for part in list(found or ()):
            self._refine(found or {}, part)
        covered = sorted(c for part in found or () for c in part)
        return found if found and len(found) > 1 and covered == list(range(channels)) else None

    def _follow(self, out: ir.Value, channels: int) -> Parts | None:
        found: Parts = {}
        waiting: list[int] = []
        nodes: dict[int, ir.Node] = {}
        if not self._queue(out, waiting, nodes):
            return None
        while waiting:
            node = nodes[heapq.heappop(waiting)]
            made = self._select(node)
            if made is None:
                return None
            for value, indices in zip(node.outputs, made, strict=True):
                if value.is_graph_output():
                    return None
                held = np.unique(indices)
                if len(held) < channels:
                    self.held[value] = indices
                    found.setdefault(tuple(held.tolist()), []).append(value)
                elif value.uses():
                    self.held[value] = indices
                    if not self._queue(value, waiting, nodes):
                        return None
        return found

    def _refine(self, found: Parts, part: tuple[int, ...]) -> None:
        """Split a part further, recursively: one of several fused linear maps may be fused itself."""
        values = found[part]
        finer = self._follow(values[0], len(part)) if len(values) == 1 and len(part) > 1 else None
        if finer and len(finer) > 1 and sorted(c for piece in finer for c in piece) == list(part):
            del found[part]
            found.update(finer)
            for piece in finer:
                self._refine(found, piece)

    def _queue(self, value: ir.Value, waiting: list[int], nodes: dict[int, ir.Node]) -> bool:
        """Queue the nodes that read a value; False if one of them is in a subgraph."""
        for node in dict.fromkeys(use.node for use in value.uses()):
            if has(node, Property.SHAPE_ONLY):
                continue
            place = self.places.get(node)
            if place is None:
                return False
            if place not in nodes:
                nodes[place] = node
                heapq.heappush(waiting, place)
        return True

    def _select(self, node: ir.Node) -> list[Indices] | None:
        """The index arrays of a node's outputs; None unless it is a view, a selection or elementwise."""
        if kind(node) in (Kind.ACTIVATION, Kind.ELEMENTWISE):
            return self._elementwise(node)
        indices = self.held.get(node.inputs[0]) if node.inputs[0] is not None else None
        if indices is None or any(v in self.held for v in node.inputs[1:]):
            return None
        shapes = [static_shape(v) for v in node.outputs]
        if is_op(node, "Transpose"):
            perm = permutation(node, indices.ndim)
            return None if perm is None else [indices.transpose(perm)]
        if is_view(node):
            shape = shapes[0]
            return (
                [indices.reshape(shape)] if shape is not None and math.prod(shape) == indices.size else None
            )
        if is_op(node, "Split"):
            axis = node.attributes.get_int("axis", 0)
            sizes = [s[axis] for s in shapes if s is not None]
            if len(sizes) != len(shapes) or sum(sizes) != indices.shape[axis]:
                return None
            return list(np.split(indices, np.cumsum(sizes)[:-1], axis))
        if is_op(node, "Gather"):
            (chosen,) = self._whole_numbers(node.inputs[1:2])
            return None if chosen is None else [np.take(indices, chosen, node.attributes.get_int("axis", 0))]
        return self._slice(node, indices) if is_op(node, "Slice") else None

    def _elementwise(self, node: ir.Node) -> list[Indices] | None:
        """Index arrays after an elementwise operator, if all operands but constants have equal ones."""
        if any(has(node, p) for p in (Property.NO_GRADIENT, Property.MOVES_AXES)):
            return None
        operands = [self.held.get(v) for v in node.inputs if v is not None and source(v) is None]
        first = operands[0] if operands else None
        if (
            first is None
            or static_shape(node.outputs[0]) != first.shape
            or any(v.uses() for v in node.outputs[1:])
        ):
            return None
        same = all(o is not None and np.array_equal(o, first) for o in operands)
        return [first] * len(node.outputs) if same else None

    def _whole_numbers(self, values: Sequence[ir.Value | None]) -> list[Indices | None]:
        """Integer arrays that are constant, or computed from constants and shapes; None for others."""
        found = [None if v is None else self.known.of(v) for v in values]
        return [None if f is None or f.array.dtype.kind not in "iu" else f.array for f in found]

    def _slice(self, node: ir.Node, indices: Indices) -> list[Indices] | None:
        arrays = self._whole_numbers(node.inputs[1:])
        if len(arrays) < 2 or any(a is None for a in arrays):
            return None
        starts, ends = (a.tolist() for a in arrays[:2] if a is not None)
        axes = arrays[2].tolist() if len(arrays) > 2 and arrays[2] is not None else list(range(len(starts)))
        steps = arrays[3].tolist() if len(arrays) > 3 and arrays[3] is not None else [1] * len(starts)
        picked: list[slice] = [slice(None)] * indices.ndim
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if step < 1:
                return None
            picked[axis] = slice(start, end, step)
        return [indices[tuple(picked)]]
