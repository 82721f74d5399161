"""Converts the audits of a run into the view models of the template: text sanitised, numbers formatted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.page import plots, shown
from intrain_onnx.audit.policy import Policy
from intrain_onnx.audit.run import Audits, Finding, Result, tally
from intrain_onnx.audit.table import CHECKS, SEVERITIES
from intrain_onnx.errors import printable
from intrain_onnx.report.numbers import count, decimal
from intrain_onnx.report.page.shown import Cell, Pairs

_PROTOCOLS = {
    "checkpoint": ("Score of the checkpoint", "InTrain, weights as in the file"),
    "architecture": ("Score at initialisation", "InTrain, weights drawn anew"),
}
_COLUMNS = (
    *(f"{s.capitalize()}s" for s in SEVERITIES),
    "Waived",
    "Checkpoint",
    "Initialised",
    "Change",
)
_FOLDED = {
    "passed": "Passed",
    "not_checked": "Not checked, as what they read was not measured",
    "off": "Off by the policy",
}
_TEXT = 2000


def page(audits: Audits) -> shown.Page:
    """View model of the page."""
    results = audits.results
    models = [_model(f"m{i}", result) for i, result in enumerate(results, start=1)]
    summary, _, counts = audits.summary().partition(": ")
    first, _, others = summary.partition(" passed")
    headline = f"{first} models passed{others}"
    if len(models) == audits.models == 1:
        headline = f"{models[0].path} {'passed' if models[0].passed else 'failed'}{others}"
    return shown.Page(
        title=f"{headline}: intrain-onnx audit",
        headline=headline,
        passed=audits.passed,
        counts=counts,
        held=_held(results[0]) if results else "",
        columns=_COLUMNS,
        models=models,
        run=_checks(audits.findings, results[0].policy) if results else [],
    )


def _held(result: Result) -> str:
    policy = result.policy
    fails = "nothing fails" if policy.fail_on == "never" else f"fails from {policy.fail_on} on"
    source = printable(policy.path or policy.source, 300)
    return f"Policy {source}, {fails}; deployed in {policy.deploy}; {result.today.isoformat()}"


def _model(identity: str, result: Result) -> shown.Model:
    return shown.Model(
        id=identity,
        path=printable(result.path, 400),
        passed=result.passed,
        counts=tally({name: n for name, n in result.counts().items() if n}) or "no findings",
        error=printable(result.error, _TEXT) if result.error is not None else "",
        cells=_cells(result),
        cards=[*_scores(result.evidence), *_change(result.evidence)],
        facts=_facts(result.evidence),
        checks=_checks(result.findings, result.policy),
        folded=_folded(result),
        charts=plots.charts(result.evidence) if result.evidence is not None else [],
    )


def _cells(result: Result) -> list[Cell]:
    reports = result.evidence.reports if result.evidence is not None else {}
    scores = [reports[name].intrain if name in reports else None for name in _PROTOCOLS]
    change = _relative(result.evidence)
    return [
        *((str(n), float(n)) for n in result.counts().values()),
        *((decimal(score), score) for score in scores),
        (_signed(change), change),
    ]


def _scores(evidence: Evidence | None) -> list[shown.Card]:
    reports = evidence.reports if evidence is not None else {}
    return [
        shown.Card(name, decimal(reports[protocol].intrain), meaning)
        for protocol, (name, meaning) in _PROTOCOLS.items()
        if protocol in reports
    ]


def _change(evidence: Evidence | None) -> list[shown.Card]:
    """The card of the change from the baseline; none without one."""
    if evidence is None or evidence.baseline is None:
        return []
    name = "Change from the baseline"
    if evidence.comparable is None:
        differ = ", ".join(evidence.other_settings)
        meaning = f"the settings differ in {differ}" if differ else "its protocol was not measured"
        return [shown.Card(name, "none", f"not comparable: {meaning}")]
    old, new = evidence.comparable
    protocol = evidence.baseline.document.settings.protocol
    meaning = f"{protocol}: {decimal(old.intrain)} → {decimal(new.intrain)}"
    return [shown.Card(name, _signed(_relative(evidence)), meaning)]


def _relative(evidence: Evidence | None) -> float | None:
    """Relative change of the score from the baseline; None if they cannot be compared."""
    if evidence is None or evidence.comparable is None:
        return None
    old, new = evidence.comparable
    return (new.intrain - old.intrain) / abs(old.intrain) if old.intrain else None


def _signed(share: float | None) -> str:
    return "" if share is None else f"{100 * share:+.1f} %"


def _facts(evidence: Evidence | None) -> Pairs:
    if evidence is None:
        return []
    model, file = evidence.model, evidence.file
    return [
        ("Producer", printable(model.producer or "unknown", 100)),
        ("Opset", str(file.opset) if file.opset is not None else "none"),
        ("Parameters", count(model.parameters)),
        ("MACs a sample", count(model.macs)),
        ("Canonical layers", str(model.canonical_layers)),
        ("Bytes", count(file.bytes)),
    ]


def _checks(findings: Sequence[Finding], policy: Policy) -> list[shown.Check]:
    """The findings by check: those that fail first, then the others, then the waived."""
    groups: dict[tuple[int, str, str], list[Finding]] = {}
    for finding in findings:
        waived = finding.waiver is not None
        rank = 2 if waived else 0 if policy.fails(finding.severity) else 1
        label = "waived" if waived else finding.severity
        groups.setdefault((rank, finding.check, label), []).append(finding)
    ordered = sorted(groups.items(), key=lambda item: item[0][0])
    return [_check(name, label, rank == 0, told) for (rank, name, label), told in ordered]


def _check(name: str, label: str, fails: bool, findings: Sequence[Finding]) -> shown.Check:
    check = CHECKS[name]
    return shown.Check(
        id=name,
        title=check.title,
        label=label,
        fails=fails,
        explanation=_words(check.explanation),
        remedy=_words(check.remedy),
        places=[_place(finding) for finding in findings],
    )


def _place(finding: Finding) -> shown.Place:
    found, waiver, waived = finding.found, finding.waiver, ""
    if waiver is not None:
        until = f" until {waiver.expires.isoformat()}" if waiver.expires is not None else ""
        waived = f"waived{until}: {printable(waiver.reason, _TEXT)}"
    return shown.Place(printable(found.place or "", 500), printable(found.message, _TEXT), waived)


def _words(text: str) -> list[tuple[str, bool]]:
    """A text with its parts in backticks apart."""
    return [(part.strip("`"), part.startswith("`")) for part in re.split(r"(`[^`]+`)", text) if part]


def _folded(result: Result) -> list[tuple[str, list[tuple[str, str]]]]:
    outcomes = {check.id: result.outcome(check.id) for check in CHECKS.values() if not check.of_run}
    groups = [
        (heading, _named(n for n, o in outcomes.items() if o == outcome))
        for outcome, heading in _FOLDED.items()
    ]
    return [(heading, checks) for heading, checks in groups if checks]


def _named(names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, CHECKS[name].title) for name in names]
