"""The audit as SARIF 2.1.0, the format of code scanning services."""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Any

from intrain_onnx.audit.fields import fields_of, literal
from intrain_onnx.audit.run import Audits, Finding, Result
from intrain_onnx.audit.table import CHECKS, Check
from intrain_onnx.errors import printable
from intrain_onnx.report.document import number, strict_json
from intrain_onnx.versions import version

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
"""Characters of a path that need no percent-encoding (RFC 3986, and the slash)."""
_FINGERPRINTS = ("intrainOnnx/v1", "primaryLocationLineHash")
"""Ours, and the only one that GitHub reads: it makes it of the text of a line where it is not given, and all
findings of a binary file have one line."""
_KINDS = {"layer": "module", "node": "function", "weight": "member", "operator": "type"}


def write(audits: Audits) -> str:
    """The log as JSON text: one run with all models."""
    return strict_json(document(audits))


def document(audits: Audits) -> dict[str, Any]:
    """The log as JSON values. Findings of the run are located at the policy, as every result needs a file."""
    results = audits.results
    found = [(f, r.path) for r in results for f in r.findings]
    found += [(f, results[0].policy.path or results[0].policy.source) for f in audits.findings]
    driver = {
        "name": "intrain-onnx",
        "version": version("intrain-onnx") or "0",
        "rules": [_rule(check) for check in CHECKS.values()],
    }
    models = {_uri(r.path) for r in results}
    uris = list(dict.fromkeys(_uri(path) for path in (*(r.path for r in results), *(p for _, p in found))))
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(r) for r in results],
        "artifacts": [
            {"location": {"uri": uri}, "roles": ["analysisTarget" if uri in models else "policy"]}
            for uri in uris
        ],
        "results": [_result(f, path, uris.index(_uri(path))) for f, path in found],
        "columnKind": "unicodeCodePoints",
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(check: Check[Any]) -> dict[str, Any]:
    """A check with its whole help: the reference has no public address that a ``helpUri`` could be."""
    help_text = f"{check.explanation}\n\nWhat to do: {check.remedy}"
    options = [f"`{o.name} = {literal(o.default)}`: {o.help}" for o in fields_of(check.options).values()]
    in_policy = ["", "Options in the policy:", "", *(f"- {option}" for option in options)] if options else []
    return {
        "id": check.id,
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": check.explanation},
        "help": {
            "text": "\n".join([help_text, *in_policy]).replace("`", ""),
            "markdown": "\n".join([f"{check.explanation}\n\n**What to do:** {check.remedy}", *in_policy]),
        },
        "defaultConfiguration": {"level": check.severity},
    }


def _invocation(result: Result) -> dict[str, Any]:
    """The run of one model; unsuccessful only if an error ended it, not if it has findings."""
    return {
        "executionSuccessful": result.error is None,
        "exitCode": result.exit_code,
        "arguments": ["audit", printable(result.path, 4096)],
    }


def _result(finding: Finding, path: str, artifact: int) -> dict[str, Any]:
    found = finding.found
    text = printable(found.message, 2000)
    place = printable(found.place, 500) if found.place else None
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(path), "index": artifact},
            "region": {"startLine": 1},  # a binary file has no lines, but GitHub asks for one
        }
    }
    if place is not None:
        logical = {"name": place, "fullyQualifiedName": place, "kind": _KINDS.get(found.kind, found.kind)}
        location["logicalLocations"] = [logical]
    row: dict[str, Any] = {
        "ruleId": finding.check,
        "ruleIndex": list(CHECKS).index(finding.check),
        "level": finding.severity,
        "message": {"text": f"{place}: {text}" if place else text},
        "locations": [location],
        "partialFingerprints": dict.fromkeys(_FINGERPRINTS, _fingerprint(finding, path)),
        "properties": {"measured": number(found.measured, 6), "threshold": number(found.threshold, 6)},
    }
    if finding.waiver is not None:
        reason = printable(finding.waiver.reason, 1000)
        row["suppressions"] = [{"kind": "external", "justification": reason}]  # without a status: accepted
    return row


def _fingerprint(finding: Finding, path: str) -> str:
    """Hash of check, path and place; independent of the measured values."""
    parts = (finding.check, PurePath(path).as_posix(), finding.found.place or "")
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _uri(path: str) -> str:
    """A URI reference; relative paths stay relative to the working directory of the audit."""
    pure = PurePath(path)
    encoded = "".join(_percent(byte) for byte in pure.as_posix().encode("utf-8", "surrogateescape"))
    return f"file://{encoded}" if pure.is_absolute() else encoded


def _percent(byte: int) -> str:
    return chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}"
