"""What a check needs stands in its row: a check that could not look is never reported as passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, get_args

import onnx
import pytest

from audit.conftest import TODAY, quick
from audit.defects import DEFECTS
from audit.test_checks import FIRES
from intrain_onnx.audit.checks.base import Check, nothing
from intrain_onnx.audit.evidence import Evidence, Failure, Need
from intrain_onnx.audit.gather import gather
from intrain_onnx.audit.policy import Policy
from intrain_onnx.audit.run import judge
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.report.document import Report

NEEDS = get_args(Need)
NEEDY = [name for name, check in CHECKS.items() if check.needs]
FAILED = Failure("LimitError", "too large", None, None)


class Keyed(Mapping[str, Any]):
    """Notes the keys that are looked up. Who goes over all entries asks for none by name."""

    def __init__(self, found: Mapping[str, Any], read: set[str]) -> None:
        self.found, self.read = found, read

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return self.found[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def items(self) -> Any:
        return self.found.items()


class Recorder:
    """Evidence that notes which of its parts are read, directly or by way of another property."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence, self.read = evidence, set[str]()

    def __getattr__(self, name: str) -> Any:
        if name in NEEDS:
            self.read.add(name)
        elif isinstance(found := getattr(type(self.evidence), name, None), property):
            return found.fget(self)  # type: ignore[misc]
        elif isinstance(found, FunctionType):
            return MethodType(found, self)
        value = getattr(self.evidence, name)
        return Keyed(value, self.read) if name in ("reports", "failures") else value


def read_by(check: Check[Any], evidence: Evidence, policy: Policy) -> set[str]:
    recorder = Recorder(evidence)
    list(check.run(recorder, policy.rules[check.id].options))  # type: ignore[arg-type]
    return recorder.read


def edited(report: Report, part: str, **changes: Any) -> Report:
    """A report with some fields of one part changed, or without that part."""
    data = dict(report.data)
    return Report(data | {part: {**data[part], **changes} if changes else None})


def fired(healthy: Evidence, name: str) -> tuple[Evidence, Policy]:
    """Evidence on which a check fires, and the policy that it takes."""
    change, _, text = FIRES[name]
    policy = quick(text)
    return replace(change(healthy), deploy=policy.deploy), policy


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Evidence, Policy]]:
    """What is measured of each seeded defect, against its own report where it has one."""
    found = []
    for index, defect in enumerate(DEFECTS):
        file = tmp_path_factory.mktemp("needs") / f"{index}.onnx"
        onnx.save(defect.model(), file)
        policy = quick(defect.policy)
        evidence = gather(Path(file), policy)
        found.append((replace(evidence, baseline=evidence.reports.get("checkpoint")), policy))
    return found


def test_a_check_reads_what_it_declares(healthy: Evidence, seeded: list[tuple[Evidence, Policy]]):
    runs = [(healthy, quick()), *seeded, *(fired(healthy, name) for name in FIRES)]
    runs += [(replace(healthy, reports={}, baseline=healthy.reports["checkpoint"]), quick())]
    for check in CHECKS.values():
        read = set[str]().union(*(read_by(check, evidence, policy) for evidence, policy in runs))
        assert read == {*check.needs, *check.refined_by}, check.id


def test_the_recorder_sees_every_way_to_a_part(healthy: Evidence):
    ways: list[tuple[Callable[[Evidence], Any], set[str]]] = [
        (lambda e: e.reports["checkpoint"], {"checkpoint"}),
        (lambda e: e.failures.get("ranges"), {"ranges"}),
        (lambda e: e.other_settings, {"baseline", "rescored"}),
        (lambda e: e.lacks("ranges"), {"ranges"}),
        (lambda e: e.parity_verdict, {"parity_verdict"}),
        (lambda e: list(e.failures.items()), set()),
    ]
    for way, expected in ways:
        recorder = Recorder(replace(healthy, baseline=healthy.reports["checkpoint"]))
        way(recorder)  # type: ignore[arg-type]
        assert recorder.read == expected


LOSSES: Mapping[str, Callable[[Evidence], Evidence]] = {
    "checkpoint": lambda e: _unscored(e, "checkpoint"),
    "architecture": lambda e: _unscored(e, "architecture"),
    "ranges": lambda e: replace(e, ranges=None, failures={**e.failures, "ranges": FAILED}),
    "the comparison with onnxruntime": lambda e: _checkpoint(e, "parity"),
    "its verdict": lambda e: _checkpoint(e, "parity", ok=None, reason="no kernel"),
    "a baseline": lambda e: replace(e, baseline=None),
    "a baseline of these settings": lambda e: replace(
        e, baseline=e.baseline and edited(e.baseline, "settings", samples=999)
    ),
    "a baseline of this protocol": lambda e: replace(
        e, baseline=e.baseline and edited(e.baseline, "settings", protocol="paper")
    ),
}
"""What evidence can be without."""


def _unscored(evidence: Evidence, protocol: str) -> Evidence:
    reports = {name: report for name, report in evidence.reports.items() if name != protocol}
    return replace(evidence, reports=reports, failures={**evidence.failures, protocol: FAILED})


def _checkpoint(evidence: Evidence, part: str, **changes: Any) -> Evidence:
    report = edited(evidence.reports["checkpoint"], part, **changes)
    return replace(evidence, reports={**evidence.reports, "checkpoint": report})


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", FIRES)
def test_a_finding_that_cannot_be_seen_is_no_pass(name: str, loss: str, healthy: Evidence):
    """Independent of what the rows say: what fires does not pass for want of a part of the evidence."""
    evidence, policy = fired(healthy, name)
    [outcome] = [
        c["outcome"] for c in judge(LOSSES[loss](evidence), policy, TODAY).data()["checks"] if c["id"] == name
    ]
    assert outcome in ("found", "not_checked")


def test_without_any_measurement_no_check_passes_that_needs_one(healthy: Evidence):
    bare = replace(healthy, reports={}, ranges=None, failures={})
    outcomes = {c["id"]: c["outcome"] for c in judge(bare, quick(), TODAY).data()["checks"]}
    assert {outcomes[name] for name in NEEDY} == {"not_checked"}


@pytest.mark.parametrize("name", [n for n, check in CHECKS.items() if check.refined_by])
def test_what_refines_a_check_withholds_findings(name: str, healthy: Evidence, seeded: list[Any]):
    check = CHECKS[name]
    without: Mapping[str, Callable[[Evidence], Evidence]] = {
        "ranges": lambda e: replace(e, ranges=None),
        "rescored": lambda e: replace(e, reports={}),
    }
    for evidence, policy in [*seeded, *(fired(healthy, n) for n in FIRES)]:
        options = policy.rules[name].options
        for part in check.refined_by:
            assert len(list(check.run(evidence, options))) <= len(
                list(check.run(without[part](evidence), options))
            )


def test_the_runner_makes_what_no_check_finds():
    made = {name for name, check in CHECKS.items() if check.run is nothing}
    assert made == {"not-loaded", "waiver-expired", "waiver-unused"}
    assert not any(CHECKS[name].needs for name in made)
