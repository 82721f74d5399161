"""Diagnoses why a node fails on its arguments, by the operator's rules instead of torch's message.

Each rule checks shapes, attributes and, for indices, values; it returns None if they satisfy it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, fx

from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import of_call

Kinds = Literal["index", "window", "k", "fit", "count", "other"]
"""Index out of range; window larger than its input; top-k with k larger than the axis; sizes that must be
equal; number of elements; anything else."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A violated rule.

    Attributes:
        kind: of the rule.
        text: description of the violation.
        have: the size or index found.
        want: the bound or required size, depending on the kind.
        operands: positions of the inputs concerned.
    """

    kind: Kinds
    text: str
    have: int = 0
    want: int = 0
    operands: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """Graph inputs that a value depends on: through values only, and through sizes too."""

    values: frozenset[str] = frozenset()
    all: frozenset[str] = frozenset()

    def __or__(self, other: Sources) -> Sources:
        return Sources(self.values | other.values, self.all | other.all)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed node.

    Attributes:
        cause: the violated rule.
        sources: graph inputs that the operands concerned depend on.
        position: index of the node in the main graph: how far the run got.
    """

    cause: Cause
    sources: Sources
    position: int

    def seen_from(self, outer: fx.Node) -> Failure:
        """The failure as seen from the enclosing graph, in which ``outer`` is the node with the subgraph."""
        found = Sources()
        for name in self.sources.all:
            captured = sources_of(_producer(outer, name))
            found |= captured if name in self.sources.values else replace(captured, values=frozenset())
        return replace(self, sources=found, position=_position(outer))


def failure(
    node: fx.Node, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]], error: Exception
) -> Failure:
    """Diagnose why a node failed.

    Args:
        node: of a converted module.
        calls: arguments and attributes of the node; several if samples run one by one.
        error: raised by torch.
    """
    names = [_name(a) for a in node.args]
    found = (_cause_of(_Call(node.meta, names, args, kwargs)) for args, kwargs in calls)
    cause = next((c for c in found if c is not None), None)
    if cause is None:
        lines = [line for line in str(error).splitlines() if line.strip()]
        cause = Cause("other", lines[0][:200] if lines else type(error).__name__)
    involved = cause.operands or range(len(node.args))
    sources = Sources()
    for i in involved:
        sources |= sources_of(node.args[i])
    return Failure(cause, sources, _position(node))


@dataclass(frozen=True, slots=True)
class _Call:
    """A node with its arguments and attributes."""

    meta: Mapping[str, Any]
    names: Sequence[str]
    args: Sequence[Any]
    attributes: Mapping[str, Any]

    def shape(self, index: int) -> tuple[int, ...]:
        return tuple(self.args[index].shape)

    def show(self, index: int) -> str:
        shape = "x".join(map(str, self.shape(index))) or "a single number"
        return f"{self.names[index]!r} ({shape})" if self.names[index] else f"({shape})"


def _cause_of(call: _Call) -> Cause | None:
    try:
        return _cause(call)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # malformed, or no tensors
        return None


def _cause(call: _Call) -> Cause | None:
    op = call.meta.get("onnx_op") or ""
    row = of_call(call.meta)
    if op in _RULES:
        return _RULES[op](call)
    if row.has(Property.WINDOW):
        return _window(call)
    return _broadcast(call) if row.kind is Kind.ELEMENTWISE else None


def _index_of_axis(call: _Call) -> Cause | None:
    axis = call.attributes.get("axis", 0) % len(call.shape(0))
    return _outside(call, call.args[1], axis)


def _index_of_rows(call: _Call) -> Cause | None:
    indices, first = call.args[1], call.attributes.get("batch_dims", 0)
    found = (_outside(call, indices[..., i], first + i) for i in range(indices.shape[-1]))
    return next((cause for cause in found if cause is not None), None)


def _outside(call: _Call, indices: Tensor, axis: int) -> Cause | None:
    size = call.shape(0)[axis]
    if not indices.numel():
        return None
    least, most = int(indices.min()), int(indices.max())
    if -size <= least and most < size:
        return None
    index = most if most >= size else least
    text = f"index {index} of {call.names[1]!r} is outside of axis {axis} of {call.show(0)}"
    return Cause("index", f"{text}: the largest is {size - 1}", index, size - 1, (1,))


def _window(call: _Call) -> Cause | None:
    spatial = call.shape(0)[2:]
    weight = call.shape(1) if len(call.args) > 1 and isinstance(call.args[1], Tensor) else None
    if weight is not None:
        taken = weight[1] * call.attributes.get("group", 1)
        if call.shape(0)[1] != taken:
            text = f"{call.show(0)} has {call.shape(0)[1]} channels, {call.show(1)} takes {taken}"
            return Cause("fit", text, call.shape(0)[1], taken, (0,))
    kernel = call.attributes.get("kernel_shape") or (weight[2:] if weight else ())
    dilations = call.attributes.get("dilations") or [1] * len(kernel)
    pads = call.attributes.get("pads") or [0] * 2 * len(kernel)
    for axis, (size, k, d) in enumerate(zip(spatial, kernel, dilations, strict=True)):
        padding = pads[axis] + pads[axis + len(kernel)]
        least = (k - 1) * d + 1 - padding
        if size < least:
            text = f"a window of {(k - 1) * d + 1} does not fit into axis {axis + 2} of {call.show(0)}"
            padded = f", padded by {padding}" if padding else ""
            return Cause("window", f"{text}{padded}: it takes at least {least}", size, least, (0,))
    return None


