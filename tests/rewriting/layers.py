"""Other operators for the same layer: linear maps, convolutions, BatchNorm, layers beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from .editing import Edit, edits, known, only_reader

LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Linear:
    """y = x w + b over the last axis of x, as nodes of the graph.

    Attributes:
        nodes: those to take out, the last of them makes y.
        x: data of rank two or more.
        shape: of x, with None for what is free.
        w: a constant of (inputs, outputs).
        sizes: of w.
        b: a constant of (outputs,), or None.
    """

    nodes: tuple[ir.Node, ...]
    x: ir.Value
    shape: tuple[int | None, ...]
    w: ir.Value
    sizes: tuple[int, int]
    b: ir.Value | None

    @property
    def y(self) -> ir.Value:
        return self.nodes[-1].outputs[0]

    @property
    def rank(self) -> int:
        return len(self.shape)


def linears(edit: Edit) -> list[Linear]:
    """The linear maps of the graph, in random order."""
    found = (_linear(edit, node) for node in edit.nodes("MatMul", "Gemm", "Einsum"))
    return [linear for linear in found if linear is not None]


def _linear(edit: Edit, node: ir.Node) -> Linear | None:
    x, w = node.inputs[0], node.inputs[1] if len(node.inputs) == 2 or node.op_type == "Gemm" else None
    shape, sizes = edit.shape(x), known(edit.shape(w))
    if x is None or w is None or edit.is_constant(x) or not edit.is_constant(w) or not edit.is_float(x):
        return None
    if sizes is None or len(sizes) != 2 or shape is None or len(shape) < 2:
        return None
    rows, columns = sizes
    if node.op_type == "Gemm":
        return _gemm(edit, node, Linear((node,), x, shape, w, (rows, columns), None))
    if node.op_type == "Einsum" and not _plain_einsum(node):
        return None
    after = only_reader(node.outputs[0])
    if after is not None and after.op_type == "Add":
        b = next(v for v in after.inputs if v is not node.outputs[0])
        if edit.is_constant(b) and edit.shape(b) == (columns,):
            return Linear((node, after), x, shape, w, (rows, columns), b)
    return Linear((node,), x, shape, w, (rows, columns), None)


def _gemm(edit: Edit, node: ir.Node, plain: Linear) -> Linear | None:
    """The map of a Gemm: ``plain`` with its bias, and its weight turned where the Gemm turns it."""
    get = node.attributes
    if get.get_int("transA", 0) or get.get_float("alpha", 1.0) != 1 or get.get_float("beta", 1.0) != 1:
        return None
    b = node.inputs[2] if len(node.inputs) > 2 else None
    turned = bool(get.get_int("transB", 0))
    w, sizes = plain.w, plain.sizes
    outputs = sizes[0] if turned else sizes[1]
    if b is not None and (not edit.is_constant(b) or edit.shape(b) != (outputs,)):
        return None
    if turned:
        w, sizes = edit.transposed(node, w, (1, 0)), (sizes[1], sizes[0])
    return replace(plain, w=w, sizes=sizes, b=b)


def _plain_einsum(node: ir.Node) -> bool:
    operands, _, result = node.attributes["equation"].as_string().replace(" ", "").partition("->")
    x, _, w = operands.partition(",")
    return len(w) == 2 and w.isalpha() and x[-1:] == w[0] and result == x[:-1] + w[1] and w[0] != w[1]


def replaced(edit: Edit, linear: Linear, y: ir.Value, *, biased: bool) -> bool:
    """Put another result of a linear map, with its bias in it or not, in its place."""
    at = linear.nodes[-1]
    if linear.b is not None and not biased:
        y = edit.op(at, "Add", [y, linear.b] if edit.chance() else [linear.b, y])
    edit.put(linear.y, y)
    return True


@edits
def linear_as_matmul(edit: Edit) -> bool:
    """MatMul and Add; or the product of the transposed, (w' x')'."""
    for linear in linears(edit):
        at = linear.nodes[-1]
        if edit.chance(0.7):
            return replaced(edit, linear, edit.op(at, "MatMul", [linear.x, linear.w]), biased=False)
        rank = linear.rank
        perm = [*range(rank - 2), rank - 1, rank - 2]
        turned = edit.op(at, "Transpose", [linear.x], {"perm": perm})
        product = edit.op(at, "MatMul", [edit.transposed(at, linear.w, (1, 0)), turned])
        return replaced(edit, linear, edit.op(at, "Transpose", [product], {"perm": perm}), biased=False)
    return False


