"""Terminal view of a ranking of many models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from intrain_onnx.commands.terminal.shared import label_length, marks, show_notes, show_overlap
from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of
from intrain_onnx.report.context.inputs import mixed_inputs
from intrain_onnx.report.context.overlap import Overlap
from intrain_onnx.report.derived import file_labels, mixed_names
from intrain_onnx.report.numbers import tally
from intrain_onnx.vocabulary import LEADING

if TYPE_CHECKING:
    from intrain_onnx.rank.rows import Row


def ranks(
    rows: Sequence[Row], by: str, top: int, stream: TextIO, overlapping: Sequence[Overlap] = ()
) -> None:
    """Print the best models in the order given, and how many failed of what.

    Args:
        rows: in rank order.
        by: the value that they are ranked by.
        top: rows to print.
        stream: where to.
        overlapping: of the scores with what can be counted.
    """
    console = console_of(stream)
    scored = [row for row in rows if row.value(by) is not None]
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("model", overflow="fold")
    columns = dict.fromkeys([by, LEADING, "intrain", "parameters", "macs", "layers"])
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("warnings", justify="right")
    labels = file_labels([row.model for row in scored[:top]])
    for rank, (row, label) in enumerate(zip(scored[:top], labels, strict=True), start=1):
        marked = marks(by, row.value(by), row.coverage)
        values = [_shown(row.value(name)) + (marked if name == by else "") for name in columns]
        table.add_row(str(rank), printable(label, label_length(console)), *values, str(len(row.warnings)))
    if scored:
        console.print(table)
    same = sum(row.same_as is not None for row in rows)
    said = f"  {len(scored)} of {len(rows)} models have a rank"
    console.print(Text(said + (f"; {same} are files that were scored under another name" if same else "")))
    mixed = mixed_names({row.kind for row in scored})
    for warning in filter(None, (mixed, mixed_inputs(row.inputs for row in scored))):
        console.print(Text(f"  {warning}", style="bold red"), soft_wrap=True)
    show_notes(console, (marks(by, row.value(by), row.coverage) for row in scored[:top]))
    show_overlap(console, overlapping)
    failed = Counter((row.status, row.error.kind) for row in rows if row.error is not None)
    for (status, kind), number in failed.most_common():
        example = next(r for r in rows if r.error is not None and (r.status, r.error.kind) == (status, kind))
        assert example.error is not None
        text = f"  {number} {status}: {kind}, as {printable(example.error.message, 200)}"
        console.print(Text(text), soft_wrap=True)


def _shown(value: float | None) -> str:
    return tally(value) if isinstance(value, int) or value is None else f"{value:.4g}"
