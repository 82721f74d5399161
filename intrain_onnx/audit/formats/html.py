"""The audit as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources

from intrain_onnx.audit.run import Audits, Finding, Result
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import printable
from intrain_onnx.report.csp import digest

_OWN_STYLE = """
.data td { overflow-wrap: anywhere; vertical-align: top; }
.error, .failed { color: var(--bad); font-weight: 600; }
.warning { color: var(--mark2); font-weight: 600; }
.passed { color: var(--good); font-weight: 600; }
"""


def write(audits: Audits) -> str:
    """An HTML page without scripts or external resources, styled like the report page."""
    style = resources.files("intrain_onnx.report.page").joinpath("templates", "page.css")
    css = f"{style.read_text(encoding='utf-8')}{_OWN_STYLE}"
    rule = f"default-src 'none'; style-src {digest(css)}; base-uri 'none'; form-action 'none'"
    body = f"<p>{audits.summary()}</p>" + "".join(_section(result) for result in audits.results)
    body += f"<h3>Waivers</h3>{_table(audits.findings)}" if audits.findings else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{rule}">'
        '<meta name="viewport" content="width=device-width"><title>intrain-onnx audit</title>'
        f"<style>{css}</style></head><body><main><h1>intrain-onnx audit</h1>{body}</main></body></html>\n"
    )


def _section(result: Result) -> str:
    verdict = "passed" if result.passed else "failed"
    counts = ", ".join(f"{n} {name}" for name, n in result.counts().items())
    head = (
        f'<h3>{_text(result.path)}: <span class="{verdict}">{verdict}</span></h3>'
        f"<p>{counts}; policy {_text(result.policy.source)}, {result.today.isoformat()}</p>"
    )
    return head + (_table(result.findings) if result.findings else "<p>No findings.</p>")


def _table(findings: Sequence[Finding]) -> str:
    rows = "".join(_row(finding) for finding in findings)
    titles = "".join(
        f'<th scope="col">{t}</th>' for t in ("severity", "check", "where", "what, and what to do")
    )
    return f'<table class="data"><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>'


def _row(finding: Finding) -> str:
    check, found, waiver = CHECKS[finding.check], finding.found, finding.waiver
    label = "waived" if waiver is not None else finding.severity
    waived = f"<br><small>waived: {_text(waiver.reason)}</small>" if waiver is not None else ""
    return (
        f'<tr><td class="{label}">{label}</td><td>{check.id}</td><td>{_text(found.place or "")}</td>'
        f"<td>{_text(found.message)}{waived}<br><small>{_text(check.remedy, 1000)}</small></td></tr>"
    )


def _text(text: str, limit: int = 2000) -> str:
    return escape(printable(text, limit))
