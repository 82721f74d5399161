"""Differences of outputs with what they are by hand, and a network's answer to round-off."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builders import model, normalised

from intrain_onnx.parity.compare import (
    ABSOLUTE_TOLERANCE,
    RELATIVE_TOLERANCE,
    Parity,
    compare,
    failed,
)
from intrain_onnx.parity.round_off import ROUND_OFF, response_to_round_off
from intrain_onnx.runtime.convert import convert


def compared(
    ours: list[float] | np.ndarray, reference: list[float] | np.ndarray, **options: object
) -> Parity:
    a, b = (np.asarray(v, np.float32 if isinstance(v, list) else None) for v in (ours, reference))
    return compare([torch.from_numpy(a)], [b], ["y"], 2, **options)  # type: ignore[arg-type]


def test_differences_are_the_largest_and_over_the_largest_magnitude():
    found = compared([1.0, 2.0, -4.0], [1.0, 2.5, -8.0])
    assert (found.max_abs_diff, found.max_rel_diff) == (4.0, 0.5)
    assert (found.ok, found.reason) == (False, "y: relative difference 0.5")
    assert found.samples == 2
    assert found.reference.startswith("onnxruntime ")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize(("share", "ok"), [(0.9, True), (1.1, False)])
def test_the_tolerance_is_relative_to_the_output(scale: float, share: float, ok: bool):
    off = share * (RELATIVE_TOLERANCE * scale + ABSOLUTE_TOLERANCE)
    reference = np.array([scale, 0.0])
    assert compared(np.array([scale, off]), reference).ok is ok


@pytest.mark.parametrize(("share", "ok"), [(0.9, True), (1.1, False)])
def test_an_output_of_zeros_may_be_off_by_the_absolute_tolerance(share: float, ok: bool):
    found = compared(np.array([share * ABSOLUTE_TOLERANCE]), np.zeros(1))
    assert found.ok is ok
    assert found.max_rel_diff == found.max_abs_diff


@pytest.mark.parametrize(
    ("ours", "reference", "ok"),
    [
        ([math.nan, 1.0], [math.nan, 1.0], True),
        ([math.inf, -math.inf], [math.inf, -math.inf], True),
        ([math.nan, 1.0], [0.0, 1.0], False),
        ([math.inf, 1.0], [-math.inf, 1.0], False),
        ([3e38, 1.0], [math.inf, 1.0], False),
    ],
)
def test_what_is_not_finite_must_be_the_same(ours: list[float], reference: list[float], ok: bool):
    found = compared(ours, reference)
    assert found.ok is ok
    assert (found.max_abs_diff == 0.0) if ok else (found.max_abs_diff is None)


def test_integers_are_equal_or_off_by_a_step_of_quantisation():
    ours, reference = np.array([1, 2, 3, 9]), np.array([1, 3, 3, 7])
    assert compared(ours, reference).reason == "y: 2 of 4 integers differ"
    assert compared(ours, reference, steps={"y": 1.0}).reason == "y: 1 of 4 integers differ"
    assert compared(ours, reference, steps={"y": 2.0}).ok
    assert compared(ours, ours).ok


def test_a_step_of_quantisation_is_allowed_between_floats_too():
    assert compared([0.5, 1.0], [0.25, 1.0], steps={"y": 0.25}).ok
    assert not compared([0.6, 1.0], [0.25, 1.0], steps={"y": 0.25}).ok
    assert not compared([0.5, 1.0], [0.25, 1.0], steps={"z": 0.25}).ok


def test_shapes_must_be_the_same():
    found = compared(np.zeros((1, 3)), np.zeros((3, 1)))
    assert (found.ok, found.reason) == (False, "y: shape (1, 3) instead of (3, 1)")


def test_what_differs_no_more_than_round_off_explains_is_no_difference():
    for amplified, ok in ((0.1, True), (0.1 / 4.5, False)):
        found = compared([1.4], [1.0], round_off=lambda amplified=amplified: amplified)
        assert (found.ok, found.round_off) == (ok, amplified)
    assert compared([1.0], [1.0], round_off=lambda: 1.0).round_off is None  # not asked for
    for ours, reference in ((np.zeros(2), np.zeros(3)), (np.array([1]), np.array([2]))):
        assert not compared(
            ours, reference, round_off=lambda: 1e9
        ).ok  # round-off makes no other shape, no integer


def test_a_comparison_that_cannot_be_made_says_why():
    found = failed("no kernel", 4)
    assert (found.ok, found.reason, found.samples, found.max_abs_diff) == (None, "no kernel", 4, None)


def answer(text: str, constant: float, x: torch.Tensor, rounding: float = 0.0) -> float:
    proto = model(f"(float[N,8] x) => (float[N,8] y) {{ {text} }}", {"c": np.array(constant, np.float32)})
    return response_to_round_off(convert(normalised(proto, batch=None)), [x], rounding)


def test_the_answer_to_round_off_is_the_condition_of_the_network():
    """(x + c) - c multiplies an error of the sum by c / |x|; a product answers with the error itself."""
    x = torch.linspace(0.5, 1.0, 32).reshape(4, 8)
    calm, cancelling = answer("y = Mul(x, c)", 3.0, x), answer("h = Add(x, c) y = Sub(h, c)", 1000.0, x)
    assert 1.0 < calm / ROUND_OFF < 5.0  # the largest of a hundred normal numbers
    assert cancelling / calm == pytest.approx(1000, rel=0.5)
    assert answer("y = Mul(x, c)", 3.0, x, rounding=2.0**-8) / calm == pytest.approx(
        2.0**-8 / ROUND_OFF, rel=0.01
    )
