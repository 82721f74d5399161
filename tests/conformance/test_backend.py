"""ONNX's official backend suite, and that the exclude table has no stale line."""

import re

import numpy as np
import onnx.backend.test
import onnx.parser
import pytest

from intrain_onnx.backend import Backend

from .excluded import CASES
from .suite import ToTorch, load_cases

ALL = load_cases()


@pytest.mark.parametrize("case", [c for c in ALL if not c.excluded], ids=lambda c: c.name)
def test_case_passes(case):
    error = case.run()
    if error is not None:
        raise error


@pytest.mark.parametrize("case", [c for c in load_cases(ToTorch) if not c.excluded], ids=lambda c: c.name)
def test_case_passes_through_to_torch(case):
    error = case.run()
    if error is not None:
        raise error


@pytest.mark.parametrize("case", [c for c in ALL if c.excluded], ids=lambda c: c.name)
def test_excluded_case_still_fails(case):
    assert case.run() is not None, "it passes: take it out of the exclude table"


def test_loop16_seq_none_is_right_where_scalars_may_be_compared(monkeypatch):
    compared = []

    def compare(ref_outputs, outputs, rtol, atol, model_dir=None):
        for found, expected in zip(outputs[0], ref_outputs[0], strict=True):
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, strict=True)
            compared.append(found.shape)

    monkeypatch.setattr(onnx.backend.test.BackendTest, "assert_similar_outputs", staticmethod(compare))
    (case,) = (case for case in ALL if case.name == "test_loop16_seq_none_cpu")
    assert case.run() is None
    assert compared[0] == ()
    assert len(compared) == 6


@pytest.mark.parametrize("pattern", CASES)
def test_pattern_excludes_something(pattern):
    assert any(re.search(pattern, case.name) for case in ALL)


def test_figure_stays():
    passing = sum(1 for case in ALL if not case.excluded)
    assert passing >= 1965, "of the 2,024 cases of onnx 1.23.2"


def test_prepare_leaves_the_model_alone():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[2] x) => (float[2] y)'
        " { c = Constant <value = float[2] {1, 2}> () y = Add (x, c) }"
    )
    before = model.SerializeToString()
    (y,) = Backend.run_model(model, [np.ones(2, np.float32)])
    assert model.SerializeToString() == before
    np.testing.assert_array_equal(y, [2, 3])
