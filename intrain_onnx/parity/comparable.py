"""Data-flow analysis of outputs that two correct runs need not agree on: random, or of data-dependent length.

One pass over the graph and its subgraphs records for each value what it depends on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce

import onnx_ir as ir

from intrain_onnx.errors import printable
from intrain_onnx.network.subgraphs import bodies
from intrain_onnx.network.values import name_of
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.operands import SIZES
from intrain_onnx.opset.traits import has, is_op, kind

_COUNTING = ("Compress", "NonMaxSuppression", "NonZero", "Unique")
"""Operators whose output length depends on the values of their input."""


@dataclass(frozen=True, slots=True)
class _Reached:
    """What a value depends on.

    Attributes:
        data: values of an input, or random numbers.
        shapes: sizes of tensors.
        random: the first random node.
        length: the first node whose output length depends on data.
    """

    data: bool = False
    shapes: bool = False
    random: ir.Node | None = None
    length: ir.Node | None = None

    def __or__(self, other: _Reached) -> _Reached:
        return _Reached(
            self.data or other.data,
            self.shapes or other.shapes,
            self.random or other.random,
            self.length or other.length,
        )


_NOTHING = _Reached()


@dataclass
class Comparable:
    """Dependencies of all values of a graph.

    Args:
        model: in normal form.

    Attributes:
        shape_arithmetic: names of values computed from sizes only.
        to_sizes: names of values that a size, an index bound or a trip count depends on.
    """

    model: ir.Model
    shape_arithmetic: set[str] = field(default_factory=set)
    to_sizes: set[str] = field(default_factory=set)
    _reached: dict[ir.Value, _Reached] = field(default_factory=dict)
    _sources: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        given = (v for v in graph.inputs if not v.is_initializer())
        self._reached.update((v, _Reached(data=True)) for v in given)
        sizes: list[ir.Value] = []
        self._walk(graph, sizes)
        self.shape_arithmetic = {
            v.name for v, r in self._reached.items() if v.name and r.shapes and not r.data
        }
        self.to_sizes = {v.name for v in self._before(sizes) if v.name}

    def why_not(self, name: str, other_shape: bool) -> str | None:
        """Why an output may differ, in shape or values, between two correct runs; None if it may not."""
        value = next(v for v in self.model.graph.outputs if (v.name or "") == name)
        reached = self._reached.get(value, _NOTHING)
        if other_shape and reached.length is not None:
            return f"not comparable: lengths depend on the data ({_place(reached.length)})"
        if reached.random is not None and (not other_shape or reached.length is not None):
            return f"not comparable: random nodes ({_place(reached.random)})"
        return None

    def _walk(self, graph: ir.Graph, sizes: list[ir.Value]) -> None:
        for node in graph:
            reached = self._of(node, sizes)
            self._reached.update(dict.fromkeys(node.outputs, reached))
            sources = [
                v for v in (*node.inputs, *(v for _, b in bodies(node) for v in b.outputs)) if v is not None
            ]
            self._sources.update(dict.fromkeys(node.outputs, sources))

    def _of(self, node: ir.Node, sizes: list[ir.Value]) -> _Reached:
        given = [self._reached.get(v, _NOTHING) if v is not None else _NOTHING for v in node.inputs]
        united = _union(given)
        if has(node, Property.SHAPE_ONLY):  # a data-dependent length makes its size data, too
            united = replace(united if united.length is not None else _NOTHING, shapes=True)
        for _, body in bodies(node):
            united |= self._body(node, body, united, sizes)
        if kind(node) is Kind.RANDOM:
            united = replace(united, data=True, random=united.random or node)
        deciding = SIZES.get(node.op_type, ()) if not node.domain else ()
        operands = [v for i, v in enumerate(node.inputs) if i in deciding and v is not None]
        sizes += operands
        counts = is_op(node, *_COUNTING) and united.data
        if counts or any(self._reached.get(v, _NOTHING).data for v in operands):
            united = replace(united, length=united.length or node)
        return united

    def _body(self, node: ir.Node, body: ir.Graph, given: _Reached, sizes: list[ir.Value]) -> _Reached:
        """Dependencies of a subgraph's outputs; two passes, since an iteration reads the previous one's."""
        for _ in range(2):
            self._reached.update(dict.fromkeys(body.inputs, given))
            self._walk(body, sizes)
            found = _union(self._reached.get(v, _NOTHING) for v in body.outputs)
            given |= found
        ends_on_data = is_op(node, "Loop") and self._reached.get(body.outputs[0], _NOTHING).data
        sources = [v for v in (*node.inputs, *body.outputs) if v is not None]
        self._sources.update(dict.fromkeys(body.inputs, sources))
        if is_op(node, "Loop"):
            sizes.append(body.outputs[0])
        return replace(found, length=found.length or node) if ends_on_data else found

    def _before(self, values: list[ir.Value]) -> set[ir.Value]:
        found: set[ir.Value] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            if value not in found:
                found.add(value)
                stack += self._sources.get(value, ())
        return found


def _union(reached: Iterable[_Reached]) -> _Reached:
    return reduce(_Reached.__or__, reached, _NOTHING)


def _place(node: ir.Node) -> str:
    return printable(f"{node.op_type} node {name_of(node)!r}")