@edits
def linear_as_gemm(edit: Edit) -> bool:
    """Gemm, its weight either way; between two Reshapes where the data have more than two axes."""
    for linear in linears(edit):
        at, middle = linear.nodes[-1], known(linear.shape[1:-1])
        if middle is None:
            continue
        x = linear.x
        if middle:
            x = edit.op(at, "Reshape", [x, edit.ints(-1, linear.sizes[0])])
        turned = edit.chance()
        w = edit.transposed(at, linear.w, (1, 0)) if turned else linear.w
        inputs = [x, w] if linear.b is None else [x, w, linear.b]
        y = edit.op(at, "Gemm", inputs, {"transB": int(turned)})
        if middle:
            y = edit.op(at, "Reshape", [y, edit.ints(-1, *middle, linear.sizes[1])])
        return replaced(edit, linear, y, biased=True)
    return False


@edits
def linear_as_einsum(edit: Edit) -> bool:
    """Einsum, its weight either way, with or without an ellipsis, operands in either order."""
    for linear in linears(edit):
        at, rank = linear.nodes[-1], linear.rank
        head = LETTERS[: rank - 1] if edit.chance() else "..."
        turned = edit.chance()
        w = edit.transposed(at, linear.w, (1, 0)) if turned else linear.w
        operands = [(f"{head}x", linear.x), ("yx" if turned else "xy", w)]
        if edit.chance(0.3):
            operands.reverse()
        equation = f"{','.join(text for text, _ in operands)}->{head}y"
        y = edit.op(at, "Einsum", [v for _, v in operands], {"equation": equation})
        return replaced(edit, linear, y, biased=False)
    return False


@edits
def linear_as_convolution(edit: Edit) -> bool:
    """A convolution of kernel one over tokens, or over a position that is put in for it."""
    for linear in linears(edit):
        at, rank = linear.nodes[-1], linear.rank
        if rank not in {2, 3}:
            continue
        axes = [2] if rank == 3 or edit.chance() else [2, 3]
        if rank == 3:
            x = edit.op(at, "Transpose", [linear.x], {"perm": [0, 2, 1]})
        else:
            x = edit.op(at, "Unsqueeze", [linear.x, edit.ints(*axes)])
        w = edit.transposed(at, linear.w, (1, 0))
        w = edit.op(at, "Unsqueeze", [w, edit.ints(*axes)])
        inputs = [x, w] if linear.b is None else [x, w, linear.b]
        y = edit.op(at, "Conv", inputs, {"kernel_shape": [1] * len(axes)})
        if rank == 3:
            y = edit.op(at, "Transpose", [y], {"perm": [0, 2, 1]})
        else:
            y = edit.op(at, "Squeeze", [y, edit.ints(*axes)])
        return replaced(edit, linear, y, biased=True)
    return False


def _convolutions(edit: Edit, rank: int | None = None) -> list[tuple[ir.Node, tuple[int, ...]]]:
    found = []
    for node in edit.nodes("Conv"):
        shape = known(edit.shape(node.inputs[1]))
        if shape is None or not edit.is_constant(node.inputs[1]):
            continue
        if (rank is None or len(shape) == rank) and edit.rank(node.inputs[0]) == len(shape):
            found.append((node, shape))
    return found


