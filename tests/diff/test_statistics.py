"""Differences of tensors, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from intrain_onnx.diff import statistics
from intrain_onnx.diff.statistics import Sums


@pytest.mark.parametrize("noise", [1e-4, 0.3, 2.0])
@pytest.mark.parametrize("calls", [1, 3])
def test_figures_are_those_of_numpy(noise: float, calls: int):
    random = np.random.default_rng(0)
    a = random.standard_normal((6, 50)) + 0.5
    b = a + noise * random.standard_normal(a.shape)
    sums = Sums()
    for one, other in zip(np.split(a, calls), np.split(b, calls), strict=True):
        sums.add(one, other)
    found, error = sums.row(), np.linalg.norm(a - b) / np.linalg.norm(a)
    assert found.relative_error == pytest.approx(error, rel=1e-9)
    assert found.snr_db == pytest.approx(-20 * np.log10(error), rel=1e-9)
    assert found.correlation == pytest.approx(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1], rel=1e-9)
    assert found.max_abs_error == np.abs(a - b).max()
    assert (found.elements, found.equal, found.not_finite) == (300, False, 0)


def test_equal_tensors_have_no_noise():
    a = np.arange(6.0)
    found = statistics.of(a, a.copy())
    assert found.equal
    assert (found.relative_error, found.snr_db, found.max_abs_error) == (0.0, None, 0.0)
    assert found.correlation == pytest.approx(1.0)


def test_what_is_finite_in_the_reference_alone_is_counted_and_left_out():
    a, b = np.array([1.0, 2.0, np.nan, 4.0]), np.array([1.0, np.inf, 3.0, 5.0])
    found = statistics.of(a, b)
    assert (found.not_finite, found.elements) == (1, 2)
    assert found.relative_error == pytest.approx(1 / np.sqrt(17))


def test_what_does_not_vary_has_no_correlation():
    assert statistics.of(np.ones(4), np.arange(4.0)).correlation is None
    assert statistics.of(np.full(1000, 0.1, np.float32), np.arange(1000.0)).correlation is None


def test_nothing_beside_something_has_no_relative_error():
    found = statistics.of(np.zeros(3), np.ones(3))
    assert (found.relative_error, found.snr_db) == (None, None)
    assert found.max_abs_error == 1


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        statistics.of(np.zeros(2), np.zeros(3))
