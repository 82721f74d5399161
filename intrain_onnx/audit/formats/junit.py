"""The audit as JUnit XML: a test suite per model, a test case per check.

Readers tell cases apart by class name and name: GitLab shows the first of equal ones and drops the others.
Jenkins splits the class name at its last dot into package and class. So the class name is the model's path,
as given, with ``.audit`` behind it: the path is the suite in GitLab and the package in Jenkins, dots and all.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from intrain_onnx.audit.policy import Policy
from intrain_onnx.audit.rows import Outcome
from intrain_onnx.audit.run import Audits, Finding
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import IntrainError, printable

_CLASS = ".audit"
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}
"""Attributes of a suite, with the kind of case that each counts."""


@dataclass(frozen=True)
class _Subject:
    """What a suite is of: a model, or the policy with the checks of the run."""

    path: str
    policy: Policy
    checks: Sequence[str]
    findings: Sequence[Finding]
    outcome: Callable[[str], Outcome]
    seconds: float = 0.0
    error: IntrainError | None = None


def write(audits: Audits) -> str:
    """One XML document for all models; checks that are off are omitted."""
    subjects = [*_subjects(audits)]
    root = ET.Element("testsuites", name="intrain-onnx audit")
    for label, subject in zip(_labels(subjects), subjects, strict=True):
        root.append(_suite(label, subject))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, 0)) for suite in root)))
    root.set("time", f"{sum(subject.seconds for subject in subjects):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _subjects(audits: Audits) -> Iterator[_Subject]:
    """The models, and the policy if it has waivers."""
    of_run, of_model = ([c.id for c in CHECKS.values() if c.of_run == which] for which in (True, False))
    for r in audits.results:
        checks = [name for name in of_model if r.outcome(name) != "off"]
        yield _Subject(r.path, r.policy, checks, r.findings, r.outcome, r.seconds, r.error)
    policy = audits.results[0].policy if audits.results else None
    if policy is not None and policy.waivers:
        checks = [name for name in of_run if policy.rules[name].severity != "off"]
        yield _Subject(policy.path or policy.source, policy, checks, audits.findings, audits.outcome)


def _labels(subjects: Sequence[_Subject]) -> Iterator[str]:
    """The paths as text, with a number behind those that are the same."""
    seen = Counter[str]()
    for subject in subjects:
        path = printable(subject.path, 4096)
        seen[path] += 1
        yield path if seen[path] == 1 else f"{path} ({seen[path]})"


def _suite(label: str, subject: _Subject) -> ET.Element:
    suite = ET.Element("testsuite", name=label, file=printable(subject.path, 4096))
    suite.extend(_case(label, name, subject) for name in subject.checks)
    suite.set("tests", str(len(suite)))
    for attribute, kind in _COUNTED.items():
        suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("time", f"{subject.seconds:.3f}")
    for case in suite:  # all checks read the same measurements: none of them has a time of its own
        case.set("time", f"{subject.seconds / len(suite):.6f}")
    return suite


def _case(label: str, name: str, subject: _Subject) -> ET.Element:
    file = printable(subject.path, 4096)
    case = ET.Element("testcase", name=name, classname=f"{label}{_CLASS}", file=file)
    told = [f for f in subject.findings if f.check == name]
    verdict = _verdict(name, told, subject)
    if verdict is not None:
        case.append(verdict)
    others = [f for f in told if not _fails(f, subject)]
    if others and (verdict is None or verdict.tag != "error"):
        ET.SubElement(case, "system-out").text = _lines(others)
    return case


def _verdict(name: str, told: Sequence[Finding], subject: _Subject) -> ET.Element | None:
    """What a case that did not pass holds."""
    failing = [f for f in told if _fails(f, subject)]
    if name == "not-loaded" and subject.error is not None:
        return _broken("error", printable(subject.error, 2000), told)
    if failing:
        head = failing[0].found.message if len(failing) == 1 else f"{len(failing)} findings"
        return _broken("failure", printable(head, 500), failing)
    outcome = subject.outcome(name)
    if outcome == "waived":
        return _skipped(printable(_reasons(told), 500))
    return _skipped("what it reads was not measured") if outcome == "not_checked" else None


def _fails(finding: Finding, subject: _Subject) -> bool:
    return finding.waiver is None and subject.policy.fails(finding.severity)


def _broken(tag: str, message: str, findings: Sequence[Finding]) -> ET.Element:
    element = ET.Element(tag, message=message, type=findings[0].severity)
    element.text = _lines(findings) + f"\n{CHECKS[findings[0].check].remedy}"
    return element


def _skipped(reason: str) -> ET.Element:
    """Jenkins shows the message, GitLab the text."""
    element = ET.Element("skipped", message=reason)
    element.text = reason
    return element


def _lines(findings: Sequence[Finding]) -> str:
    return "\n".join(
        f"{f.severity}{' (waived)' if f.waiver else ''}: "
        f"{printable(f.found.place, 500) + ': ' if f.found.place else ''}{printable(f.found.message, 2000)}"
        for f in findings
    )


def _reasons(findings: Sequence[Finding]) -> str:
    return "waived: " + "; ".join(dict.fromkeys(f.waiver.reason for f in findings if f.waiver is not None))
