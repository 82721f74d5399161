"""Integers where a processor traps: divided by zero and by -1, shifted too far, and indices outside."""

from __future__ import annotations

import numpy as np
import pytest
from node_oracle import ours, single_node

from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError

SIGNED = (np.int8, np.int16, np.int32, np.int64)
EDGES = (0, 1, -1, 2, -2, 3, -3, 7)


def numbers(dtype: type[np.signedinteger]) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.array([*EDGES, limits.min, limits.min + 1, limits.max, limits.max - 1], dtype)


def wrapped(value: int, dtype: type[np.signedinteger]) -> int:
    """An integer of Python in two's complement of that width."""
    bits = np.iinfo(dtype).bits
    return (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def towards_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


@pytest.mark.parametrize("dtype", SIGNED)
def test_every_quotient_of_edges(dtype: type[np.signedinteger]):
    """Exact integers of Python, wrapped: the smallest by -1 is itself. It ended the process (SIGFPE)."""
    a, b = numbers(dtype), numbers(dtype)[1:]
    grid = np.repeat(a, len(b)), np.tile(b, len(a))
    model, inputs = single_node("Div", grid, opset_version=17)
    (found,) = ours(model, inputs)
    pairs = [(int(x), int(y)) for x, y in zip(*grid, strict=True)]
    assert found.tolist() == [wrapped(towards_zero(x, y), dtype) for x, y in pairs]


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", SIGNED)
def test_every_remainder_of_edges(dtype: type[np.signedinteger], fmod: int):
    a, b = numbers(dtype), numbers(dtype)[1:]
    grid = np.repeat(a, len(b)), np.tile(b, len(a))
    model, inputs = single_node("Mod", grid, opset_version=17, fmod=fmod)
    (found,) = ours(model, inputs)
    pairs = [(int(x), int(y)) for x, y in zip(*grid, strict=True)]
    assert found.tolist() == [x - y * (towards_zero(x, y) if fmod else x // y) for x, y in pairs]


@pytest.mark.parametrize("op_type", ["Div", "Mod"])
@pytest.mark.parametrize("dtype", [*SIGNED, np.uint8, np.uint32, np.uint64])
def test_division_by_zero_says_so(op_type: str, dtype: type[np.integer]):
    model, inputs = single_node(op_type, [np.array([1, 2], dtype), np.array([1, 0], dtype)], opset_version=17)
    with pytest.raises(ZeroDivisionError, match="an integer is divided by zero"):
        ours(model, inputs)


def test_a_score_names_the_node():
    model, _ = single_node("Div", [np.ones(2, np.int64), np.ones(2, np.int64)], opset_version=17)
    model.graph.input.pop()
    model.graph.initializer.add(name="x1", data_type=7, dims=[2], int64_data=[1, 0])
    with pytest.raises(UnsupportedError):
        pipeline.score(model, ScoreConfig.for_protocol(parity=False, seeds=1))


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_shifts_past_the_width(dtype: type[np.unsignedinteger], direction: str):
    width = np.iinfo(dtype).bits
    x = np.full(5, np.iinfo(dtype).max, dtype)
    by = np.array([0, 1, width - 1, width, width + 9], dtype)
    model, inputs = single_node("BitShift", [x, by], opset_version=17, direction=direction)
    (found,) = ours(model, inputs)
    exact = [
        int(v) << int(s) if direction == "LEFT" else int(v) >> int(s) for v, s in zip(x, by, strict=True)
    ]
    assert found.numpy().astype(dtype).tolist() == [v % 2**width for v in exact]


INDEXED = {
    "Gather": ({"axis": 0}, 1),
    "GatherElements": ({"axis": 0}, 1),
    "GatherND": ({}, 1),
    "ScatterElements": ({"axis": 0}, 2),
    "ScatterND": ({}, 2),
}


def test_an_index_outside_of_an_inner_axis_is_no_place_in_the_next_row():
    operands = [np.ones((3, 4), np.float32), np.array([[0, 5]], np.int64), np.zeros(1, np.float32)]
    model, values = single_node("ScatterND", operands, opset_version=17)
    with pytest.raises(IndexError, match="index 5 is outside of an axis of 4"):
        ours(model, values)


@pytest.mark.parametrize("index", [3, -4, 2**40, -(2**40), 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("op_type", INDEXED)
def test_indices_that_point_outside_are_errors(op_type: str, index: int):
    """No memory beside the tensor is read or written."""
    attributes, inputs = INDEXED[op_type]
    places = np.array([[index]] if op_type.endswith("ND") else [index], np.int64)
    operands = [np.ones(3, np.float32), places, np.ones(1, np.float32)][: inputs + 1]
    model, values = single_node(op_type, operands, opset_version=17, **attributes)
    with pytest.raises((IndexError, RuntimeError)):
        ours(model, values)
