"""Gradient reach: the share of the parameters that the loss has a gradient for, and the nodes that stop it.

Found by backward reachability over operators and element types; a measured status overrides it (`summary`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from intrain_onnx.network.layers import Slot
from intrain_onnx.network.values import name_of
from intrain_onnx.opset.kinds import Property
from intrain_onnx.opset.traits import has, is_op, traits


@dataclass(frozen=True, slots=True)
class Stop:
    """A node that passes no gradient back; both fields are None if no such node is known."""

    node: str | None
    op: str | None


UNKNOWN = Stop(None, None)

_LEFT_TO_THE_GRAPH = ("zero_gradient", "replaced")
"""Statuses that do not decide: torch gives Round a gradient of zeros, and so does a ReLU that is never on."""


@dataclass
class Reach:
    """Static gradient reach of the float initializers, by name.

    Attributes:
        elements: number of elements.
        stops: if the gradient is stopped on every path, the stop nearest to the initializer (`UNKNOWN` if
            the loss does not depend on it); None if it can pass.
        inside: the control-flow node in whose subgraph it is read.
    """

    elements: dict[str, int] = field(default_factory=dict)
    stops: dict[str, Stop | None] = field(default_factory=dict)
    inside: dict[str, Stop] = field(default_factory=dict)


_Mark = tuple[bool, int, Stop | None]
"""(stopped, distance in nodes from the stop or the loss, stop); the least pair of the first two counts."""

_OPEN: _Mark = (False, 0, None)


def is_integer(value: ir.Value) -> bool:
    """Whether a value is known to hold no floats."""
    return value.dtype is not None and not value.dtype.is_floating_point()


def blocks_gradient(node: ir.Node, value: ir.Value) -> bool:
    """Whether an operator passes no gradient back from this output, for all element types."""
    row = traits(node)
    return row.has(Property.NO_GRADIENT) or value.index() in row.no_gradient_outputs


def to_integer(node: ir.Node) -> bool:
    """Whether a node casts to a type without gradients."""
    return is_op(node, "Cast") and not ir.DataType(node.attributes["to"].as_int()).is_floating_point()


def carries_gradient(node: ir.Node, value: ir.Value) -> bool:
    """Whether an operator passes a gradient back from this output."""
    return not (
        has(node, Property.ON_INTEGERS)
        or has(node, Property.SHAPE_ONLY)
        or blocks_gradient(node, value)
        or to_integer(node)
        or is_integer(value)
    )


def trace(graph: ir.Graph, heads: Collection[ir.Value]) -> Reach:
    """Propagate the gradient in reverse topological order, from ``heads``, which the loss reads.

    Over-approximates in subgraphs: each output of a body is taken to reach all outputs of its node.

    Requires: nodes in topological order, initializers of subgraphs in the main graph. Cost: linear.
    """
    marks: dict[ir.Value, _Mark] = dict.fromkeys(heads, _OPEN)
    found = Reach()
    _walk(graph, marks, found, None)
    for name, value in graph.initializers.items():
        if value.const_value is not None and value.const_value.dtype.is_floating_point():
            found.elements[name] = int(value.const_value.size)
            found.stops[name] = marks[value][2] if value in marks else UNKNOWN
    return found


def _walk(graph: ir.Graph, marks: dict[ir.Value, _Mark], found: Reach, holder: ir.Node | None) -> None:
    for node in reversed(graph):
        mark = _behind(node, marks)
        for inner in _subgraphs(node):
            if mark is not None:
                for value in inner.outputs:
                    _relax(marks, value, mark)
            _walk(inner, marks, found, holder or node)
        for read in node.inputs:
            if read is None:
                continue
            if mark is not None:
                _relax(marks, read, (mark[0], mark[1] + 1, mark[2]))
            if holder is not None and read.name and read.is_initializer():
                found.inside.setdefault(read.name, Stop(name_of(holder), holder.op_type))


def _behind(node: ir.Node, marks: Mapping[ir.Value, _Mark]) -> _Mark | None:
    """The least mark over the outputs of a node; None if none of them is used."""
    carried = [marks[v] for v in node.outputs if v in marks and carries_gradient(node, v)]
    ended = [v for v in node.outputs if not carries_gradient(node, v)]
    used = any(v in marks or v.uses() or v.is_graph_output() for v in ended)
    stopped = [(True, 0, Stop(name_of(node), node.op_type))] if used else []
    return min((*carried, *stopped), key=lambda mark: mark[:2], default=None)


def _subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    return (a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH)


def _relax(marks: dict[ir.Value, _Mark], value: ir.Value, mark: _Mark) -> None:
    if value not in marks or mark[:2] < marks[value][:2]:
        marks[value] = mark


def summary(
    found: Reach, slots: Mapping[str, Slot], measured: Mapping[str, str], lost: Collection[str]
) -> dict[str, Any]:
    """The part ``gradient_reach`` of a report, over the elements of all trainable initializers of the file.

    Args:
        found: static reach, before the protocol's rewrites.
        slots: the trainable initializers.
        measured: status by name of those that were probed. One that a protocol replaced has none: it is
            judged by the graph, and by its layer.
        lost: layers whose weights received no gradient.
    """
    counts: dict[Stop, list[int]] = {}
    reached = 0
    for name, slot in slots.items():
        size, stop = found.elements.get(name, 0), found.stops.get(name, UNKNOWN)
        status = measured.get(name, "unreached" if slot.layer in lost else "replaced")
        if status not in ("unreached", *_LEFT_TO_THE_GRAPH) or (
            status in _LEFT_TO_THE_GRAPH and stop is None
        ):
            reached += size
            continue
        count = counts.setdefault(stop or found.inside.get(name, UNKNOWN), [0, 0])
        count[0] += 1
        count[1] += size
    total = sum(found.elements.get(name, 0) for name in slots)
    ordered = sorted(counts.items(), key=lambda item: (-item[1][1], item[0].node or ""))
    return {
        "share": reached / total if total else 1.0,
        "reached_elements": reached,
        "elements": total,
        "stopped_by": [
            {"node": stop.node, "op": stop.op, "parameters": number, "elements": size}
            for stop, (number, size) in ordered
        ],
    }
