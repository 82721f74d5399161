"""Constants, shapes and multiply-accumulate counts of an onnx_ir graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.marks import MADE_FROM
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, is_view, kind, traits

Step = tuple[Literal["transpose", "reshape"], tuple[int, ...]]
"""A view of a tensor: ("transpose", permutation) or ("reshape", shape)."""

_PRODUCTS = frozenset({Kind.PRODUCT, Kind.CONVOLUTION, Kind.RECURRENT})
_MOST_NODES = 4096
"""Most nodes that compute one constant: weight normalisation has 10, the gates of a recurrence some 30."""

_DROPOUT_WITHOUT_MODE, _DROPOUT_HAS_MODE = 7, 12
_MASKED = -50.0
"""1 + exp(-50) is 1 in float32. No learned offset is so low; masks have -100 to -inf."""


def is_batch_first(node: ir.Node) -> bool:
    """Whether a recurrent operator has its samples on the first axis, and its steps on the second."""
    return "layout" in node.attributes and node.attributes["layout"].as_int() == 1


def name_of(node: ir.Node) -> str:
    """A node's name, or its first output's, or its operator."""
    return node.name or node_id(node) or node.op_type


def node_id(node: ir.Node) -> str:
    """The name of a node's first output: unique, unlike the node's own name."""
    return next((v.name for v in node.outputs if v.name), "")


class ComputedTensor(ir.LazyTensor):
    """A constant of known shape whose value is computed when it is first read.

    Attributes:
        known: whether the value can be computed.
    """

    def __init__(
        self, compute: Callable[[], ir.TensorProtocol], *args: Any, known: bool, **kwargs: Any
    ) -> None:
        super().__init__(compute, *args, cache=True, **kwargs)
        self.known = known


def of_file(value: ir.Value) -> tuple[tuple[str, int], ...]:
    """The file's initializers that an initializer is computed from, or itself, with numbers of elements."""
    if MADE_FROM in value.meta:
        found: tuple[tuple[str, int], ...] = value.meta[MADE_FROM]
        return found
    return ((value.name or "", math.prod(shape_of(value)) if value.const_value is not None else 0),)


def is_known(value: ir.Value) -> bool:
    """Whether the elements of an initializer can be read."""
    return not isinstance(value.const_value, ComputedTensor) or value.const_value.known


