"""The audit as GitHub Actions workflow commands, which become annotations."""

from __future__ import annotations

from collections.abc import Sequence

from intrain_onnx.audit.run import Finding, Result
from intrain_onnx.errors import printable

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def write(results: Sequence[Result]) -> str:
    """One line per unwaived finding, and one per model with its verdict."""
    lines = [_annotation(f, r) for r in results for f in r.findings if f.waiver is None]
    for result in results:
        verdict = "passed" if result.passed else "failed"
        lines.append(f"intrain-onnx audit: {_data(printable(result.path, 4096))} {verdict}")
    return "\n".join(lines) + "\n"


def _annotation(finding: Finding, result: Result) -> str:
    """A workflow command; an error that does not fail the policy is lowered to a warning."""
    command = _COMMANDS[finding.severity]
    if command == "error" and not result.policy.fails(finding.severity):
        command = "warning"
    found = finding.found
    place = f"{printable(found.place, 500)}: " if found.place else ""
    message = _data(f"{place}{printable(found.message, 2000)}")
    file, title = _property(printable(result.path, 4096)), _property(f"intrain-onnx: {finding.check}")
    return f"::{command} file={file},title={title}::{message}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
