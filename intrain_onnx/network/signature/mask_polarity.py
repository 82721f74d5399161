"""Which value of a mask hides: its elements are propagated as the pair of values for 0 and for 1.

Elementwise operators with constants map the pair; it ends where it meets data. A value hides if it adds a
large negative number to scores, selects such a constant or zero instead of data, or multiplies data by zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.subgraphs import bodies, entering
from intrain_onnx.network.values import constant_array
from intrain_onnx.opset.traits import is_op, is_view

_LARGE = 1e3
"""A difference of scores that a softmax turns into 0."""

_MOST_VALUES = 500

Pair = tuple[float, float]
"""Values of one element where the mask is 0, and where it is 1."""

Hides = Literal[0, 1]

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
}
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b if a and b else 0.0,
    "Max": max,
    "Min": min,
    **_COMPARE,
}
_KEEP = (
    *("AveragePool", "Expand", "Gather", "GatherElements", "GatherND", "MaxPool", "ReduceMax", "ReduceMin"),
    *("Resize", "Slice", "Tile"),
)
"""Of equal elements they make the same elements."""


@dataclass(frozen=True, slots=True)
class Polarity:
    """Which elements of a mask hide.

    Attributes:
        hides: their value.
        scores: they lower scores before a softmax; else they replace data by zeros.
    """

    hides: Hides
    scores: bool


def polarity(value: ir.Value) -> Polarity | None:
    """The polarity of an input, if it is a mask; None if unknown, or if its uses disagree.

    Uses that lower scores decide before those that replace data by zeros.
    """
    strong: set[Hides] = set()
    weak: set[Hides] = set()
    found: dict[ir.Value, Pair] = {value: (0.0, 1.0)}
    waiting = deque([value])
    while waiting and len(found) < _MOST_VALUES:
        current = waiting.popleft()
        for node, index in current.uses():
            _note(node, index, found[current], strong, weak)
            for out, pair in _outputs(node, index, found):
                if out not in found and pair[0] != pair[1]:
                    found[out] = pair
                    waiting.append(out)
    for evidence, scores in ((strong, True), (weak, False)):
        if evidence:
            return Polarity(next(iter(evidence)), scores) if len(evidence) == 1 else None
    return None


def _note(node: ir.Node, index: int, pair: Pair, strong: set[Hides], weak: set[Hides]) -> None:
    """Record which element of the pair hides, where it meets data."""
    lower: Hides = 0 if pair[0] < pair[1] else 1
    others = [v for i, v in enumerate(node.inputs) if i != index and v is not None]
    if any(constant_array(v) is not None for v in others) and not is_op(node, "Where"):
        return
    if (is_op(node, "Add") and abs(pair[0] - pair[1]) >= _LARGE) or (is_op(node, "Attention") and index == 3):
        strong.add(lower)
    elif is_op(node, "Mul") and min(map(abs, pair)) == 0 and _is_float(node.outputs[0]):
        weak.add(0 if pair[0] == 0 else 1)
    elif is_op(node, "Where") and index == 0:
        _note_choice(node, pair, strong, weak)


def _note_choice(node: ir.Node, pair: Pair, strong: set[Hides], weak: set[Hides]) -> None:
    """Where: the side that is a constant in place of data hides it."""
    sides = [_uniform(v) for v in node.inputs[1:3]]
    if (sides[0] is None) == (sides[1] is None) or not _is_float(node.outputs[0]):
        return
    chosen, constant = (1, sides[0]) if sides[0] is not None else (0, sides[1])
    hidden: Hides = 1 if bool(pair[1]) == bool(chosen) else 0
    if constant is not None and constant <= -_LARGE:
        strong.add(hidden)
    elif constant == 0:
        weak.add(hidden)


def _outputs(node: ir.Node, index: int, found: Mapping[ir.Value, Pair]) -> Iterator[tuple[ir.Value, Pair]]:
    """Values of the pair after a node; nothing where it ends."""
    value = node.inputs[index]
    assert value is not None
    pair = found[value]
    for _, body in bodies(node):
        yield from ((formal, pair) for formal, outer in entering(node, body) if outer is value)
    if not node.outputs:
        return
    made = _mapped(node, index, pair, found)
    if made is not None:
        yield node.outputs[0], made


def _mapped(node: ir.Node, index: int, pair: Pair, found: Mapping[ir.Value, Pair]) -> Pair | None:
    if is_op(node, "Cast"):
        return pair if node.attributes.get_int("to") != ir.DataType.BOOL else (bool(pair[0]), bool(pair[1]))
    if is_view(node) or (is_op(node, *_KEEP) and index == 0) or is_op(node, "And", "Or", "Concat"):
        return pair
    if is_op(node, "Not"):
        return float(not pair[0]), float(not pair[1])
    if is_op(node, "Neg"):
        return -pair[0], -pair[1]
    if is_op(node, "Where"):
        return _selected(node, index, pair)
    if node.op_type in _ARITHMETIC and not node.domain and len(node.inputs) == 2:
        return _computed(node, index, pair, found)
    return None


def _selected(node: ir.Node, index: int, pair: Pair) -> Pair | None:
    """Where between constants is a map of the pair; with the pair on one side, it passes."""
    if index > 0:
        return pair
    sides = [_uniform(v) for v in node.inputs[1:3]]
    if sides[0] is None or sides[1] is None:
        return None
    return tuple(sides[0] if element else sides[1] for element in pair)  # type: ignore[return-value]


def _computed(node: ir.Node, index: int, pair: Pair, found: Mapping[ir.Value, Pair]) -> Pair | None:
    """A binary operator with a constant, or with another value that follows from the mask."""
    other = node.inputs[1 - index]
    constant = _uniform(other)
    if constant is not None:
        others: Pair = (constant, constant)
    elif other is not None and other in found:
        others = found[other]
    else:
        return None
    compute = _ARITHMETIC[node.op_type]
    left, right = (pair, others) if index == 0 else (others, pair)
    return float(compute(left[0], right[0])), float(compute(left[1], right[1]))


def _uniform(value: ir.Value | None) -> float | None:
    """The number that all elements of a constant are equal to; None for other values."""
    node = value.producer() if value is not None else None
    while node is not None and (is_view(node) or is_op(node, "Expand")) and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    array: np.ndarray[Any, Any] | None = constant_array(value)
    if array is None or not array.size or array.dtype.kind not in "biuf":
        return None
    first = array.reshape(-1)[0]
    return float(first) if bool((array == first).all()) else None


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()