def constant_array(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The value of an initializer, looking through Cast and Identity; None for other values."""
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None or not is_op(node, "Identity", "Cast"):
            return None
        value = node.inputs[0]
    if value is None or value.const_value is None or not is_known(value):
        return None
    return value.const_value.numpy()


def gathers_rows(node: ir.Node) -> bool:
    """Whether a node is a GatherND that selects along axis 0 alone: its indices have one component."""
    indices = node.inputs[1] if is_op(node, "GatherND") and len(node.inputs) > 1 else None
    dims = indices.shape.dims if indices is not None and indices.shape is not None else ()
    return bool(dims) and dims[-1] == 1 and not node.attributes.get_int("batch_dims", 0)


def listed(node: ir.Node, name: str) -> list[int]:
    """Integers that a node has as input 1 or, in older opsets, as an attribute; empty if neither is known."""
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    return [int(n) for n in (node.attributes.get_ints(name, ()) if given is None else given.reshape(-1))]


def source(value: ir.Value | None, *, spread: bool = False) -> tuple[ir.Value, list[ir.Node]] | None:
    """The initializer that a value is a view of, and the view nodes from it to the value; else None.

    With ``spread``, copies along an axis (Expand, Tile) count as views.
    """
    nodes: list[ir.Node] = []
    while value is not None:
        if value.is_initializer():
            return value, nodes[::-1]
        node = value.producer()
        if node is None or not (is_view(node) or (spread and is_op(node, "Expand", "Tile"))):
            return None
        nodes.append(node)
        value = node.inputs[0]
    return None


@dataclass(frozen=True)
class Sources:
    """The subgraph that computes a constant value.

    Attributes:
        nodes: in topological order.
        parameters: the initializers that it reads, other than scalars, of floats or of integers of at most
            8 bits.
    """

    nodes: tuple[ir.Node, ...]
    parameters: tuple[ir.Value, ...]


def constant_sources(value: ir.Value, settled: Container[ir.Value] = ()) -> Sources | None:
    """The subgraph that computes a constant (depth-first search); None if it has an input or too many nodes.

    Values that are ``settled`` count as constants.
    """
    order: dict[ir.Node, None] = {}
    seen: set[ir.Node] = set()
    stack: list[tuple[ir.Value | None, bool]] = [(value, False)]
    while stack:
        current, done = stack.pop()
        if current is None or current.const_value is not None or current in settled:
            continue
        node = current.producer()
        if node is None or len(seen) > _MOST_NODES:
            return None
        if done:
            order[node] = None
        elif node not in seen:
            seen.add(node)
            stack.append((current, True))
            stack.extend((v, False) for v in node.inputs)
    return Sources(tuple(order), initializers_behind(value))


def ancestors(value: ir.Value, most: int | None = None) -> list[ir.Value]:
    """A value and its ancestors, until ``most`` are found. Nodes that only read a shape are not entered."""
    seen = {value: None}
    stack = [value]
    while stack and (most is None or len(seen) < most):
        node = stack.pop().producer()
        if node is not None and not has(node, Property.SHAPE_ONLY):
            new = [v for v in node.inputs if v is not None and v not in seen]
            seen.update(dict.fromkeys(new))
            stack.extend(new)
    return list(seen)


def initializers_behind(value: ir.Value) -> tuple[ir.Value, ...]:
    """The initializers of floats, or of integers of at most 8 bits, that a value depends on.

    Scalars, such as an epsilon, are left out.
    """
    constants = ((v, v.const_value) for v in ancestors(value))
    return tuple(v for v, t in constants if t is not None and t.size > 1 and _holds_numbers(t.dtype))


def _holds_numbers(dtype: ir.DataType) -> bool:
    return dtype.is_floating_point() or (dtype.is_integer() and dtype.bitwidth <= 8)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a value; None if a dimension is unknown, or negative as onnx infers where nothing runs."""
    shape = value.shape if value is not None else None
    if shape is None:
        return None
    dims = shape.dims
    for d in dims:  # asked for a hundred times for each node
        if not isinstance(d, int) or d < 0:
            return None
    return cast(tuple[int, ...], dims)


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The shape of an initializer."""
    tensor = value.const_value
    assert tensor is not None
    if _is_message(type(tensor)):  # it makes a shape anew each time it is asked
        return tuple(_message(tensor).dims)
    return tuple(int(d) for d in tensor.shape.numpy())


_message: Callable[[Any], Any] = cast(Any, ir.serde.TensorProtoTensor.raw).fget
"""The message of a tensor over one, as it is: ``raw`` of an embedded one would read its data."""


@cache
def _is_message(kind: type) -> bool:
    """Whether tensors of a class are over protobuf messages: ``isinstance`` is slow for onnx_ir's classes."""
    return issubclass(kind, ir.serde.TensorProtoTensor)


def permutation(node: ir.Node, rank: int) -> tuple[int, ...] | None:
    """The order of axes of a Transpose; None if it does not fit the rank, which onnx does not ask."""
    perm = tuple(node.attributes.get_ints("perm", range(rank)[::-1]))
    return perm if sorted(perm) == list(range(rank)) else None


def view_steps(shape: tuple[int, ...], nodes: Iterable[ir.Node]) -> tuple[tuple[int, ...], list[Step]] | None:
    """Shape after a chain of view nodes, and the views as steps; None if a shape is unknown."""
    steps: list[Step] = []
    for node in nodes:
        if node.op_type in ("Identity", "Cast"):
            continue
        if node.op_type == "Transpose":
            perm = permutation(node, len(shape))
            if perm is None:
                return None
            shape = tuple(shape[p] for p in perm)
            steps.append(("transpose", perm))
            continue
        new = static_shape(node.outputs[0]) or _view_shape(node, shape)
        if new is None or math.prod(new) != math.prod(shape):
            return None
        shape = new
        steps.append(("reshape", shape))
    return shape, steps


def floats_of(tensor: ir.TensorProtocol) -> np.ndarray[Any, Any]:
    """The numbers of a tensor; bfloat16 and float8, which are no types of numpy, as float32."""
    array = np.asarray(tensor.numpy())
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def canonical(array: np.ndarray[Any, Any], steps: Iterable[Step]) -> np.ndarray[Any, Any]:
    """An array after these views: a weight in canonical layout has its output channels first."""
    for view, argument in steps:
        array = array.reshape(argument) if view == "reshape" else array.transpose(argument)
    return array


def constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Shape inference for views, Concat and elementwise operators on constants; None if unknown."""
    if value is None or value.const_value is not None:
        return None if value is None else shape_of(value)
    node = value.producer()
    if node is None or not node.inputs or value.index():
        return static_shape(value)
    if is_view(node):
        below = constant_shape(node.inputs[0])
        viewed = view_steps(below, [node]) if below is not None else None
        return viewed[0] if viewed is not None else static_shape(value)
    if is_op(node, "DequantizeLinear"):
        return constant_shape(node.inputs[0])
    shapes = [constant_shape(v) for v in node.inputs if v is not None]
    known = [s for s in shapes if s is not None]
    if len(known) != len(shapes):
        return static_shape(value)
    if is_op(node, "Concat"):
        axis = node.attributes.get_int("axis", 0)
        length = sum(s[axis] for s in known if -len(s) <= axis < len(s))
        return (*known[0][:axis], length, *known[0][axis:][1:])
    if kind(node) in (Kind.ELEMENTWISE, Kind.ACTIVATION):
        try:
            return np.broadcast_shapes(*known)
        except ValueError:
            return None
    return static_shape(value)


def _view_shape(node: ir.Node, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a view of a constant without an inferred shape, as in a branch of an If."""
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None and len(node.inputs) > 1:
        return None
    named = listed(node, "axes")
    if is_op(node, "Flatten"):
        axis = node.attributes.get_int("axis", 1) % (len(shape) + 1)
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if is_op(node, "Unsqueeze"):
        rank = len(shape) + len(named)
        left = iter(shape)
        added = {a % rank for a in named} if rank else set()
        if len(added) != len(named):  # not valid, and shape inference says so
            return None
        return tuple(1 if i in added else next(left) for i in range(rank))
    if is_op(node, "Squeeze"):
        gone = {a % len(shape) for a in named if shape} or {i for i, d in enumerate(shape) if d == 1}
        return tuple(d for i, d in enumerate(shape) if i not in gone)
    if not is_op(node, "Reshape") or named.count(-1) > 1:
        return None
    literal = node.attributes.get_int("allowzero", 0)
    dims = [shape[i] if d == 0 and not literal and i < len(shape) else d for i, d in enumerate(named)]
    known = math.prod(d for d in dims if d != -1)
    return tuple(math.prod(shape) // known if d == -1 and known else d for d in dims)


def add_initializer(model: ir.Model, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """A new initializer of the main graph, of another name if the file has one of this; shares the array."""
    while name in model.graph.initializers:
        name += "_"
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value


def may_have_role(shape: tuple[int, ...] | None, role: str) -> bool:
    """Whether a constant operand of this shape can be a parameter of the role.

    A scalar is neither scale nor offset; a factor with several axes longer than 1 is a table of rotary
    positions or a mask. An unknown shape (None) counts as a scalar. Other roles do not depend on the shape.
    """
    if role not in ("scale", "offset"):
        return True
    long = sum(d > 1 for d in shape or ())
    return long == 1 if role == "scale" else long > 0


def viewed_as(root: ir.Value, views: Sequence[ir.Node]) -> tuple[tuple[int, ...], list[Step]]:
    """The shape in which a constant is read, before broadcasts along an axis, and the views up to there."""
    copied = next((i for i, node in enumerate(views) if not is_view(node)), len(views))
    viewed = view_steps(shape_of(root), views[:copied])
    return (shape_of(root), []) if viewed is None else viewed


def is_fixed(root: ir.Value, shape: tuple[int, ...], role: str) -> bool:
    """Whether a constant operand of this shape is no trainable parameter.

    True also for an attention mask: an offset of at most two distinct numbers, the lower one at most -50.
    """
    return not may_have_role(shape, role) or (role == "offset" and _is_mask(root, shape))


def _is_mask(value: ir.Value, shape: tuple[int, ...]) -> bool:
    array = constant_array(value) if len(shape) > 1 else None
    if array is None:
        return False
    numbers = array.astype(np.float64)
    low, high = numbers.min(initial=0.0), numbers.max(initial=0.0)
    return bool(low <= _MASKED and np.isin(numbers, (low, high)).all())


def drops_values(node: ir.Node, opset: int) -> bool:
    """Whether a Dropout is in training mode: an attribute before opset 7, an input since opset 12."""
    if opset < _DROPOUT_WITHOUT_MODE:
        return node.attributes.get_int("is_test", 0) == 0
    if opset < _DROPOUT_HAS_MODE or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    mode = node.inputs[2]
    maker = mode.producer()
    literal = maker.attributes.get("value") if maker is not None and is_op(maker, "Constant") else None
    array = constant_array(mode) if literal is None else literal.as_tensor().numpy()
    return array is None or bool(np.any(array))


def has_macs(node: ir.Node) -> bool:
    """Whether multiply-accumulate operations are counted for a node."""
    return kind(node) in _PRODUCTS and not traits(node).coefficients


def macs(node: ir.Node) -> int | None:
    """Multiply-accumulate operations of a node, from its static shapes; None if one is unknown."""
    out = static_shape(node.outputs[0])
    operands = [
        static_shape(v) or (shape_of(v) if v is not None and v.is_initializer() else None)
        for v in node.inputs
    ]
    if kind(node) is Kind.RECURRENT:
        x, w, r = operands[:3]
        if x is None or w is None or r is None:
            return None
        return x[0] * x[1] * (math.prod(w) + math.prod(r))
    if kind(node) is Kind.CONVOLUTION:
        x, w = operands[:2]
        if w is None or (x if node.op_type == "ConvTranspose" else out) is None:
            return None
        spatial = x if node.op_type == "ConvTranspose" else out
        assert spatial is not None
        positions = math.prod((spatial[0], *spatial[2:]))
        return positions * math.prod(w)
    if is_op(node, "Einsum"):
        return _einsum_macs(node.attributes["equation"].as_string(), operands)
    a = operands[0]
    if out is None or a is None or len(a) < 1:
        return None
    transposed = "transA" in node.attributes and node.attributes["transA"].as_int() == 1
    return math.prod(out) * a[-2 if transposed and len(a) > 1 else -1]


def _einsum_macs(equation: str, operands: list[tuple[int, ...] | None]) -> int | None:
    """The product of the sizes of all indices; None for an unknown shape or an ellipsis."""
    sizes: dict[str, int] = {}
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    for term, shape in zip(terms, operands, strict=False):
        if shape is None or len(term) != len(shape) or "." in term:
            return None
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values())


def remove_unused(node: ir.Node) -> None:
    """Dead-code elimination: remove a node that nothing reads, then its producers that became unused."""
    stack: list[ir.Node | None] = [node]
    while stack:
        current = stack.pop()
        if current is None or current.graph is None:
            continue
        if any(v.uses() or v.is_graph_output() for v in current.outputs):
            continue
        before = [v.producer() for v in current.inputs if v is not None]
        current.graph.remove(current, safe=True)
        stack.extend(before)


def put_in_place(node: ir.Node, new: ir.Node) -> None:
    """Let the first output of a new node replace that of another one, which goes with all that only it read.

    A graph output keeps its name.
    """
    old, out = node.outputs[0], new.outputs[0]
    assert node.graph is not None
    node.graph.insert_after(node, new)
    if old.is_graph_output():
        out.name, old.name = old.name, out.name
    old.replace_all_uses_with(out, replace_graph_outputs=True)
    remove_unused(node)
