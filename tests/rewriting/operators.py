"""Operators written out in others, moved past others, or swapped for others of the same function."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from .editing import Edit, edits, known, only_reader

UNARY = (
    "Relu",
    "Sigmoid",
    "Tanh",
    "Erf",
    "Sqrt",
    "Exp",
    "Neg",
    "Softplus",
    "HardSwish",
    "Gelu",
    "Clip",
    "Abs",
)
BINARY = ("Add", "Mul", "Sub", "Div")


def number(edit: Edit, value: float) -> ir.Value:
    return edit.constant(value, hint="number")


@edits
def gelu_written_out(edit: Edit) -> bool:
    """x (1 + erf(x / sqrt(2))) / 2, in one of the orders that exporters write."""
    for node in edit.nodes("Gelu"):
        if node.attributes.get_string("approximate", "none") != "none":
            continue
        x = node.inputs[0]
        inner = edit.op(node, "Div", [x, number(edit, math.sqrt(2))])
        one = edit.op(node, "Add", [edit.op(node, "Erf", [inner]), number(edit, 1)])
        if edit.chance():
            y = edit.op(node, "Mul", [edit.op(node, "Mul", [x, one]), number(edit, 0.5)])
        else:
            y = edit.op(node, "Mul", [edit.op(node, "Mul", [x, number(edit, 0.5)]), one])
        edit.put(node.outputs[0], y)
        return True
    return False


@edits
def activation_written_out(edit: Edit) -> bool:
    """HardSwish, Softplus, Mish, LeakyRelu, Relu, Softmax, Sigmoid, PRelu in operators that compute them."""
    for node in edit.nodes("HardSwish", "Softplus", "Mish", "LeakyRelu", "Relu", "Softmax"):
        x = node.inputs[0]
        if x is None or not edit.is_float(x):
            continue
        edit.put(node.outputs[0], _activation(edit, node, x))
        return True
    return False


def _activation(edit: Edit, node: ir.Node, x: ir.Value) -> ir.Value:
    def op(op_type: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        return edit.op(node, op_type, inputs, attributes)

    match node.op_type:
        case "HardSwish":
            gate = op("Clip", op("Add", x, number(edit, 3)), number(edit, 0), number(edit, 6))
            return op("Div", op("Mul", x, gate), number(edit, 6))
        case "Softplus":
            return op("Log", op("Add", op("Exp", x), number(edit, 1)))
        case "Mish":
            return op("Mul", x, op("Tanh", op("Softplus", x)))
        case "LeakyRelu":
            alpha = node.attributes.get_float("alpha", 0.01)
            return op("Max", x, op("Mul", x, number(edit, alpha)))
        case "Relu":
            return op(edit.pick(["Clip", "Max"]), x, number(edit, 0))
    axis = node.attributes.get_int("axis", -1)
    top = edit.reduce(node, "ReduceMax", x, [axis])
    powers = op("Exp", op("Sub", x, top))
    return op("Div", powers, edit.reduce(node, "ReduceSum", powers, [axis]))


@edits
def layer_norm_written_out(edit: Edit) -> bool:
    """Mean, deviation, scale and offset, in one of the orders that exporters write."""
    for node in edit.nodes("LayerNormalization", "RMSNormalization"):
        x, rank = node.inputs[0], edit.rank(node.inputs[0])
        axis = node.attributes.get_int("axis", -1)
        if rank is None or axis not in {-1, rank - 1}:
            continue
        centred = x
        if node.op_type == "LayerNormalization":
            centred = edit.op(node, "Sub", [x, edit.reduce(node, "ReduceMean", x, [-1])])
        square = (
            edit.op(node, "Mul", [centred, centred])
            if edit.chance()
            else edit.op(node, "Pow", [centred, number(edit, 2)])
        )
        variance = edit.reduce(node, "ReduceMean", square, [-1])
        epsilon = number(edit, node.attributes.get_float("epsilon", 1e-5))
        deviation = edit.op(node, "Sqrt", [edit.op(node, "Add", [variance, epsilon])])
        if edit.chance():
            y = edit.op(node, "Div", [centred, deviation])
        else:
            y = edit.op(node, "Mul", [centred, edit.op(node, "Reciprocal", [deviation])])
        y = edit.op(node, "Mul", [y, node.inputs[1]])
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            y = edit.op(node, "Add", [y, node.inputs[2]])
        edit.put(node.outputs[0], y)
        return True
    return False


@edits
def global_pool_as_mean(edit: Edit) -> bool:
    """GlobalAveragePool as ReduceMean over the positions, or the other way round."""
    for node in edit.nodes("GlobalAveragePool"):
        rank = edit.rank(node.inputs[0])
        if rank is not None:
            axes = range(2, rank) if edit.chance() else range(2 - rank, 0)
            edit.put(node.outputs[0], edit.reduce(node, "ReduceMean", node.inputs[0], list(axes)))
            return True
    return False


@edits
def flatten_as_reshape(edit: Edit) -> bool:
    """Flatten behind the first axis as a Reshape."""
    for node in edit.nodes("Flatten"):
        shape = edit.shape(node.inputs[0])
        rest = known(shape and shape[1:])
        if node.attributes.get_int("axis", 1) == 1 and rest is not None:
            width = math.prod(rest) if edit.chance() else -1
            sizes = edit.ints(*((0, -1) if width == -1 else (-1, width)))
            edit.put(node.outputs[0], edit.op(node, "Reshape", [node.inputs[0], sizes]))
            return True
    return False


@edits
def nothing_put_in(edit: Edit) -> bool:
    """Identity, Dropout, a Cast to the same type, a Squeeze behind an Unsqueeze."""
    for node in edit.nodes():
        places = [i for i, v in enumerate(node.inputs) if edit.is_float(v) and not edit.is_constant(v)]
        if not places:
            continue
        index = edit.pick(places)
        x = node.inputs[index]
        way = edit.pick(["Identity", "Dropout", "Cast", "views"])
        if way == "Cast":
            y = edit.op(node, "Cast", [x], {"to": ir.DataType.FLOAT})
        elif way == "views":
            axis = edit.ints(0)
            y = edit.op(node, "Squeeze", [edit.op(node, "Unsqueeze", [x, axis]), axis])
        else:
            y = edit.op(node, way, [x])
        node.replace_input_with(index, y)
        return True
    return False


@edits
def operands_swapped(edit: Edit) -> bool:
    """a + b as b + a, a b as b a; a - b as a + (-b) for a constant."""
    done = False
    for node in edit.nodes("Add", "Mul", "Sub"):
        if len(node.inputs) != 2 or edit.chance():
            continue
        a, b = node.inputs
        array = edit.array(b)
        if node.op_type != "Sub":
            node.replace_input_with(0, b)
            node.replace_input_with(1, a)
            done = True
        elif array is not None and edit.is_float(b):
            edit.put(node.outputs[0], edit.op(node, "Add", [a, edit.constant(-array)]))
            done = True
    return done


@edits
def split_as_slices(edit: Edit) -> bool:
    """A Split as a Slice for each part."""
    for node in edit.nodes("Split"):
        rank = edit.rank(node.inputs[0])
        axis = node.attributes.get_int("axis", 0)
        sizes = known(shape[axis] if shape else None for shape in map(edit.shape, node.outputs))
        if rank is None or sizes is None:
            continue
        start = 0
        open_end = edit.chance()
        named = axis % rank if edit.chance() else axis % rank - rank
        for output, size in zip(list(node.outputs), sizes, strict=True):
            end = start + size
            if open_end and output is node.outputs[-1]:
                end = np.iinfo(np.int64).max
            bounds = [edit.ints(start), edit.ints(end), edit.ints(named)]
            edit.put(output, edit.op(node, "Slice", [node.inputs[0], *bounds]))
            start += size
        return True
    return False


@edits
def slices_as_split(edit: Edit) -> bool:
    """Slices of one value that lie end to end as a Split."""
    groups: dict[tuple[ir.Value, int, int], list[tuple[int, int, ir.Node]]] = {}
    for node in edit.nodes("Slice"):
        x, bounds = node.inputs[0], edit.arrays(node.inputs[1:])
        shape = edit.shape(x)
        if x is None or shape is None or bounds is None or any(b.size != 1 for b in bounds):
            continue
        numbers = [int(b.reshape(-1)[0]) for b in bounds]
        if len(numbers) < 3 or numbers[3:] not in ([], [1]):
            continue
        size, axis = shape[numbers[2]], numbers[2] % len(shape)
        if size is None:
            continue
        start, end, _ = slice(*numbers[:2]).indices(size)
        groups.setdefault((x, axis, size), []).append((start, end, node))
    order = {node: i for i, node in enumerate(edit.graph)}
    for (x, axis, size), members in groups.items():
        parts = sorted(members, key=lambda row: row[:2])
        ends = [0, *(end for _, end, _ in parts)]
        if len(parts) < 2 or [s for s, _, _ in parts] != ends[:-1] or ends[-1] != size:
            continue
        first = min((node for _, _, node in parts), key=order.__getitem__)
        made = edit.split(first, x, [end - start for start, end, _ in parts], axis)
        for (_, _, node), part in zip(parts, made, strict=True):
            edit.put(node.outputs[0], part)
        return True
    return False


@edits
def transposes_put_in(edit: Edit) -> bool:
    """An elementwise operator on data with their axes permuted, and permuted back behind it."""
    for node in edit.nodes(*UNARY, *BINARY):
        operands = node.inputs if node.op_type in BINARY else node.inputs[:1]
        ranks = {edit.rank(v) for v in operands}
        rank = ranks.pop()
        if ranks or rank is None or rank < 2 or not edit.is_float(operands[0]):
            continue
        perm = [0, *(1 + int(i) for i in edit.rng.permutation(rank - 1))]
        turned = [edit.op(node, "Transpose", [v], {"perm": perm}) for v in operands]
        attributes = {k: v.value for k, v in node.attributes.items()}
        y = edit.op(node, node.op_type, [*turned, *node.inputs[len(turned) :]], attributes)
        back = edit.op(node, "Transpose", [y], {"perm": [int(i) for i in np.argsort(perm)]})
        edit.put(node.outputs[0], back)
        return True
    return False


@edits
def transpose_pushed(edit: Edit) -> bool:
    """A Transpose before an elementwise operator of one operand goes behind it."""
    for node in edit.nodes(*UNARY):
        x = node.inputs[0]
        before = None if x is None else x.producer()
        if before is None or before.op_type != "Transpose" or only_reader(before.outputs[0]) is not node:
            continue
        attributes = {k: v.value for k, v in node.attributes.items()}
        y = edit.op(node, node.op_type, [before.inputs[0], *node.inputs[1:]], attributes)
        turns = {k: v.value for k, v in before.attributes.items()}
        edit.put(node.outputs[0], edit.op(node, "Transpose", [y], turns))
        return True
    return False
