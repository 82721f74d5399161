"""The audit as JUnit XML: a test suite per model, a test case per check.

Readers tell cases apart by class name and name: GitLab shows the first of equal ones and drops the others.
Jenkins splits the class name at its last dot into package and class. So the class name is the model's path,
as given, with ``.audit`` behind it: the path is the suite in GitLab and the package in Jenkins, dots and all.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence

from intrain_onnx.audit.run import Finding, Result
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import printable

_CLASS = ".audit"
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}
"""Attributes of a suite, with the kind of case that each counts."""


def write(results: Sequence[Result]) -> str:
    """One XML document for all models; checks that are off are omitted."""
    root = ET.Element("testsuites", name="intrain-onnx audit")
    for label, result in zip(_labels(results), results, strict=True):
        root.append(_suite(label, result))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, 0)) for suite in root)))
    root.set("time", f"{sum(result.seconds for result in results):.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _labels(results: Sequence[Result]) -> Iterator[str]:
    """The paths as text, with a number behind those that are the same."""
    seen = Counter[str]()
    for result in results:
        path = printable(result.path, 4096)
        seen[path] += 1
        yield path if seen[path] == 1 else f"{path} ({seen[path]})"


def _suite(label: str, result: Result) -> ET.Element:
    suite = ET.Element("testsuite", name=label, file=printable(result.path, 4096))
    names = [name for name in CHECKS if result.outcome(name) != "off"]
    suite.extend(_case(label, name, result) for name in names)
    suite.set("tests", str(len(names)))
    for attribute, kind in _COUNTED.items():
        suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("time", f"{result.seconds:.3f}")
    for case in suite:  # all checks read the same measurements: none of them has a time of its own
        case.set("time", f"{result.seconds / len(names):.6f}")
    return suite


def _case(label: str, name: str, result: Result) -> ET.Element:
    case = ET.Element("testcase", name=name, classname=f"{label}{_CLASS}", file=printable(result.path, 4096))
    told = [f for f in result.findings if f.check == name]
    verdict = _verdict(name, told, result)
    if verdict is not None:
        case.append(verdict)
    others = [f for f in told if not _fails(f, result)]
    if others and (verdict is None or verdict.tag != "error"):
        ET.SubElement(case, "system-out").text = _lines(others)
    return case


def _verdict(name: str, told: Sequence[Finding], result: Result) -> ET.Element | None:
    """What a case that did not pass holds."""
    failing = [f for f in told if _fails(f, result)]
    if name == "not-loaded" and result.error is not None:
        return _broken("error", printable(result.error, 2000), told)
    if failing:
        head = failing[0].found.message if len(failing) == 1 else f"{len(failing)} findings"
        return _broken("failure", printable(head, 500), failing)
    outcome = result.outcome(name)
    if outcome == "waived":
        return _skipped(printable(_reasons(told), 500))
    return _skipped("what it reads was not measured") if outcome == "not_checked" else None


def _fails(finding: Finding, result: Result) -> bool:
    return finding.waiver is None and result.policy.fails(finding.severity)


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
