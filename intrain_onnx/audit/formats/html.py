"""The audit as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from intrain_onnx.audit.run import Finding, Result
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import printable

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;
color:#1a1a1a;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.4rem .6rem;
border-bottom:1px solid #ddd;overflow-wrap:anywhere}.error,.failed{color:#a40000}.warning{color:#7a4a00}
.note{color:#00507a}.passed{color:#00600f}.waived{color:#555}small{color:#555}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#151515}th,td{border-color:#444}
.error,.failed{color:#ff8f8f}.warning{color:#f0c060}.note{color:#80c8f0}.passed{color:#80d890}small,.waived{color:#aaa}}
"""


def write(results: Sequence[Result]) -> str:
    """A page that fetches nothing and runs nothing."""
    body = "".join(_section(result) for result in results)
    rule = "default-src 'none'; style-src 'unsafe-inline'"
    policy = f'<meta http-equiv="Content-Security-Policy" content="{rule}">'
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{policy}'
        '<meta name="viewport" content="width=device-width"><title>intrain-onnx audit</title>'
        f"<style>{_STYLE}</style></head><body><h1>intrain-onnx audit</h1>{body}</body></html>\n"
    )


def _section(result: Result) -> str:
    verdict = "passed" if result.passed else "failed"
    counts = ", ".join(f"{n} {name}" for name, n in result.counts().items())
    head = (
        f'<h2>{_text(result.path)} <span class="{verdict}">{verdict}</span></h2>'
        f"<p>{counts}; policy {_text(result.policy.source)}, {result.today.isoformat()}</p>"
    )
    if not result.findings:
        return head + "<p>No findings.</p>"
    rows = "".join(_row(finding) for finding in result.findings)
    titles = "".join(
        f'<th scope="col">{t}</th>' for t in ("severity", "check", "where", "what, and what to do")
    )
    return f"{head}<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"


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
