"""Alarms against rows whose values are written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from checkpoints.conftest import row
from intrain_onnx.checkpoints.alarms import DEFAULTS, alarms, thresholds
from intrain_onnx.checkpoints.rows import Error, Step
from intrain_onnx.errors import SettingsError


def told(rows: list[Step], **changes: float) -> list[tuple[str, int, str | None]]:
    return [(a.rule, a.step, a.layer) for a in alarms(rows, thresholds(changes))]


SOUND = [row(i) for i in range(8)]


def test_a_sound_series_has_none():
    assert told(SOUND) == []


@pytest.mark.parametrize(
    ("rule", "bad", "layer"),
    [
        ("collapse", row(8, {"participation_ratio": 2.0}), "conv"),  # 1 of 11 effective channels beyond one
        ("collapse", row(8, {"participation_ratio": None, "status": "collapsed"}), "conv"),
        ("death", row(8, {"dead_channels": 8}), "conv"),
        ("death", row(8, {"participation_ratio": None, "status": "dead"}), "conv"),
        ("score", row(8, intrain=9.0), None),
        ("score", row(8, volume=24.0), None),
        ("jump", row(8, {"distance_to_previous": 0.21}), "conv"),
        ("jump", row(8, distance_to_previous=0.21), None),
        ("gradient", row(8, gradient_norm=101.0), None),
        ("not-finite", row(8, {"not_finite": 3}, not_finite=3), "conv"),
        ("not-finite", row(8, status="failed", error=Error("NumericalError", "overflow", 5)), None),
    ],
)
def test_each_alarm_begins_once_with_its_step_and_layer(rule: str, bad: Step, layer: str | None):
    again = [
        *SOUND,
        bad,
        *(_later(bad, step) for step in (9, 10)),
    ]
    found = [x for x in told(again) if x[0] == rule]
    assert found == [(rule, 8, layer)]


def _later(bad: Step, step: int) -> Step:
    changes: dict[str, Any] = {name: getattr(bad, name) for name in bad.__struct_fields__}
    changes |= {"path": f"step{step}.onnx", "step": step, "previous_step": step - 1}
    return Step(**changes)


@pytest.mark.parametrize(
    "near",
    [
        row(8, {"participation_ratio": 2.2}),
        row(8, {"dead_channels": 7}),
        row(8, intrain=10.1, volume=25.1),
        row(8, {"distance_to_previous": 0.19}, distance_to_previous=0.19),
        row(8, gradient_norm=99.0),
    ],
)
def test_what_is_within_the_thresholds_is_none(near: Step):
    assert told([*SOUND, near]) == []


def test_an_alarm_that_ends_may_begin_again():
    rows = [*SOUND, row(8, intrain=5.0), row(9), row(10, intrain=5.0)]
    assert told(rows) == [("score", 8, None), ("score", 10, None)]


def test_a_value_under_an_alarm_does_not_become_usual():
    """Half a window of collapsed checkpoints later, the layer still counts as collapsed."""
    rows = [*SOUND, *(row(i, {"participation_ratio": 1.5}) for i in range(8, 20)), row(20)]
    assert told(rows) == [("collapse", 8, "conv")]


def test_before_the_window_is_full_there_is_no_past():
    early = [row(i) for i in range(4)] + [row(4, intrain=1.0, gradient_norm=1e6)]
    assert told(early) == []
    assert {rule for rule, _, _ in told(early, window=4)} == {"score", "gradient"}


def test_channels_that_die_one_by_one_are_counted_from_the_least_ever():
    rows = [row(i, {"dead_channels": i}) for i in range(20)]
    assert told(rows) == [("death", 8, "conv")]


def test_one_dead_channel_of_three_is_no_death():
    rows = [row(i, {"channels": 3, "dead_channels": int(i > 5)}) for i in range(8)]
    assert told(rows) == []


def test_a_longer_interval_may_lead_farther():
    """Ten times the steps lead ten times as far on a straight way: no jump. Twice that with 4: one."""
    far = {"previous_step": 7, "distance_to_previous": 0.5}
    assert told([*SOUND, row(17, {"distance_to_previous": 0.5}, **far)]) == []
    far["distance_to_previous"] = 2.1
    assert told([*SOUND, row(17, {"distance_to_previous": 0.5}, **far)]) == [("jump", 17, None)]


def test_a_shorter_interval_leads_almost_as_far_on_a_random_walk():
    """A quarter of the steps: half of the distance is usual, so that four times that is the threshold."""
    rows = [row(4 * i, previous_step=4 * i - 4 if i else None) for i in range(8)]
    near = row(29, {"distance_to_previous": 0.09}, distance_to_previous=0.09)
    assert told([*rows, near]) == []


def test_a_layer_that_hardly_moves_does_not_jump():
    still = [row(i, {"distance_to_previous": 1e-6}) for i in range(8)]
    assert told([*still, row(8, {"distance_to_previous": 0.009})]) == []


def test_an_untrained_batch_norm_is_no_past():
    """Its checkpoint was measured on batch statistics, and the distance from it is that of its statistics."""
    first = row(0, intrain=1e6, warnings=("untrained_batch_norm",))
    rows = [first, row(1, {"distance_to_previous": 9.0}, distance_to_previous=9.0), *SOUND[2:]]
    assert told(rows) == []


def test_another_architecture_says_nothing():
    other = row(8, status="other", not_finite=0, error=Error("OtherArchitecture", "no", 7))
    assert told([*SOUND, other]) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colapse": 0.1}, "no threshold is called colapse. They are collapse, score"),
        ({"jump": -1}, "the threshold jump is -1"),
        ({"jump": float("nan")}, "the threshold jump is nan"),
        ({"death": float("inf")}, "the threshold death is inf"),
    ],
)
def test_a_wrong_threshold_says_what_would_be_right(changes: dict[str, float], said: str):
    with pytest.raises(SettingsError, match=said):
        thresholds(changes)


def test_thresholds_keep_their_defaults():
    assert thresholds({"jump": 9}) == {**DEFAULTS, "jump": 9}
