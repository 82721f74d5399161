"""Constant folding of views and of small integer arithmetic, to evaluate indices and trip counts.

A view shares the memory of its initializer. Arithmetic is evaluated on integers, booleans and single numbers
of at most 1,024 elements, never on weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from intrain_onnx.network.values import static_shape
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, kind

Array = np.ndarray[Any, Any]

_MAX_COUNTED = 1024
"""Most elements of all operands of one arithmetic node."""

_COUNTING = frozenset({Kind.ELEMENTWISE, Kind.REDUCTION, Kind.LOOKUP})
"""Kinds of operators that are evaluated as arithmetic, with Concat, Split and Cast."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A value known at compile time.

    Attributes:
        array: its elements.
        label: name of the initializer that it is a view of, with the indices taken, such as ``w[3]``.
        roots: the initializers that it is computed from.
        value: the graph's value that holds it; None for an intermediate result.
    """

    array: Array
    label: str
    roots: tuple[ir.Value, ...] = ()
    value: ir.Value | None = None


class Constants:
    """Memoised constant folding of one model's values.

    Args:
        model: its initializers are in the main graph.
        shapes: treat inferred static shapes as known, too.
    """

    def __init__(self, model: ir.Model, *, shapes: bool = False) -> None:
        self.shapes = shapes
        self.opset = model.opset_imports.get("", 1)
        self._outer: dict[ir.Value, Known | None] = {}
        self._programs: dict[ir.Node, Callable[[Mapping[str, Array]], list[Any]]] = {}
        stored = (v.const_value.size for v in model.graph.initializers.values() if v.const_value is not None)
        self._room = 2 * sum(stored) + _MAX_COUNTED**2
        """Elements that may still be copied, where a view cannot share memory."""

    def of(self, value: ir.Value) -> Known | None:
        """A value as a constant: an initializer, or computed from initializers; None if it is not known."""
        stack: list[ir.Value] = [value]
        while stack:
            current = stack[-1]
            if current in self._outer:
                stack.pop()
                continue
            node = current.producer()
            if current.const_value is not None or node is None:
                self._outer[current] = _initializer(current)
                continue
            if self.shapes and has(node, Property.SHAPE_ONLY):
                self._outer[current] = self._of_shape(node)
                continue
            missing = [v for v in node.inputs if v is not None and v not in self._outer]
            if missing and all(_may_be_known(v) for v in missing):
                stack += missing
                continue
            operands = [None if v is None else self._outer.get(v) for v in node.inputs]
            found = None if missing else self.evaluate(node, operands)
            self._outer |= dict.fromkeys(node.outputs)
            for output, known in zip(node.outputs, found or (), strict=False):
                self._outer[output] = replace(known, value=output)
        return self._outer[value]

    def _of_shape(self, node: ir.Node) -> Known | None:
        """The output of Shape or Size, from the inferred shape of its input."""
        shape = static_shape(node.inputs[0])
        if shape is None:
            return None
        hollow = Known(np.broadcast_to(np.False_, shape), node.inputs[0].name or "" if node.inputs[0] else "")
        found = self.evaluate(node, [hollow])
        return found[0] if found else None

    def evaluate(self, node: ir.Node, operands: Sequence[Known | None]) -> list[Known] | None:
        """The outputs of a node; None if one is not known, or the node is neither a view nor arithmetic.

        Args:
            node: the node to evaluate.
            operands: one for each of its inputs; None for one that is omitted or not known.
        """
        if not _may_be_evaluated(node):
            return None
        if any(v is not None and operand is None for v, operand in zip(node.inputs, operands, strict=True)):
            return None
        given = [operand for operand in operands if operand is not None]
        if not given:
            return None
        arrays = [None if operand is None else operand.array for operand in operands]
        view = _VIEWS.get(node.op_type)
        if self._room < 0 and any(k.array.size > _MAX_COUNTED for k in given):
            return None
        try:
            with np.errstate(all="ignore"):
                if view is not None and (seen := view(node, arrays)) is not None:
                    return self._seen(given[0], *seen)
                return self._count(node, given)
        except (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, AttributeError):
            return None

    def _seen(self, operand: Known, array: Array, index: str) -> list[Known] | None:
        if array is operand.array:
            return [operand]
        if not np.may_share_memory(array, operand.array):
            self._room -= array.size
        return [Known(array, operand.label + index, operand.roots)] if self._room >= 0 else None

    def _count(self, node: ir.Node, given: Sequence[Known]) -> list[Known] | None:
        if not _counts(node) or sum(k.array.size for k in given) > _MAX_COUNTED:
            return None
        if any(k.array.dtype.kind not in "iub" and k.array.size != 1 for k in given):
            return None
        feeds = {}
        known = iter(given)
        for value in node.inputs:
            if value is not None:
                feeds[value.name or ""] = next(known).array
        if node not in self._programs:
            self._programs[node] = _program(node, self.opset)
        results = [np.asarray(result) for result in self._programs[node](feeds)]
        roots = tuple(dict.fromkeys(root for k in given for root in k.roots))
        return [Known(a, v.name or "", roots) for a, v in zip(results, node.outputs, strict=True)]


def _may_be_evaluated(node: ir.Node) -> bool:
    return not node.domain and (node.op_type in _VIEWS or _counts(node))


def _counts(node: ir.Node) -> bool:
    return kind(node) in _COUNTING or is_op(node, "Concat", "Split", "Cast")


def _may_be_known(value: ir.Value) -> bool:
    node = value.producer()
    return value.const_value is not None or (node is not None and _may_be_evaluated(node))


def _initializer(value: ir.Value) -> Known | None:
    tensor = value.const_value
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return None
    return Known(tensor.numpy(), value.name or "", (value,), value)


def _program(node: ir.Node, opset: int) -> Callable[[Mapping[str, Array]], list[Any]]:
    """A node as a function from inputs by name to outputs, in ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow to import, and rarely needed

    names = [v.name or "" for v in node.outputs]
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "node",
        [onnx.ValueInfoProto(name=v.name) for v in dict.fromkeys(node.inputs) if v is not None],
        [onnx.ValueInfoProto(name=name) for name in names],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    evaluator = ReferenceEvaluator(model)
    return lambda feeds: list(evaluator.run(None, dict(feeds)))


