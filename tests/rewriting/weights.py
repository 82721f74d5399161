"""Where the elements of a weight are kept, and what computes it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from .editing import Edit, edits


@edits
def initializers_as_constant_nodes(edit: Edit) -> bool:
    """Some initializers become Constant nodes at the head of the graph."""
    inputs = {v.name for v in edit.graph.inputs}
    names = [n for n in edit.graph.initializers if n not in inputs and edit.chance()]
    first = edit.graph[0]
    for name in names:
        value = edit.graph.initializers[name]
        if value.is_graph_output():
            continue
        made = edit.op(first, "Constant", [], {"value": value.const_value})
        edit.put(value, made)
    return bool(names)


@edits
def constant_nodes_as_initializers(edit: Edit) -> bool:
    """Some Constant nodes become initializers."""
    held = [(n.outputs[0], edit.array(n.outputs[0])) for n in edit.nodes("Constant")]
    found = [(value, array) for value, array in held if array is not None and edit.chance()]
    for value, array in found:
        edit.put(value, edit.constant(array, array.dtype))
    return bool(found)


Make = Callable[[ir.Node, ir.Value, np.ndarray], ir.Value | None]
"""What computes a weight, of the first node that reads it, the weight, and its elements."""


def computed(edit: Edit, make: Make) -> bool:
    """Put what ``make`` computes in the place of a random weight that it takes."""
    for weight in edit.weights():
        array = edit.array(weight)
        assert array is not None
        uses = [(u.node, u.idx) for u in weight.uses()]
        if any(node.graph is not edit.graph for node, _ in uses):
            continue
        order = {node: i for i, node in enumerate(edit.graph)}
        first = min((node for node, _ in uses), key=order.__getitem__)
        made = make(first, weight, array)
        if made is None:
            continue
        for node, index in uses:
            node.replace_input_with(index, made)
        return True
    return False


def noise(edit: Edit, array: np.ndarray) -> np.ndarray:
    """Eighths of a random size: sums with weights of the same grid are exact."""
    return (edit.rng.integers(-16, 17, array.shape) / 8).astype(np.float32)


@edits
def weight_as_sum(edit: Edit) -> bool:
    """w = a + b, or a - b."""

    def make(at: ir.Node, weight: ir.Value, array: np.ndarray) -> ir.Value:
        other = noise(edit, array)
        op, rest = ("Add", array - other) if edit.chance() else ("Sub", array + other)
        return edit.op(at, op, [edit.constant(rest, hint="a"), edit.constant(other, hint="b")])

    return computed(edit, make)


@edits
def weight_scaled(edit: Edit) -> bool:
    """w = c * s or c / s, with a number or with one for each index of an axis."""

    def make(at: ir.Node, weight: ir.Value, array: np.ndarray) -> ir.Value:
        axis = int(edit.rng.integers(array.ndim))
        shape = [1] * array.ndim
        if edit.chance():
            shape[axis] = array.shape[axis]
        scale = 2.0 ** edit.rng.integers(-3, 4, () if edit.chance(0.3) else shape)
        op, rest = ("Mul", array / scale) if edit.chance() else ("Div", array * scale)
        return edit.op(at, op, [edit.constant(rest, hint="c"), edit.constant(scale, hint="s")])

    return computed(edit, make)


@edits
def weight_behind_views(edit: Edit) -> bool:
    """w through Identity, Cast to double and back, Transpose, Reshape, Unsqueeze and Squeeze."""

    def make(at: ir.Node, weight: ir.Value, array: np.ndarray) -> ir.Value:
        way = edit.pick(["identity", "cast", "transpose", "reshape", "unsqueeze"])
        if way == "identity":
            return edit.op(at, "Identity", [weight])
        if way == "cast":
            return edit.op(
                at, "Cast", [edit.constant(array, np.float64, "double")], {"to": ir.DataType.FLOAT}
            )
        if way == "transpose":
            perm = [int(i) for i in edit.rng.permutation(array.ndim)]
            turned = edit.constant(array.transpose(np.argsort(perm)), hint="turned")
            return edit.op(at, "Transpose", [turned], {"perm": perm})
        if way == "reshape":
            return edit.op(at, "Reshape", [edit.constant(array.reshape(-1)), edit.ints(*array.shape)])
        axis = edit.ints(int(edit.rng.integers(array.ndim + 1)))
        return edit.op(at, "Squeeze", [edit.op(at, "Unsqueeze", [weight, axis]), axis])

    return computed(edit, make)


@edits
def weight_from_parts(edit: Edit) -> bool:
    """w is two halves beside each other, a slice of something larger, or some of its rows."""

    def make(at: ir.Node, weight: ir.Value, array: np.ndarray) -> ir.Value | None:
        axis = int(edit.rng.integers(array.ndim))
        size = array.shape[axis]
        way = edit.pick(["concat", "slice", "gather"])
        if way == "concat":
            if size < 2:
                return None
            halves = np.array_split(array, [int(edit.rng.integers(1, size))], axis)
            return edit.op(at, "Concat", [edit.constant(h, hint="half") for h in halves], {"axis": axis})
        larger = np.concatenate([array, np.take(array, [0], axis)], axis)
        stack = edit.constant(larger, hint="larger")
        if way == "slice":
            bounds = [edit.ints(0), edit.ints(size), edit.ints(axis)]
            return edit.op(at, "Slice", [stack, *bounds])
        return edit.op(at, "Gather", [stack, edit.ints(*range(size))], {"axis": axis})

    return computed(edit, make)


@edits
def weight_norm(edit: Edit) -> bool:
    """w = g v / |v|, the norm over all axes but one."""

    def make(at: ir.Node, weight: ir.Value, array: np.ndarray) -> ir.Value | None:
        axis = int(edit.rng.integers(2))
        axes = [i for i in range(array.ndim) if i != axis]
        norm = np.sqrt((array.astype(np.float64) ** 2).sum(tuple(axes), keepdims=True))
        if (norm == 0).any():
            return None
        v = edit.constant(array * edit.rng.uniform(0.5, 2), hint="v")
        g = edit.constant(norm, hint="g")
        if edit.chance():
            length = edit.reduce(at, "ReduceL2", v, axes)
        else:
            length = edit.op(at, "Sqrt", [edit.reduce(at, "ReduceSum", edit.op(at, "Mul", [v, v]), axes)])
        if edit.chance():
            return edit.op(at, "Mul", [g, edit.op(at, "Div", [v, length])])
        return edit.op(at, "Mul", [v, edit.op(at, "Div", [g, length])])

    return computed(edit, make)


@edits
def spectral_norm(edit: Edit) -> bool:
    """w = v / (a v b) with vectors a and b of the file."""

    def make(at: ir.Node, weight: ir.Value, array: np.ndarray) -> ir.Value | None:
        flat = array.reshape(array.shape[0], -1).astype(np.float64)
        left, right = flat.sum(1), flat.sum(0)
        sigma = left @ flat @ right
        if abs(sigma) < 1e-3:
            return None
        v = edit.constant(array * 2, hint="v")
        vectors = edit.constant(left[None] / sigma / 2, hint="u"), edit.constant(right[:, None], hint="t")
        matrix = edit.op(at, "Reshape", [v, edit.ints(array.shape[0], -1)])
        product = edit.op(at, "MatMul", [edit.op(at, "MatMul", [vectors[0], matrix]), vectors[1]])
        scalar = edit.op(at, "Reshape", [product, edit.ints(1)])
        # left flat right / sigma / 2, of twice the weight: one.
        return edit.op(at, "Div", [edit.op(at, "Mul", [v, edit.constant(0.5)]), scalar])

    return computed(edit, make)


@edits
def weight_dequantised(edit: Edit) -> bool:
    """w = (q - z) s: DequantizeLinear of a weight or of each channel, or Cast, Sub and Mul."""

    def make(at: ir.Node, weight: ir.Value, array: np.ndarray) -> ir.Value | None:
        found = on_grid(array)
        if found is None:
            return None
        levels, scale = found
        zero = int(edit.rng.integers(-8, 9))
        if edit.chance(0.3):
            wide = edit.op(
                at, "Cast", [edit.constant(levels + zero, np.int8, "q")], {"to": ir.DataType.FLOAT}
            )
            return edit.op(
                at, "Mul", [edit.op(at, "Sub", [wide, edit.constant(zero)]), edit.constant(scale, hint="s")]
            )
        if edit.chance():
            axis = int(edit.rng.integers(array.ndim))
            scales = edit.constant(np.full(array.shape[axis], scale), hint="s")
            return edit.op(
                at, "DequantizeLinear", [edit.constant(levels, np.int8, "q"), scales], {"axis": axis}
            )
        quantised = edit.constant(levels + zero, np.int8, "q")
        points = [edit.constant(scale, hint="s"), edit.constant(zero, np.int8, "z")]
        if edit.chance():
            return edit.op(at, "DequantizeLinear", [quantised, *points])
        return edit.op(at, "DequantizeLinear", [edit.op(at, "QuantizeLinear", [weight, *points]), *points])

    return computed(edit, make)


LEVELS = 63


def on_grid(array: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Whole numbers up to `LEVELS` and the power of two that makes them the array, if there are such."""
    largest = np.abs(array).max(initial=0.0)
    if largest == 0 or not np.isfinite(largest):
        return None
    scale = float(2.0 ** np.ceil(np.log2(largest / LEVELS)))
    levels = np.round(array / scale)
    return (levels, scale) if np.array_equal(levels * scale, array) else None


def put_on_grid(array: np.ndarray) -> np.ndarray:
    """The nearest array of `on_grid`: rounded once, its quantised form is exact."""
    largest = np.abs(array).max(initial=0.0)
    if largest == 0 or not np.isfinite(largest):
        return array
    scale = float(2.0 ** np.ceil(np.log2(largest / LEVELS)))
    return np.asarray(np.round(array / scale) * scale, array.dtype)
