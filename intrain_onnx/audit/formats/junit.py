"""The audit as JUnit XML: a test suite per model, a test case per check."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from intrain_onnx.audit.rows import Outcome
from intrain_onnx.audit.run import Finding, Result
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import printable


def write(results: Sequence[Result]) -> str:
    """One XML document for all models; checks that are off are omitted."""
    root = ET.Element("testsuites", name="intrain-onnx audit")
    totals = [_suite(root, result) for result in results]
    root.set("tests", str(sum(t[0] for t in totals)))
    root.set("failures", str(sum(t[1] for t in totals)))
    root.set("errors", str(sum(t[2] for t in totals)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, result: Result) -> tuple[int, int, int]:
    suite = ET.SubElement(root, "testsuite", name=printable(result.path, 4096))
    outcomes = {name: result.outcome(name) for name in CHECKS}
    names = [name for name, outcome in outcomes.items() if outcome != "off"]
    kinds = [_case(suite, name, outcomes[name], result) for name in names]
    suite.set("tests", str(len(names)))
    suite.set("failures", str(kinds.count("failure")))
    suite.set("errors", str(kinds.count("error")))
    suite.set("skipped", str(kinds.count("skipped")))
    suite.set("time", f"{min(result.seconds, 999):.3f}")
    return len(names), kinds.count("failure"), kinds.count("error")


def _case(suite: ET.Element, name: str, outcome: Outcome, result: Result) -> str:
    case = ET.SubElement(suite, "testcase", name=name, classname="intrain-onnx.audit")
    told = [f for f in result.findings if f.check == name]
    failing = [f for f in told if f.waiver is None and result.policy.fails(f.severity)]
    others = [f for f in told if f not in failing]
    kind = "passed"
    if name == "not-loaded" and result.error is not None:
        kind = "error"
        _add(case, "error", printable(result.error, 2000), told)
    elif failing:
        kind = "failure"
        head = failing[0].found.message if len(failing) == 1 else f"{len(failing)} findings"
        _add(case, "failure", printable(head, 500), failing)
    elif outcome == "waived":
        kind = "skipped"
        ET.SubElement(case, "skipped", message=printable(_reasons(told), 500))
    elif outcome == "not_checked":
        kind = "skipped"
        ET.SubElement(case, "skipped", message="what it reads was not measured")
    if others and kind != "error":
        ET.SubElement(case, "system-out").text = _lines(others)
    return kind


def _add(case: ET.Element, tag: str, message: str, findings: Sequence[Finding]) -> None:
    element = ET.SubElement(case, tag, message=message, type=findings[0].severity)
    element.text = _lines(findings) + f"\n{CHECKS[findings[0].check].remedy}"


def _lines(findings: Sequence[Finding]) -> str:
    return "\n".join(
        f"{f.severity}{' (waived)' if f.waiver else ''}: "
        f"{printable(f.found.place, 500) + ': ' if f.found.place else ''}{printable(f.found.message, 2000)}"
        for f in findings
    )


def _reasons(findings: Sequence[Finding]) -> str:
    return "waived: " + "; ".join(dict.fromkeys(f.waiver.reason for f in findings if f.waiver is not None))
