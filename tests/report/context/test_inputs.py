"""What a network reads, in words, by models that were scored and by rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from intrain_onnx.inspection import inspect
from intrain_onnx.report.context.inputs import in_words, mixed_inputs
from intrain_onnx.report.rows import FedInput
from intrain_onnx.vocabulary import InputKind

SAMPLES = Path(__file__).parents[3] / "samples"


def fed(kind: InputKind, *shape: int) -> FedInput:
    return FedInput("x", shape, kind, None, "synthetic", None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([fed("noise", 16, 3, 64, 64)], "images of 64x64"),
        ([fed("noise", 16, 32, 48, 1)], "images of 32x48"),
        ([fed("given", 2, 3, 8, 9, 10)], "volumes of 8x9x10"),
        ([fed("noise", 16, 128)], "vectors"),
        ([fed("noise", 16, 64, 128)], "arrays of 64x128"),
        ([fed("ids", 16, 64)], "ids of 64"),
        ([fed("ids", 16)], "single ids"),
        ([fed("ids", 16, 64), fed("ones", 16, 64), fed("zeros", 16, 64)], "ids of 64"),
        ([fed("noise", 16, 3, 9, 9), fed("ids", 16, 7)], "2 inputs: images of 9x9 and ids of 7"),
        ([fed("noise", 9, 4), fed("edge_index", 2, 20)], "2 inputs: vectors and edges"),
        ([fed("ones", 16, 7)], "vectors"),
    ],
)
def test_inputs_that_carry_data_are_named(rows: list[FedInput], words: str):
    assert in_words(rows) == words


def test_channels_last_and_first_read_alike():
    """The same mixer and its twin: layouts of exporters say nothing of what a network reads."""
    assert in_words([fed("noise", 4, 32, 32, 3)]) == in_words([fed("noise", 4, 3, 32, 32)])
    shapes = inspect(SAMPLES / "jax_cnn.onnx").data["model"]["inputs"][0]["shape"]
    assert shapes[1:] == [32, 32, 3]


def test_different_inputs_are_counted_and_told():
    assert mixed_inputs(["images of 64x64", None, "images of 64x64"]) == ""
    assert mixed_inputs([]) == ""
    said = mixed_inputs(["ids of 64", "images of 64x64", "images of 64x64"])
    assert said.endswith("cannot be compared: here images of 64x64 (2), ids of 64 (1)")
    assert mixed_inputs(f"ids of {n}" for n in range(7)).endswith("ids of 3 (1) and 3 more")