# Views. Each returns the array and the index for its label; None if the node is no view of its operand.

View = tuple[Array, str] | None
Operands = Sequence[Array | None]


def _identity(node: ir.Node, arrays: Operands) -> View:
    return _first(arrays), ""


def _cast(node: ir.Node, arrays: Operands) -> View:
    dtype = ir.DataType(node.attributes["to"].as_int())
    array = _first(arrays)
    if dtype == ir.DataType.STRING:
        return None
    return (array if dtype.numpy() == array.dtype else array.astype(dtype.numpy())), ""


def _gather(node: ir.Node, arrays: Operands) -> View:
    data, index = _first(arrays), arrays[1]
    if index is None or index.size != 1 or not data.ndim:
        return None
    axis = _int(node, "axis", 0) % data.ndim
    at = int(index.reshape(-1)[0])
    length = data.shape[axis]
    if not -length <= at < length:
        return None
    at %= length
    taken = data[(slice(None),) * axis + (at, ...)]  # an array, and a view, also of one element
    return np.expand_dims(taken, tuple(range(axis, axis + index.ndim))), f"[{at}]"


def _slice(node: ir.Node, arrays: Operands) -> View:
    data = _first(arrays)
    given = [_ints(node, name) for name in ("starts", "ends", "axes")] if len(arrays) == 1 else []
    starts, ends, axes, steps = (*given, *(_whole(a) for a in arrays[1:]), *[None] * 4)[:4]
    if starts is None or ends is None:
        return None
    index = [slice(None)] * data.ndim
    for i, axis in enumerate(axes if axes is not None else range(len(starts))):
        index[axis] = slice(starts[i], ends[i], steps[i] if steps is not None else 1)
    taken = data[tuple(index)]
    cut = [s.indices(n) for s, n, m in zip(index, data.shape, taken.shape, strict=True) if n != m]
    label = ",".join(str(a) if abs(b - a) == 1 else f"{a}:{b}" for a, b, _ in cut)
    return taken, f"[{label}]" if cut else ""


def _squeeze(node: ir.Node, arrays: Operands) -> View:
    return np.squeeze(_first(arrays), _axes(node, arrays)), ""


def _unsqueeze(node: ir.Node, arrays: Operands) -> View:
    axes = _axes(node, arrays)
    return None if axes is None else (np.expand_dims(_first(arrays), axes), "")


def _reshape(node: ir.Node, arrays: Operands) -> View:
    array = _first(arrays)
    target = _whole(arrays[1]) if len(arrays) > 1 else _ints(node, "shape")
    if target is None:
        return None
    if not _int(node, "allowzero", 0):
        target = [array.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return array.reshape(target), ""


def _flatten(node: ir.Node, arrays: Operands) -> View:
    array = _first(arrays)
    axis = _int(node, "axis", 1)
    return array.reshape(int(np.prod(array.shape[:axis])), -1), ""


def _transpose(node: ir.Node, arrays: Operands) -> View:
    return _first(arrays).transpose(_ints(node, "perm")), ""


def _expand(node: ir.Node, arrays: Operands) -> View:
    """Expand as a view: only if it repeats no element."""
    array = _first(arrays)
    wide = np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(_whole(arrays[1]) or ())))
    return (array.reshape(wide.shape), "") if wide.size == array.size else None


def _shape(node: ir.Node, arrays: Operands) -> View:
    shape = _first(arrays).shape
    end = node.attributes["end"].as_int() if "end" in node.attributes else len(shape)
    return np.array(shape[_int(node, "start", 0) : end], np.int64), ".shape"


def _size(node: ir.Node, arrays: Operands) -> View:
    return np.array(_first(arrays).size, np.int64), ".size"


_VIEWS: Mapping[str, Callable[[ir.Node, Operands], View]] = {
    "Cast": _cast,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _first(arrays: Operands) -> Array:
    if arrays[0] is None:
        raise ValueError("the first operand is left out")
    return arrays[0]


def _whole(array: Array | None) -> list[int] | None:
    """An integer tensor of at most 1,024 elements as a list."""
    if array is None:
        return None
    if array.dtype.kind not in "iu" or array.size > _MAX_COUNTED:
        raise ValueError("no list of whole numbers")
    return [int(n) for n in array.reshape(-1)]


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _ints(node: ir.Node, name: str) -> list[int] | None:
    return list(node.attributes[name].as_ints()) if name in node.attributes else None


def _axes(node: ir.Node, arrays: Operands) -> tuple[int, ...] | None:
    axes: Iterable[int] | None = _whole(arrays[1]) if len(arrays) > 1 else _ints(node, "axes")
    return None if axes is None else tuple(axes)
