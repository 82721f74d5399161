"""Differences of outputs with what they are by hand, and what excuses one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from intrain_onnx.parity.compare import (
    ABSOLUTE_TOLERANCE,
    RELATIVE_TOLERANCE,
    Parity,
    Spread,
    compare,
    failed,
    spread_of,
)


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


def answer(relative: float, *integers: str) -> Spread:
    return Spread({"y": relative}, frozenset(integers), "round-off alone changes it")


def test_what_differs_no_more_than_round_off_explains_is_no_difference():
    for amplified, ok in ((0.1, True), (0.1 / 4.5, False), (0.25, None)):
        found = compared([1.4], [1.0], round_off=lambda amplified=amplified: answer(amplified))
        assert (found.ok, found.round_off) == (ok, amplified)
    assert compared([1.0], [1.0], round_off=lambda: answer(1.0)).round_off is None  # not asked for
    assert compared(np.zeros(2), np.zeros(3), round_off=lambda: answer(1e9)).ok is False
    assert compared(np.array([1]), np.array([2]), round_off=lambda: answer(1e9)).ok is False
    found = compared(np.array([1]), np.array([2]), round_off=lambda: answer(0.0, "y"))
    assert (found.ok, found.reason) == (
        None,
        "cannot decide: y: 1 of 1 integers differ; round-off alone changes it too",
    )


def test_a_comparison_that_cannot_be_made_says_why():
    found = failed("no kernel", 4)
    assert (found.ok, found.reason, found.samples, found.max_abs_diff) == (None, "no kernel", 4, None)


def test_an_allowance_of_the_whole_output_decides_nothing():
    found = compared([1.4], [1.0], round_off=lambda: answer(0.25))
    assert found.reason == "cannot decide: y: relative difference 0.4; round-off alone changes it by 0.25"
    found = compared([1.4], [1.0], round_off=lambda: None)
    assert found.reason == "cannot decide: y: relative difference 0.4; the response to round-off is unknown"


def itself(relative: float, *integers: str) -> Spread:
    return Spread({"y": relative}, frozenset(integers), "onnxruntime differs from itself", "optimised or not")


def test_a_difference_of_the_size_that_onnxruntime_has_from_itself_is_none():
    found = compared([1.4], [1.0], itself=lambda: itself(0.11))
    assert (found.ok, found.reason) == (True, None)
    assert found.reference.endswith(", which differs from itself by 0.11 (optimised or not)")
    found = compared([1.4], [1.0], itself=lambda: itself(0.09))
    assert (found.ok, found.reason) == (False, "y: relative difference 0.4")
    assert "itself" not in found.reference
    found = compared([1.4], [1.0], itself=lambda: itself(1.26))
    assert found.ok is None
    assert found.reason == (
        "cannot decide: y: relative difference 0.4; onnxruntime differs from itself by 1.3 (optimised or not)"
    )


def test_integers_that_onnxruntime_does_not_repeat_cannot_be_decided():
    ours, reference = np.array([1, 2]), np.array([1, 3])
    assert compared(ours, reference, itself=lambda: itself(0.0, "y")).ok is None
    assert compared(ours, reference, itself=lambda: itself(9.0)).ok is False


def test_onnxruntime_is_asked_again_only_where_something_differs():
    def never() -> Spread:
        raise AssertionError

    assert compared([1.0], [1.0], itself=never).ok


def test_how_far_onnxruntime_is_from_itself_is_the_most_of_its_runs():
    a, b = np.array([1.0, -4.0], np.float32), np.array([3, 4])
    found = spread_of(
        ["y", "i"],
        [a, b],
        {"plain": [a + np.float32(1), b], "nudged": [a, np.array([3, 5])], "cut": [a[:1], b]},
        "it differs",
    )
    assert found == Spread({"y": 0.25, "i": 0.0}, frozenset({"i"}), "it differs", "plain")


def test_what_is_excused_hides_no_other_difference():
    def excuse(name: str, other_shape: bool) -> str | None:
        return "not comparable: by chance" if name == "r" and not other_shape else None

    def found(y: float, shape: tuple[int, ...] = (1,)) -> Parity:
        ours = [torch.full((1,), y), torch.full((1,), 7.0)]
        return compare(
            ours, [np.ones(1, np.float32), np.ones(shape, np.float32)], ["y", "r"], 1, excuse=excuse
        )

    assert (found(1.0).ok, found(1.0).reason) == (None, "not comparable: by chance")
    assert found(1.0).max_rel_diff == 0.0, "of what was compared"
    assert (found(2.0).ok, found(2.0).reason) == (False, "y: relative difference 1")
    assert found(1.0, (2,)).ok is False
