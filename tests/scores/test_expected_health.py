"""The null of the gradient health, against gradients of noise."""

from __future__ import annotations

import numpy as np
import pytest

from intrain_onnx.scores.expected_health import expected_health


def simulated(rows: int, outputs: int, inputs: int) -> float:
    generator = np.random.default_rng(rows * outputs + inputs)
    gradients = (
        generator.standard_normal((outputs, rows)) @ generator.standard_normal((rows, inputs))
        for _ in range(60)
    )
    return float(np.median([g.std() / np.abs(g).max() for g in gradients]))


@pytest.mark.parametrize(("outputs", "inputs"), [(10, 64), (64, 576), (384, 25), (1000, 512)])
@pytest.mark.parametrize("rows", [4, 16, 64, 1024])
def test_it_is_what_noise_gives(rows: int, outputs: int, inputs: int):
    assert expected_health(rows, outputs * inputs) == pytest.approx(
        simulated(rows, outputs, inputs), rel=0.08
    )


def test_one_row_is_an_outer_product():
    """The largest of an outer product is the product of the largest: shared elements make it smaller."""
    for outputs, inputs in ((10, 64), (64, 576), (1000, 512)):
        found, wanted = expected_health(1, outputs * inputs), simulated(1, outputs, inputs)
        assert 0.8 * wanted < found < 1.05 * wanted


def test_it_falls_with_size_and_rises_with_rows():
    sizes = [expected_health(64, size) for size in (1, 10, 1000, 10**7)]
    rows = [expected_health(rows, 5000) for rows in (1, 2, 8, 64, 4096, 10**9)]
    assert sizes == sorted(sizes, reverse=True)
    assert rows == sorted(rows)
    assert all(0 < value <= 1 for value in sizes + rows)