@edits
def convolution_as_linear(edit: Edit) -> bool:
    """A convolution of kernel one as a MatMul between two Transposes."""
    for node, shape in _convolutions(edit):
        get = node.attributes
        plain = get.get_int("group", 1) == 1 and set(get.get_ints("strides", [1])) == {1}
        if not plain or set(shape[2:]) != {1} or set(get.get_ints("pads", [0])) != {0}:
            continue
        rank = len(shape)
        last = [0, *range(2, rank), 1]
        x = edit.op(node, "Transpose", [node.inputs[0]], {"perm": last})
        w = edit.reshaped(node, node.inputs[1], shape[:2])
        y = edit.op(node, "MatMul", [x, edit.transposed(node, w, (1, 0))])
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            y = edit.op(node, "Add", [y, node.inputs[2]])
        y = edit.op(node, "Transpose", [y], {"perm": [0, rank - 1, *range(1, rank - 1)]})
        edit.put(node.outputs[0], y)
        return True
    return False


@edits
def conv1d_as_conv2d(edit: Edit) -> bool:
    """A convolution over a line as one over an image that is one pixel high, or wide."""
    for node, shape in _convolutions(edit, rank=3):
        get = node.attributes
        if get.get_string("auto_pad", "NOTSET") != "NOTSET":
            continue
        before = edit.chance()
        axis = edit.ints(2 if before else 3)

        def both(values: Sequence[int], fill: int, before: bool = before) -> list[int]:
            return [fill, *values] if before else [*values, fill]

        pads = get.get_ints("pads", [0, 0])
        kernel = both(shape[2:], 1)
        attributes = {
            "kernel_shape": kernel,
            "strides": both(get.get_ints("strides", [1]), 1),
            "dilations": both(get.get_ints("dilations", [1]), 1),
            "pads": [*both(pads[:1], 0), *both(pads[1:], 0)],
            "group": get.get_int("group", 1),
        }
        x = edit.op(node, "Unsqueeze", [node.inputs[0], axis])
        w = edit.reshaped(node, node.inputs[1], [*shape[:2], *kernel])
        y = edit.op(node, "Conv", [x, w, *node.inputs[2:]], attributes)
        edit.put(node.outputs[0], edit.op(node, "Squeeze", [y, axis]))
        return True
    return False


@edits
def pads_as_pad(edit: Edit) -> bool:
    """The padding of a convolution as a Pad before it."""
    for node, _ in _convolutions(edit):
        pads = node.attributes.get_ints("pads", [])
        if not any(pads) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            continue
        half = len(pads) // 2
        widths = edit.ints(0, 0, *pads[:half], 0, 0, *pads[half:])
        padded = edit.op(node, "Pad", [node.inputs[0], widths])
        node.replace_input_with(0, padded)
        node.attributes["pads"] = ir.AttrInt64s("pads", [0] * len(pads))
        return True
    return False


def _channelwise(edit: Edit, at: ir.Node, values: np.ndarray, rank: int) -> ir.Value:
    """A constant for each channel of data with channels second."""
    return edit.constant(values.reshape(-1, *[1] * (rank - 2)))


