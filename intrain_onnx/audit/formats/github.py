"""The audit as GitHub Actions workflow commands, which become annotations."""

from __future__ import annotations

from intrain_onnx.audit.policy import Policy
from intrain_onnx.audit.run import Audits, Finding
from intrain_onnx.errors import printable

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def write(audits: Audits) -> str:
    """One line per unwaived finding, one per model with its verdict, and the counts."""
    results = audits.results
    lines = [_annotation(f, r.path, r.policy) for r in results for f in r.findings if f.waiver is None]
    for finding in audits.findings:
        policy = results[0].policy
        lines.append(_annotation(finding, policy.path or policy.source, policy))
    for result in results:
        verdict = "passed" if result.passed else "failed"
        lines.append(f"intrain-onnx audit: {_data(printable(result.path, 4096))} {verdict}")
    return "\n".join([*lines, f"intrain-onnx audit: {audits.summary()}"]) + "\n"


def _annotation(finding: Finding, path: str, policy: Policy) -> str:
    """A workflow command; an error that does not fail the policy is lowered to a warning."""
    command = _COMMANDS[finding.severity]
    if command == "error" and not policy.fails(finding.severity):
        command = "warning"
    found = finding.found
    place = f"{printable(found.place, 500)}: " if found.place else ""
    message = _data(f"{place}{printable(found.message, 2000)}")
    file, title = _property(printable(path, 4096)), _property(f"intrain-onnx: {finding.check}")
    return f"::{command} file={file},title={title}::{message}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
