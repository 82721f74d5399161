"""The audit as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from intrain_onnx.audit.fields import fields_of, literal
from intrain_onnx.audit.run import Audits, Finding, Result, tally
from intrain_onnx.audit.table import CHECKS, Check
from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_STYLE_OF = {True: "bold green", False: "bold red"}
_SHOWN = 12
"""Findings of one check that are listed; machine-readable formats list all."""


def draw(audits: Audits, stream: TextIO) -> None:
    """Print the findings of all models and of the run, a line a model, and the counts."""
    console = console_of(stream)
    for result in audits.results:
        _draw_one(result, console)
    if audits.findings:
        console.print(Text(printable(audits.results[0].policy.source, 300), style="bold"))
        console.print()
        _draw_findings(audits.findings, console)
    if len(audits.results) > 1:
        for result in audits.results:
            counts = {name: n for name, n in result.counts().items() if n}
            line = Text.assemble(_verdict(result.passed), f"  {printable(result.path, 300)}")
            line.append(f"  {tally(counts)}" if counts else "", style="dim")
            console.print(line, soft_wrap=True)
    if audits.results:
        console.print(Text(audits.summary(), style=_STYLE_OF[audits.passed]))


def _verdict(passed: bool) -> Text:
    return Text("passed" if passed else "failed", style=_STYLE_OF[passed])


def _draw_one(result: Result, console: Console) -> None:
    console.print(Text(printable(result.path, 300), style="bold"), _verdict(result.passed))
    counts, policy = tally(result.counts()), printable(result.policy.source, 100)
    console.print(f"  {counts}; {len(result.checked)} checks, policy {policy}")
    if result.evidence is not None:
        scores = ", ".join(f"{name} {r.intrain:.4g}" for name, r in result.evidence.reports.items())
        console.print(f"  InTrain: {scores}" if scores else "  InTrain: not measured")
    console.print()
    _draw_findings(result.findings, console)


def _draw_findings(findings: Sequence[Finding], console: Console) -> None:
    for check in dict.fromkeys(f.check for f in findings):
        _draw_check(CHECKS[check], [f for f in findings if f.check == check], console)


def _draw_check(check: Check[Any], findings: Sequence[Finding], console: Console) -> None:
    for finding in findings[:_SHOWN]:
        label = "waived" if finding.waiver is not None else finding.severity
        head = Text.assemble("  ", (label, _STYLES.get(label, "dim")), f"  {check.id}")
        if finding.found.place:
            head.append(f"  {printable(finding.found.place, 200)}")
        console.print(head, soft_wrap=True)
        console.print(Text(f"      {printable(finding.found.message, 500)}"), soft_wrap=True)
        if finding.waiver is not None:
            until = f" until {finding.waiver.expires}" if finding.waiver.expires else ""
            console.print(Text(f"      waived{until}: {printable(finding.waiver.reason, 300)}", style="dim"))
    if len(findings) > _SHOWN:
        console.print(f"      … {len(findings) - _SHOWN} more")
    console.print(Text(f"      → {check.remedy}", style="dim"), soft_wrap=True)
    console.print()


def explain(checks: Sequence[Check[Any]], stream: TextIO) -> None:
    """Print explanation, remedy and options of checks."""
    console = console_of(stream)
    for check in checks:
        console.print(Text.assemble((check.id, "bold"), f"  ({check.severity})  {check.title}"))
        for text in (check.explanation, f"What to do: {check.remedy}"):
            console.print(Text(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="  ")))
        for option in fields_of(check.options).values():
            console.print(f"  {option.name} = {literal(option.default)}  {option.help}", soft_wrap=True)
        console.print()


def listing(checks: Sequence[Check[Any]], stream: TextIO) -> None:
    """Print one line per check: id, severity, title."""
    console = console_of(stream)
    for check in checks:
        console.print(f"{check.id:22} {check.severity:8} {check.title}")
