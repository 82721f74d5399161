"""Policies: read strictly, with defaults, waivers and their dates."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path

import pytest

from audit.conftest import TODAY, quick
from intrain_onnx.audit import policy
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.run import Result, judge
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import SettingsError

WAIVER = '[[waivers]]\ncheck = "batch-norm-folded"\nreason = "inference only"\n'


def test_the_default_policy_has_every_check_at_its_default():
    told = policy.default()
    assert list(told.rules) == list(CHECKS)
    assert told == policy.parse("", "default")
    for name, rule in told.rules.items():
        assert rule.severity == CHECKS[name].severity
        assert rule.options == CHECKS[name].options()


def test_what_is_told_replaces_the_default():
    text = 'fail_on = "warning"\n[run]\nbatch = 4\n[run.input_shapes]\nx = [1, 3, 8, 8]\n'
    text += '[checks.opset-range]\nseverity = "note"\nmin = 11\nmax = false\n'
    told = policy.parse(text)
    rule = told.rules["opset-range"]
    assert (rule.severity, asdict(rule.options)) == ("note", {"min": 11, "max": None})
    assert (told.run.batch, told.run.seeds, told.run.input_shapes) == (4, 3, {"x": (1, 3, 8, 8)})
    assert [told.fails(s) for s in ("error", "warning", "note")] == [True, True, False]
    assert not policy.parse('fail_on = "never"').fails("error")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fail_on = 3", "fail_on"),
        ("version = 2", "version"),
        ("colour = 1", "colour"),
        ("= 1", "TOML"),
        ("checks = 1", "checks"),
        ("[checks.no-such]\n", "no-such"),
        ("[checks.opset-range]\nmiin = 3", "miin"),
        ("[checks.opset-range]\nmin = 3.5", "min"),
        ("[checks.opset-range]\nmin = true", "min"),
        ("[checks.opset-range]\nmin = -1", "min"),
        ("[checks.opset-range]\nmin = false", "min"),
        ('[checks.opset-range]\nseverity = "fatal"', "opset-range"),
        ("[checks.zero-channels]\nmax_share = 1.5", "max_share"),
        ("[checks.custom-ops]\nallow = [1]", "allow"),
        ("[checks.external-data]\nallow = 1", "allow"),
        ("[run]\nseeds = 0", "seeds"),
        ("[run]\nspeed = 1", "speed"),
        ("[run]\nparity = 1", "parity"),
        ('[run]\ndevice = "tpu"', "device"),
        ("[run.input_shapes]\nx = [0]", "input_shapes"),
        ("waivers = 1", "waivers"),
        ('[[waivers]]\ncheck = "macs"', "reason"),
        ('[[waivers]]\nreason = "x"', "check"),
        ('[[waivers]]\ncheck = "no-such"\nreason = "x"', "no-such"),
        (WAIVER + "layer = 3", "layer"),
        (WAIVER + 'expires = "soon"', "expires"),
        (WAIVER + "expires = 2027-01-01T00:00:00", "expires"),
        (WAIVER + "until = 2027-01-01", "until"),
    ],
)
def test_what_is_wrong_is_named(text: str, names: str):
    with pytest.raises(SettingsError, match=names) as caught:
        policy.parse(text)
    assert caught.value.hint or names in ("TOML",) or "no-such" in names


def test_a_file_is_named_in_its_errors(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nothing\.toml"):
        policy.load(tmp_path / "nothing.toml")
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"bad\.toml"):
        policy.load(file)
    file.write_text("colour = 1")
    with pytest.raises(SettingsError, match=r"bad\.toml.*colour"):
        policy.load(file)


def judged(healthy: Evidence, text: str) -> Result:
    return judge(healthy, quick(text), TODAY)


def test_a_waiver_keeps_the_finding_and_its_reason(healthy: Evidence):
    [finding] = judged(healthy, f'fail_on = "note"\n{WAIVER}').findings
    assert finding.waiver is not None
    assert finding.waiver.reason == "inference only"
    assert judged(healthy, f'fail_on = "note"\n{WAIVER}').passed
    assert not judged(healthy, 'fail_on = "note"').passed


@pytest.mark.parametrize(("day", "holds"), [("2026-06-01", True), ("2026-05-31", False)])
def test_a_waiver_holds_through_its_last_day(day: str, holds: bool, healthy: Evidence):
    result = judged(healthy, f"{WAIVER}expires = {day}")
    checks = {f.check: f for f in result.findings}
    assert (checks["batch-norm-folded"].waiver is not None) == holds
    assert ("waiver-expired" in checks) != holds
    assert result.passed == holds


def test_an_expired_waiver_can_be_made_a_warning(healthy: Evidence):
    text = f'[checks.waiver-expired]\nseverity = "warning"\n{WAIVER}expires = 2020-01-01'
    assert judged(healthy, text).passed


def test_a_waiver_that_matches_nothing_is_a_note(healthy: Evidence):
    text = '[[waivers]]\ncheck = "dead-*"\nlayer = "block?/*"\nreason = "old"'
    told = [f for f in judged(healthy, text).findings if f.check == "waiver-unused"]
    assert [f.severity for f in told] == ["note"]
    assert "dead-*" in (told[0].found.place or "")


def test_two_waivers_of_the_same_finding_are_both_used(healthy: Evidence):
    result = judged(healthy, WAIVER + WAIVER)
    assert [f.check for f in result.findings] == ["batch-norm-folded"]


@pytest.mark.parametrize(
    ("check", "layer", "place", "matches"),
    [
        ("macs", "*", None, True),
        ("dead-*", "a/*", "a/b/c", True),
        ("dead-*", "a/?", "a/bc", False),
        ("dead-layers", "A", "a", False),
    ],
)
def test_patterns_of_waivers(check: str, layer: str, place: str | None, matches: bool):
    waiver = policy.Waiver(check=check, layer=layer, reason="why", expires=datetime.date(2030, 1, 1))
    assert waiver.matches("macs" if check == "macs" else "dead-layers", place) == matches
