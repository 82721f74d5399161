"""Terminal view of a benchmark's statistics."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.table import Table

from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of
from intrain_onnx.report.numbers import with_interval

if TYPE_CHECKING:
    from intrain_onnx.bench.summary import Summary

_FAILURES_SHOWN = 3


def benchmark(found: Summary, stream: TextIO) -> None:
    """Print Kendall's tau of every measure with each data set's accuracies, best measure first."""
    console = console_of(stream)
    titles = list(found.measures[0].results)
    title = f"Kendall tau (95 % interval), {found.architectures} architectures"
    table = Table(box=box.SIMPLE, title=title)
    table.add_column("measure")
    for name in titles:
        table.add_column(name, justify="right")
    rows = [(row, [row.results[name].tau for name in titles]) for row in found.measures]
    for row, taus in sorted(rows, key=lambda item: -(item[1][0].value or -1.0)):
        table.add_row(f"{row.group}: {row.name}", *(with_interval(*astuple(tau)) for tau in taus))
    console.print(table)
    for failure in found.failures[:_FAILURES_SHOWN]:
        where = f"{printable(failure.architecture)} ({failure.protocol})"
        console.print(f"failed: {where}: {failure.error}")
    if len(found.failures) > _FAILURES_SHOWN:
        console.print(f"… {len(found.failures) - _FAILURES_SHOWN} more failed; see summary.json")
