"""Policies: read strictly, with defaults, waivers and their dates."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from msgspec import Meta

from audit.conftest import TODAY, quick
from intrain_onnx.audit import policy
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.fields import fields_of
from intrain_onnx.audit.formats import FORMATS, terminal
from intrain_onnx.audit.gather import PROTOCOLS, config_for
from intrain_onnx.audit.policy import load
from intrain_onnx.audit.run import Audits, Result, broken, judge
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.cli import main
from intrain_onnx.errors import ModelFileError, SettingsError

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
    given = policy.parse('[run.inputs]\na = 1\nb = 0.5\nc = [1, 2.5]\nd = "@f.npy"\n').run.inputs
    assert given == {"a": 1, "b": 0.5, "c": (1, 2.5), "d": "@f.npy"}
    sizes = [
        policy.parse(f"[run]\nmax_memory = {told}\n").run.memory() for told in ("0", "400", "4e9", '"2Gi"')
    ]
    assert sizes == [0, 400, 4_000_000_000, 2**31]
    assert [told.fails(s) for s in ("error", "warning", "note")] == [True, True, False]
    assert not policy.parse('fail_on = "never"').fails("error")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fail_on = 3", "fail_on"),
        ("version = 2", "version"),
        ("colour = 1", "colour"),
        ("= 1", "TOML"),
        ('[run]\nmax_memory = "much"', "run.max_memory"),
        ("checks = 1", "checks"),
        ("[checks.no-such]\n", "no-such"),
        ("[checks.opset-range]\nmiin = 3", "miin"),
        ("[checks.opset-range]\nmin = 3.5", "min"),
        ("[checks.opset-range]\nmin = true", "min"),
        ("[checks.opset-range]\nmin = -1", "min"),
        ("[checks.opset-range]\nmin = false", "min"),
        ('[checks.opset-range]\nseverity = "fatal"', "opset-range"),
        ("[checks.zero-channels]\nmax_share = 1.5", "max_share"),
        ("[checks.zero-channels]\nmax_share = nan", "max_share"),
        ("[checks.custom-ops]\nallow = [1]", "allow"),
        ("[checks.external-data]\nallow = 1", "allow"),
        ("[run]\nseeds = 0", "seeds"),
        ("[run]\nspeed = 1", "speed"),
        ("[run]\nparity = 1", "parity"),
        ('[run]\ndevice = "tpu"', "device"),
        ("[run.input_shapes]\nx = [0]", "input_shapes"),
        ("[run.input_shapes]\nx = [true]", "input_shapes"),
        ("[run.input_shapes]\nx = 3", "input_shapes"),
        ("[run]\ninputs = 3", "inputs"),
        ("[run.inputs]\nx = true", "inputs"),
        ("[run.inputs]\nx = {}", "inputs"),
        ("[run.inputs]\nx = [[1]]", "inputs"),
        ("waivers = 1", "waivers"),
        ('[[waivers]]\ncheck = "macs"', "reason"),
        ('[[waivers]]\nreason = "x"', "check"),
        ('[[waivers]]\ncheck = "no-such"\nreason = "x"', "no-such"),
        (WAIVER + "layer = 3", "layer"),
        (WAIVER + "model = 3", "model"),
        (WAIVER + 'expires = "soon"', "expires"),
        (WAIVER + "expires = 2027-01-01T00:00:00", "expires"),
        (WAIVER + "until = 2027-01-01", "until"),
    ],
)
def test_what_is_wrong_is_named(text: str, names: str):
    with pytest.raises(SettingsError, match=names) as caught:
        policy.parse(text)
    assert caught.value.hint or names in ("TOML",) or "no-such" in names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('fail_on = "x"', "fail_on is 'x'. Use one of error, warning, note, never"),
        ("colour = 1\nb = 2", "the policy has no 'b', 'colour'. It has version, fail_on, deploy, expect, run, checks, waivers"),
        ("[checks.opset-range]\nmin = true", "checks.opset-range.min is True. It must be a number (int)"),
        ("[checks.opset-range]\nmin = -1", "checks.opset-range.min is -1. It must lie from 0 to inf"),
        ("[checks.weights-rank]\nmin_side = 1", "checks.weights-rank.min_side is 1. It must lie from 2 to inf"),
        ("[checks.zero-channels]\nmax_share = 2", "checks.zero-channels.max_share is 2. It must lie from 0 to 1"),
        ("[checks.zero-channels]\nmax_share = false", "checks.zero-channels.max_share is False. It must be a number (float)"),
        ("[checks.opset-range]\nx = 1", "checks.opset-range has no 'x'. It has severity, min, max"),
        ("[checks.macs]\nseverity = 1", "checks.macs is 1. Use one of error, warning, note, off"),
        ("[checks.custom-ops]\nallow = 'x'", "checks.custom-ops.allow is 'x'. It must be a list of strings"),
        ("[checks.external-data]\nallow = 1", "checks.external-data.allow is 1. It must be true or false"),
        ("[run]\nseeds = 1.0", "run.seeds is 1.0. It must be a whole number from 1"),
        ("[run]\nparity = 1", "run.parity is 1. It must be true or false"),
        ("[run]\ninput_shapes = [1]", "run.input_shapes is [1]. It must be a table"),
        ("[run.input_shapes]\ny = ['a']", "run.input_shapes.y is ['a']. Write [1, 3, 64, 64]"),
        ('[[waivers]]\ncheck = " "\nreason = "x"', "waiver 1 has no check. A waiver names a check and says why"),
        (WAIVER + "layer = 3", "waiver 1: layer is 3. It must be a string"),
        (WAIVER + 'expires = "2027-01-01"', "waiver 1: expires is '2027-01-01'. Write a date: 2027-01-31"),
    ],
)  # fmt: skip
def test_an_error_says_what_to_write(text: str, message: str):
    with pytest.raises(SettingsError) as caught:
        policy.parse(text)
    assert str(caught.value) == message


def test_every_number_is_held_against_its_range():
    """Each limit of the table, at its ends and beyond them."""
    for name, check in CHECKS.items():
        for field in fields_of(check.options).values():
            number = get_args(field.type)[0] if field.may_be_off else field.type
            meta = next((m for m in get_args(number) if isinstance(m, Meta)), None)
            for edge, step in ((meta.ge, -1), (meta.le, 1)) if meta is not None else ():
                if edge is not None:
                    text = f"[checks.{name}]\n{field.name} = "
                    told = policy.parse(f"{text}{edge}").rules[name].options
                    assert getattr(told, field.name) == edge
                    with pytest.raises(SettingsError, match=field.name):
                        policy.parse(f"{text}{edge + step}")


def test_the_settings_of_a_run_are_those_of_a_score():
    run = replace(quick().run, input_shapes={"x": (1, 3)}, seed=5, device="cpu")
    for protocol in PROTOCOLS:
        config = config_for(protocol, run, None)
        told = {
            f.name: getattr(run, f.name) for f in fields(run) if f.name not in ("limits", "providers")
        } | {"parity": protocol == "checkpoint"}
        assert {name: getattr(config, name) for name in told} == told


def test_a_limit_of_infinity_is_none(healthy: Evidence):
    result = judged(
        healthy, "[checks.file-size]\nmax_mb = inf\n[checks.gradient-exploding]\nmax_effect = inf"
    )
    options = {
        c["id"]: c["options"] for c in json.loads(FORMATS["json"](Audits.of([result])))["audits"][0]["checks"]
    }
    assert options["file-size"] == {"max_mb": None}
    assert options["gradient-exploding"] == {"max_effect": None}


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


def run_of(healthy: Evidence, text: str, *paths: str) -> Audits:
    """A run of models that have the findings of the same one."""
    return Audits.of([judge(replace(healthy, path=path), quick(text), TODAY) for path in paths])


FOR_DETECTORS = WAIVER + 'model = "models/det-*.onnx"\n'


def test_a_waiver_is_for_the_models_that_it_names(healthy: Evidence):
    paths = ("models/det-v1.2/a.onnx", "models/other.onnx", "models/det-b.onnx")
    run = run_of(healthy, f'fail_on = "note"\n{FOR_DETECTORS}', *paths)
    assert [r.passed for r in run.results] == [True, False, True]
    assert not run.findings


def test_an_unused_waiver_is_told_once_a_run(healthy: Evidence):
    """Before, every model that had nothing to waive told it: 9 of 25 results of ten models."""
    other = replace(healthy, path="b.onnx", file=replace(healthy.file, warnings=()))
    policy = quick(f'fail_on = "note"\n[checks.batch-norm-folded]\nseverity = "note"\n{WAIVER}')
    used, unused = judge(healthy, policy, TODAY), judge(other, policy, TODAY)
    assert [f.check for f in unused.findings] == ["waiver-unused"]  # a run of this model alone
    assert not Audits.of([used, unused]).findings
    run = Audits.of([unused, replace(unused, path="c.onnx")])
    assert [f.check for f in run.findings] == ["waiver-unused"]
    assert [r.findings for r in run.results] == [(), ()]
    assert [r.passed for r in run.results] == [True, True]
    assert (run.passed, run.exit_code, run.outcome("waiver-unused")) == (False, 1, "found")
    assert run.counts() == {"error": 0, "warning": 0, "note": 1, "waived": 0}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("model = 'elsewhere/*'", []),  # nothing is known of it
        ("model = 'elsewhere/*'\nexpires = 2020-01-01", []),
        ("model = '[ab].onnx'\nexpires = 2020-01-01", ["waiver-expired"]),
        ("model = '*'", ["waiver-unused"]),
    ],
)
def test_a_waiver_is_judged_by_the_models_that_it_is_for(told: str, expected: list[str], healthy: Evidence):
    run = run_of(healthy, f"[[waivers]]\ncheck = 'dead-*'\nreason = 'x'\n{told}", "a.onnx", "b.onnx")
    assert [f.check for f in run.findings] == expected
    assert run.exit_code == (1 if "waiver-expired" in expected else 0)


def test_a_waiver_of_what_could_not_be_looked_at_is_not_unused(healthy: Evidence, tmp_path: Path):
    text = "[[waivers]]\ncheck = 'score-regression'\nreason = 'x'\n"
    assert not run_of(healthy, text, "a.onnx").findings  # without a baseline
    text = text.replace("score-regression", "macs")
    lost = broken(tmp_path / "b.onnx", quick(text), ModelFileError("no model"), TODAY)
    assert [f.check for f in run_of(healthy, text, "a.onnx").findings] == ["waiver-unused"]
    assert not Audits.of([judge(healthy, quick(text), TODAY), lost]).findings


def test_a_run_that_goes_on_tells_no_unused_waiver(healthy: Evidence):
    text = "[[waivers]]\ncheck = 'macs'\nreason = 'x'\n"
    [result] = run_of(healthy, text, "a.onnx").results
    assert Audits.of([result]).passed
    going_on = Audits.of([result], 2)
    assert not going_on.findings
    assert not going_on.passed
    assert going_on.summary().startswith("1 of 1 passed, 1 not audited")
    assert (going_on.outcome("waiver-unused"), Audits.of([result]).outcome("waiver-expired")) == (
        "not_checked",
        "passed",
    )
    [off] = run_of(healthy, f"[checks.waiver-unused]\nseverity = 'off'\n{text}", "a.onnx").results
    assert (Audits.of([off]).findings, Audits.of([off]).outcome("waiver-unused")) == ((), "off")


def test_every_format_tells_a_finding_of_the_run_once(healthy: Evidence, tmp_path: Path):
    file = tmp_path / "strict.toml"
    file.write_text('fail_on = "note"\n[[waivers]]\ncheck = "dead-*"\nlayer = "odd?/*"\nreason = "x"\n')
    policy = replace(load(file), run=quick().run)
    run = Audits.of([judge(replace(healthy, path=f"{i}.onnx"), policy, TODAY) for i in range(3)])
    document = json.loads(FORMATS["json"](run))
    assert [f["check"] for f in document["findings"]] == ["waiver-unused"]
    assert {c["id"]: c["outcome"] for c in document["checks"]}["waiver-unused"] == "found"
    assert not any(f["check"].startswith("waiver") for a in document["audits"] for f in a["findings"])
    log = json.loads(FORMATS["sarif"](run))["runs"][0]
    [row] = [r for r in log["results"] if r["ruleId"] == "waiver-unused"]
    place = row["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == file.as_uri()
    assert log["artifacts"][place["index"]]["roles"] == ["policy"]
    *suites, of_run = ET.fromstring(FORMATS["junit"](run))
    assert (of_run.get("name"), of_run.get("failures")) == (str(file), "1")
    assert not any(str(case.get("name")).startswith("waiver") for suite in suites for case in suite)
    assert FORMATS["github"](run).count(f"::notice file={file}") == 1
    stream = io.StringIO()
    terminal.draw(run, stream)
    for text in (FORMATS["html"](run), stream.getvalue()):
        assert text.count("odd?/*") == 1


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


VALUES = (
    "true",
    "-1",
    "0",
    "1e400",
    "-inf",
    "nan",
    str(2**63 - 1),
    str(-(2**63)),
    '""',
    '"\\u001b[2J"',
    "[]",
    "{}",
)
VALUES += ("1", "0.5", "[[]]", "[nan]", "1979-05-27", "{ x = [] }")


def lines() -> Iterator[tuple[str, str]]:
    """Each field of a policy, by its table."""
    yield from (
        ("", name) for name in ("version", "fail_on", "deploy", "run", "checks", "waivers", "unknown")
    )
    yield from (("[run]", row.name) for row in dataclasses.fields(policy.RunSettings))
    yield from (("[[waivers]]", name) for name in ("check", "layer", "model", "reason", "expires"))
    for check in CHECKS.values():
        yield from ((f"[checks.{check.id}]", row.name) for row in dataclasses.fields(check.options))
        yield f"[checks.{check.id}]", "severity"


def told(text: str) -> str:
    """What it says where it refuses a policy; "" where it does not."""
    try:
        found = policy.parse(text)
        for protocol in PROTOCOLS:
            config_for(protocol, found.run, None)
    except SettingsError as error:
        return str(error)
    numbers = [v for rule in found.rules.values() for v in dataclasses.astuple(rule.options)]
    assert not any(isinstance(v, float) and math.isnan(v) for v in numbers), "a limit that nothing is over"
    return ""


def test_any_value_at_any_place_is_taken_or_refused_in_one_line():
    said = [told(f"{table}\n{name} = {value}\n") for table, name in lines() for value in VALUES]
    assert all(text.isprintable() and len(text) < 2000 for text in said)
    assert 100 < said.count("") < len(said) - 1000


@pytest.mark.skipif(os.name == "nt", reason="no pipes and devices there")
@pytest.mark.parametrize(
    "name", ["deep", "keys", "digits", "utf-16", "bytes", "huge", "folder", "pipe", "device"]
)
def test_a_policy_that_cannot_be_read_is_no_violation(tmp_path: Path, name: str):
    """Exit code 2: 1 would say that the model violates it."""
    file = tmp_path / "policy.toml"
    texts = {
        "deep": b"a = " + b"[" * 100_000 + b"]" * 100_000,
        "keys": b".".join([b"a"] * 100_000) + b" = 1",
        "digits": b"[run]\nseed = " + b"9" * 5000,
        "utf-16": "version = 1".encode("utf-16"),
        "bytes": b'a = "\xff"',
    }
    if name in texts:
        file.write_bytes(texts[name])
    elif name == "huge":
        with file.open("wb") as stream:
            stream.truncate(10**9)
    elif name == "pipe":
        os.mkfifo(file)
    else:
        file = {"folder": tmp_path, "device": Path("/dev/zero")}[name]
    done = CliRunner().invoke(main, ["audit", "none.onnx", "--policy", str(file)])
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {file}: cannot read the policy: ")
