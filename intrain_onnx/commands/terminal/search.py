"""Terminal view of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of

if TYPE_CHECKING:
    from intrain_onnx.search.page import Summary


def search(found: Summary, stream: TextIO) -> None:
    """Print what was chosen, and what became of the rest."""
    console = console_of(stream)
    console.print(Text(f"  {printable(found.headline)}"), soft_wrap=True)
    if found.picked:
        table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
        for name in found.columns():
            table.add_column(name, justify="left" if name in ("architecture", "onnxruntime") else "right")
        for row in found.cells():
            table.add_row(*(Text(text, overflow="fold") for text, _ in row))
        console.print(table)
    console.print(Text(f"  {found.said()}"), soft_wrap=True)
    if failures := found.failures():
        _, kind, message = failures[0]
        console.print(Text(f"  without a score: {kind}, as {printable(message, 200)}"), soft_wrap=True)
