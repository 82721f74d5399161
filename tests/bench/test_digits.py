"""The space `digits`: the weights that it draws, the networks that were trained, and the table of them."""

from __future__ import annotations

import csv
import importlib.util
import math
import statistics
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from intrain_onnx.bench.spaces import SPACES, digits

from .examples import EXAMPLES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPACE = SPACES["digits"]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The script that trained the networks."""
    spec = importlib.util.spec_from_file_location("train_digits", BENCHMARKS / "train_digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("description", EXAMPLES["digits"].architectures(SPACE, 6))
def test_the_network_that_is_trained_is_that_of_the_file(maker: ModuleType, description: str):
    torch.manual_seed(0)
    images = torch.randn(3, 1, 8, 8)
    network = maker.initial(description).eval()
    with torch.no_grad():
        expected = network(images).numpy()
    model = SPACE.build(description, fold=False)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": images.numpy()})
    # Relative to what differs between images: biases are zero, and what gain leaves of them may be small.
    assert np.ptp(expected, 0).max() > 0
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected, 0).max())


def layers(model: onnx.ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(w) for w in model.graph.initializer if len(w.dims) > 1]


@pytest.mark.parametrize("gain", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("norm", ["true", "false"])
def test_weights_have_the_scale_of_their_layer(gain: float, norm: str):
    description = f'{{"depth":8,"width":32,"gain":{gain},"residual":true,"norm":{norm}}}'
    model = SPACE.build(description, fold=False)
    for weight in layers(model):
        ratio = weight.std() / (gain * math.sqrt(2 / weight[0].size))
        assert abs(ratio - 1) < 4 / math.sqrt(2 * weight.size)  # four standard errors of a deviation
    others = [numpy_helper.to_array(w) for w in model.graph.initializer if len(w.dims) == 1]
    assert {value for bias in others for value in bias} == ({0.0, 1.0} if norm == "true" else {0.0})


def test_weights_repeat_and_do_not_depend_on_the_form():
    kept, again, folded = (
        layers(SPACE.build(EXAMPLES["digits"].degenerate[0], fold=fold)) for fold in (False, False, True)
    )
    for first, *rest in zip(kept, again, folded, strict=True):
        assert all(np.array_equal(first, other) for other in rest)


def test_families_are_plain_and_residual():
    found = [digits.family(description) for description in EXAMPLES["digits"].degenerate]
    assert found == ["residual", "residual", "plain", "plain"]


def test_the_table_has_the_networks_that_its_maker_draws(maker: ModuleType):
    with (BENCHMARKS / "digits.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) > 50
    assert [SPACE.describe(row) for row in rows] == maker.drawn(len(rows))
    for row in rows:
        runs = [float(accuracy) for accuracy in row["accuracy_runs"].split(";")]
        assert len(runs) == maker.RUNS
        assert float(row["accuracy"]) == pytest.approx(statistics.fmean(runs), abs=0.006)  # rounded, both
