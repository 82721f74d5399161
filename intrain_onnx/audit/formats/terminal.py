"""The audit as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from intrain_onnx.audit.fields import fields_of, literal
from intrain_onnx.audit.run import Finding, Result
from intrain_onnx.audit.table import CHECKS, Check
from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_SHOWN = 12
"""Findings of one check that are listed; machine-readable formats list all."""


def draw(results: Sequence[Result], stream: TextIO) -> None:
    """Print the findings of all models."""
    console = console_of(stream)
    for result in results:
        _draw_one(result, console)


def _draw_one(result: Result, console: Console) -> None:
    counts = result.counts()
    verdict = "passed" if result.passed else "failed"
    style = "bold green" if result.passed else "bold red"
    console.print(Text(printable(result.path, 300), style="bold"), Text(verdict, style=style))
    told = ", ".join(f"{n} {name}{'s' if n != 1 and name != 'waived' else ''}" for name, n in counts.items())
    console.print(f"  {told}; {len(result.checked)} checks, policy {printable(result.policy.source, 100)}")
    if result.evidence is not None:
        scores = ", ".join(f"{name} {r.intrain:.4g}" for name, r in result.evidence.reports.items())
        console.print(f"  InTrain: {scores}" if scores else "  InTrain: not measured")
    console.print()
    for check in dict.fromkeys(f.check for f in result.findings):
        _draw_check(CHECKS[check], [f for f in result.findings if f.check == check], console)


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
