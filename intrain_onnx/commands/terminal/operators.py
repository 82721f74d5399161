"""Terminal view of the operator support table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.table import Table

from intrain_onnx.errors import printable
from intrain_onnx.opset import support_table
from intrain_onnx.report.console import console_of


def operators(rows: Sequence[support_table.Row], stream: TextIO, *, missing: bool = False) -> None:
    """Print the support table, or only the operators without a handler."""
    console = console_of(stream)
    shown = [row for row in rows if row.missing] if missing else rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("domain", "operator", *(("no handler",) if missing else ("handler", "in ONNX")), ""):
        table.add_column(name, overflow="fold")
    for row in shown:
        versions = (row.missing,) if missing else (row.handled, row.known)
        table.add_row(
            row.domain,
            row.op_type,
            *(support_table.numbers(v) or "-" for v in versions),
            printable(row.note, 200),
        )
    if shown:
        console.print(table)
    console.print(support_table.totals(rows))
