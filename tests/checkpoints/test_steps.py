"""Steps from names."""

from __future__ import annotations

import pytest

from intrain_onnx.checkpoints.steps import arrived, number_in, numbered


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("step120.onnx", 120),
        ("run7/epoch2-step0120.onnx", 120),
        ("model.v1.onnx", 1),
        ("last.onnx", None),
        ("7/last.onnx", None),
        ("a" + "9" * 60 + ".onnx", None),
        ("e²3.onnx", 3),
    ],
)
def test_the_last_number_of_the_name(name: str, number: int | None):
    assert number_in(name) == number


def test_numbers_where_all_have_one_of_their_own():
    assert numbered(["s20.onnx", "s3.onnx"], {}) == {"s20.onnx": 20, "s3.onnx": 3}


@pytest.mark.parametrize("names", [["b.onnx", "a3.onnx"], ["b3.onnx", "a3.onnx"]])
def test_the_order_given_otherwise(names: list[str]):
    assert numbered(names, {}) == {names[0]: 0, names[1]: 1}


def test_steps_of_an_earlier_run_stay():
    known = {"a1.onnx": 0, "b.onnx": 1}
    assert numbered(["b.onnx", "a1.onnx", "c.onnx"], known) == {"a1.onnx": 0, "b.onnx": 1, "c.onnx": 2}
    assert numbered(["a1.onnx", "c7.onnx"], known) == {**known, "c7.onnx": 7}


def test_what_arrives_takes_its_number_or_the_next():
    assert arrived("s5.onnx", [1, 2]) == 5
    assert arrived("s2.onnx", [1, 2]) == 3
    assert arrived("new.onnx", []) == 0
