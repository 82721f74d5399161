"""Outlines: the same analysis as of the whole model, and no other flaw passes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from builders import model

from intrain_onnx.bench.spaces import SPACES, Space
from intrain_onnx.bench.writer import Writer, outlines
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, ModelFileError
from intrain_onnx.loading.load import load
from intrain_onnx.loading.outline import is_outline, load_outline
from intrain_onnx.rewrites.network import Network
from intrain_onnx.search.costs import Counter, of_model

WRITTEN = sorted(set(SPACES) - {"torchvision", "digits"})
"""Spaces whose writers leave weights zero."""


def outline(space: Space, name: str) -> onnx.ModelProto:
    with outlines():
        made = space.build(name, fold=True, size=space.size)
    assert isinstance(made, onnx.ModelProto)
    return made


@pytest.mark.parametrize("name", WRITTEN)
def test_the_analysis_is_that_of_the_whole_model(name: str):
    space = SPACES[name]
    architecture = space.draw(random.Random(3))
    whole, made = space.build(architecture, fold=True, size=space.size), outline(space, architecture)
    assert not is_outline(whole)
    assert is_outline(made)
    assert made.ByteSize() < 500_000
    config = ScoreConfig.for_protocol(size=space.size, sequence=space.size)
    ours, theirs = (Network.of(loaded, config, keyed=True) for loaded in (load_outline(made), load(whole)))
    assert ours.layers == theirs.layers
    assert ours.single == theirs.single
    assert Counter(space, space.size)(architecture) == of_model(whole, space.size)


def test_weights_that_are_drawn_are_whole():
    space = SPACES["digits"]
    assert not is_outline(outline(space, space.draw(random.Random(0))))


def test_an_outline_is_no_model_elsewhere():
    space = SPACES["macro"]
    made = outline(space, space.draw(random.Random(0)))
    with pytest.raises(ModelFileError, match="no data for the shape"):
        load(made)
    assert not load_outline(made).fresh().graph.initializers["weight_0"].const_value.numpy().any()


def test_writers_write_whole_models_again():
    with outlines():
        Writer(True).weight(2, 3)
    writer = Writer(True)
    writer.weight(2, 3)
    assert writer.weights[0].raw_data == np.zeros((2, 3), np.float32).tobytes()


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ({"data_type": 99}, "unknown element type 99"),
        ({"dims": [-1, -2]}, "negative dimension"),
        ({"dims": [2**40, 2**40]}, "over the limit elements"),
        ({"raw_data": b"123"}, "3 bytes of data"),
        ({"data_type": onnx.TensorProto.INT64}, "no data for the shape"),
        ({"name": "x"}, "'w' is never made"),
    ],
)
def test_other_flaws_are_told(flaw: dict[str, Any], message: str):
    made = model("(float[1,2] x) => (float[1,3] y) { y = MatMul(x, w) }", {"w": np.zeros((2, 3), np.float32)})
    made.graph.initializer[0].ClearField("raw_data")
    assert load_outline(made).tensor_bytes == 0
    del made.graph.initializer[:]
    made.graph.initializer.append(onnx.TensorProto(**{"name": "w", "data_type": 1, "dims": [2, 3]} | flaw))
    with pytest.raises(IntrainError, match=message):
        load_outline(made)
