"""Helpers shared by the views: console, warnings, formatting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from intrain_onnx.errors import printable
from intrain_onnx.report.context.overlap import HEADER, Overlap, cells, remarks
from intrain_onnx.report.derived import is_void
from intrain_onnx.report.rows import WarningRow


def show_warnings(console: Console, warnings: Sequence[WarningRow]) -> None:
    """Print the warnings of a document, if any."""
    if not warnings:
        return
    console.print(Text("  Warnings", style="bold yellow"))
    for row in warnings:
        node = f" (node {printable(row.node, 100)})" if row.node else ""
        console.print(f"    {row.code}: {printable(row.message, 400)}{node}", soft_wrap=True)
    console.print()


def show_overlap(console: Console, found: Sequence[Overlap]) -> None:
    """Print the rank correlation of each score with what can be counted, if there are enough networks."""
    if not found:
        return
    title = f"Kendall's tau with what can be counted (95 % interval), {found[0].networks} networks"
    table = Table(
        box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, title=title, title_justify="left"
    )
    for name in HEADER:
        table.add_column(name, justify="left" if name == "score" else "right")
    for row in cells(found):
        table.add_row(*(printable(cell, 60) for cell in row))
    console.print(table)
    for remark in remarks(found):
        console.print(Text(f"  {printable(remark, 200)}", style="bold red"), soft_wrap=True)


VOID = "!"
"""Beside a score that says nothing; `NOTES` has the sentence for it."""

NOTES: Mapping[str, str] = {
    "*": "leaves weights out: see the warning weights_not_recognised",
    VOID: "a score of 0 says nothing of the network: no layer is live, or the gradient dies",
}
"""What the marks beside a score mean."""


def label_length(console: Console) -> int:
    """Characters of a name that are shown: all, unless a terminal has to fold it."""
    return 120 if console.is_terminal else 4096


def marks(name: str, value: float | None, coverage: float | None) -> str:
    """The marks of a score, see `NOTES`."""
    return ("*" if coverage is not None and coverage < 1 else "") + (VOID if is_void(name, value) else "")


def show_notes(console: Console, shown: Iterable[str]) -> None:
    """Print the sentence for each mark that is shown."""
    seen = "".join(shown)
    for mark, note in NOTES.items():
        if mark in seen:
            console.print(Text(f"  {mark} {note}", style="bold red"), soft_wrap=True)


def opsets(imports: Mapping[str, int]) -> str:
    """Operator set versions; the default ONNX domain is not named."""
    return ", ".join(f"{v}" if k == "ai.onnx" else f"{printable(k, 40)} {v}" for k, v in imports.items())


def left_out(share: float) -> str:
    """1 - ``share``, the share of weights in no layer, in per cent, rounded up."""
    return f"{math.ceil((1 - share) * 1000) / 10:g} %"