def _top_k(call: _Call) -> Cause | None:
    k = int(call.args[1].reshape(-1)[0]) if len(call.args) > 1 else call.attributes["k"]
    axis = call.attributes.get("axis", -1) % len(call.shape(0))
    size = call.shape(0)[axis]
    if 0 <= k <= size:
        return None
    text = f"k = {k} does not fit: axis {axis} of {call.show(0)} has {size}"
    return Cause("k", text, size, k, tuple(range(min(len(call.args), 2))))


def _broadcast(call: _Call) -> Cause | None:
    tensors = [i for i, a in enumerate(call.args) if isinstance(a, Tensor)]
    for i, j in itertools.combinations(tensors, 2):
        for a, b in zip(reversed(call.shape(i)), reversed(call.shape(j)), strict=False):
            if a != b and 1 not in (a, b):
                return _unequal(call, i, j, a, b)
    return None


def _mat_mul(call: _Call) -> Cause | None:
    a, b = call.shape(0), call.shape(1)
    inner = (a[-1], b[-2] if len(b) > 1 else b[0])
    if inner[0] != inner[1]:
        return _unequal(call, 0, 1, *inner)
    for x, y in zip(reversed(a[:-2]), reversed(b[:-2]), strict=False):
        if x != y and 1 not in (x, y):
            return _unequal(call, 0, 1, x, y)
    return None


def _gemm(call: _Call) -> Cause | None:
    a, b = call.shape(0), call.shape(1)
    inner = (a[0 if call.attributes.get("transA") else -1], b[-1 if call.attributes.get("transB") else 0])
    return _unequal(call, 0, 1, *inner) if inner[0] != inner[1] else _broadcast_of_bias(call)


def _broadcast_of_bias(call: _Call) -> Cause | None:
    if len(call.args) < 3:
        return None
    columns = call.shape(1)[0 if call.attributes.get("transB") else -1]
    given = call.shape(2)[-1] if call.shape(2) else 1
    return _unequal(call, 1, 2, columns, given) if given not in (1, columns) else None


def _concat(call: _Call) -> Cause | None:
    axis = call.attributes["axis"] % len(call.shape(0))
    if len({len(call.shape(i)) for i in range(len(call.args))}) > 1:
        return None
    for i in range(1, len(call.args)):
        for at, (a, b) in enumerate(zip(call.shape(0), call.shape(i), strict=True)):
            if at != axis and a != b:
                return _unequal(call, 0, i, a, b)
    return None


def _unequal(call: _Call, i: int, j: int, a: int, b: int) -> Cause:
    return Cause("fit", f"{call.show(i)} and {call.show(j)} do not fit: {a} against {b}", a, b, (i, j))


def _reshape(call: _Call) -> Cause | None:
    elements = math.prod(call.shape(0))
    wanted = [int(n) for n in call.args[1].reshape(-1)]
    keeps = not call.attributes.get("allowzero", 0)
    sizes = [
        call.shape(0)[i] if n == 0 and keeps and i < len(call.shape(0)) else n for i, n in enumerate(wanted)
    ]
    known = math.prod(n for n in sizes if n != -1)
    if known == elements or (-1 in sizes and known and elements % known == 0):
        return None
    text = f"the {elements} elements of {call.show(0)} cannot have the shape {wanted}"
    return Cause("count", text, elements, known, (0, 1))


def _expand(call: _Call) -> Cause | None:
    target = [int(n) for n in call.args[1].reshape(-1)]
    for a, b in zip(reversed(call.shape(0)), reversed(target), strict=False):
        if a != b and 1 not in (a, b):
            return Cause(
                "fit", f"{call.show(0)} cannot have the shape {target}: {a} against {b}", a, b, (0, 1)
            )
    return None


_RULES: Mapping[str, Callable[[_Call], Cause | None]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _index_of_axis,
    "GatherElements": _index_of_axis,
    "GatherND": _index_of_rows,
    "Gemm": _gemm,
    "MatMul": _mat_mul,
    "Reshape": _reshape,
    "Scatter": _index_of_axis,
    "ScatterElements": _index_of_axis,
    "ScatterND": _index_of_rows,
    "TopK": _top_k,
}


def _name(argument: Any) -> str:
    if not isinstance(argument, fx.Node):
        return ""
    return next(iter(argument.meta.get("onnx_outputs", ())), None) or argument.meta.get("onnx_name") or ""


def sources_of(argument: Any) -> Sources:
    """The graph inputs that an argument of a node depends on."""
    if not isinstance(argument, fx.Node):
        return Sources()
    every = frozenset(_placeholders(argument, into_shapes=True))
    return Sources(frozenset(_placeholders(argument, into_shapes=False)), every)


def _placeholders(node: fx.Node, *, into_shapes: bool) -> Iterator[str]:
    seen, stack = {node}, [node]
    while stack:
        current = stack.pop()
        if current.op == "placeholder":
            yield current.meta.get("onnx_name") or ""
        if not into_shapes and of_call(current.meta).has(Property.SHAPE_ONLY):
            continue
        new = [n for n in current.all_input_nodes if n not in seen]
        seen.update(new)
        stack += new


def _producer(outer: fx.Node, name: str) -> fx.Node:
    """The node that computes a value captured by a subgraph; the outer node for a formal input."""
    found = (n for n in outer.graph.nodes if name in n.meta.get("onnx_outputs", ()) and n is not outer)
    return next(found, outer)


def _position(node: fx.Node) -> int:
    return next(i for i, n in enumerate(node.graph.nodes) if n is node)