def _norms(
    edit: Edit,
) -> Iterator[tuple[ir.Node, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """BatchNorms with the rank of their data, factor and shift, mean and deviation."""
    for node in edit.nodes("BatchNormalization"):
        arrays = edit.arrays(node.inputs[1:5])
        rank = edit.rank(node.inputs[0])
        if rank is None or arrays is None or node.attributes.get_int("training_mode", 0) != 0:
            continue
        scale, offset, mean, variance = (a.astype(np.float64) for a in arrays)
        deviation = np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        yield node, rank, scale / deviation, offset - mean * scale / deviation, mean, deviation


@edits
def batch_norm_written_out(edit: Edit) -> bool:
    """Mul and Add; or Sub, Div, Mul and Add."""
    for node, rank, factor, shift, mean, deviation in _norms(edit):
        short = edit.chance()
        steps = [("Mul", factor), ("Add", shift)]
        if not short:
            scale, offset = factor * deviation, shift + mean * factor
            steps = [("Sub", mean), ("Div", deviation), ("Mul", scale), ("Add", offset)]
        y = node.inputs[0]
        for op, values in steps:
            y = edit.op(node, op, [y, _channelwise(edit, node, values, rank)])
        assert y is not None
        edit.put(node.outputs[0], y)
        return True
    return False


@edits
def batch_norm_folded(edit: Edit) -> bool:
    """Into the convolution before it."""
    for node, _, factor, shift, _, _ in _norms(edit):
        x = node.inputs[0]
        conv = None if x is None else x.producer()
        if conv is None or conv.op_type != "Conv" or only_reader(conv.outputs[0]) is not node:
            continue
        w = edit.array(conv.inputs[1])
        b = edit.array(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(len(factor))
        if w is None or b is None:
            continue
        folded = w * factor.reshape(-1, *[1] * (w.ndim - 1))
        inputs = [conv.inputs[0], edit.constant(folded), edit.constant(b * factor + shift)]
        made = edit.op(conv, "Conv", inputs, {k: v.value for k, v in conv.attributes.items()})
        edit.put(node.outputs[0], made)
        return True
    return False


@edits
def batch_norm_made(edit: Edit) -> bool:
    """A convolution's bias, and a scale of its weights, moved into a BatchNorm behind it."""
    for node, shape in _convolutions(edit):
        w = edit.array(node.inputs[1])
        b = edit.array(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(shape[0])
        if w is None or b is None:
            continue
        scale = 2.0 ** edit.rng.integers(-1, 2, shape[0])
        mean, variance = edit.rng.normal(size=shape[0]), edit.rng.uniform(0.5, 2, shape[0])
        deviation = np.sqrt(variance + 1e-5)
        smaller = edit.constant(w / scale.reshape(-1, *[1] * (w.ndim - 1)))
        attributes = {k: v.value for k, v in node.attributes.items()}
        made = edit.op(node, "Conv", [node.inputs[0], smaller], attributes)
        parameters = [scale * deviation, b + mean * scale, mean, variance]
        y = edit.op(node, "BatchNormalization", [made, *map(edit.constant, parameters)], {"epsilon": 1e-5})
        edit.put(node.outputs[0], y)
        return True
    return False


@edits
def linears_joined(edit: Edit) -> bool:
    """Linear maps of one value as one map, split behind it: queries, keys and values."""
    groups: dict[ir.Value, list[tuple[Linear, np.ndarray, np.ndarray]]] = {}
    for linear in linears(edit):
        w = edit.array(linear.w)
        b = np.zeros(linear.sizes[1], np.float32) if linear.b is None else edit.array(linear.b)
        if w is not None and b is not None:
            groups.setdefault(linear.x, []).append((linear, w, b))
    order = {node: i for i, node in enumerate(edit.graph)}
    for x, members in groups.items():
        if len(members) < 2:
            continue
        maps, weights, biases = zip(*members, strict=True)
        first = min((m.nodes[0] for m in maps), key=order.__getitem__)
        joined = edit.constant(np.concatenate(weights, 1), hint="joined")
        y = edit.op(first, "MatMul", [x, joined])
        if any(m.b is not None for m in maps):
            y = edit.op(first, "Add", [y, edit.constant(np.concatenate(biases))])
        parts = edit.split(first, y, [m.sizes[1] for m in maps], -1)
        for linear, part in zip(maps, parts, strict=True):
            edit.put(linear.y, part)
        return True
    return False


@edits
def linear_parted(edit: Edit) -> bool:
    """A linear map that is split into parts as a map for each part."""
    for linear in linears(edit):
        split = only_reader(linear.y)
        w, b = edit.array(linear.w), None if linear.b is None else edit.array(linear.b)
        if split is None or split.op_type != "Split" or w is None or (linear.b is not None and b is None):
            continue
        if split.attributes.get_int("axis", 0) not in {-1, linear.rank - 1}:
            continue
        sizes = known(shape[-1] if shape else None for shape in map(edit.shape, split.outputs))
        if sizes is None:
            continue
        bounds = np.cumsum(sizes)[:-1]
        biases = [None] * len(sizes) if b is None else np.split(b, bounds)
        for output, part, bias in zip(list(split.outputs), np.split(w, bounds, 1), biases, strict=True):
            y = edit.op(split, "MatMul", [linear.x, edit.constant(part)])
            edit.put(output, y if bias is None else edit.op(split, "Add", [y, edit.constant(bias)]))
        return True
    return False
