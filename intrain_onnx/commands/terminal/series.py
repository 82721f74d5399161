"""Terminal view of a series of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from intrain_onnx.checkpoints.page import words
from intrain_onnx.checkpoints.rows import Alarm, Document, Step
from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of
from intrain_onnx.report.numbers import percent, quantity

_MOST = 40
"""Rows of the table, and alarms below it."""


def draw(found: Document, stream: TextIO) -> None:
    """Print the steps with their scores, then the alarms and what has no score."""
    console = console_of(stream)
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("step", justify="right")
    for name in ("InTrain", "volume", "gradient", "moved", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("alarms", overflow="fold")
    told: dict[tuple[int, str], list[str]] = {}
    for alarm in found.alarms:
        told.setdefault((alarm.step, alarm.path), []).append(alarm.rule)
    shown = found.steps[-_MOST:]
    for row in shown:
        said = words(told.get((row.step, row.path), []))
        if row.status != "scored":
            said = ", ".join(
                filter(None, ("another architecture" if row.status == "other" else "failed", said))
            )
        table.add_row(*_cells(row), Text(said, style="bold red"))
    if shown:
        console.print(table)
    if len(shown) < len(found.steps):
        console.print(Text(f"  the last {len(shown)} of {len(found.steps)} checkpoints", style="dim"))
    _alarms(found.alarms, console)
    _failures([row for row in found.steps if row.error is not None], console)
    _end(found, console)


def line(row: Step, alarms: Sequence[Alarm], stream: TextIO) -> None:
    """Print one checkpoint as it comes, with the alarms that begin with it."""
    console = console_of(stream)
    step, intrain, volume, gradient, moved, dead = _cells(row)
    told = f"InTrain {intrain}, volume {volume}, gradient {gradient}"
    told += f", moved {moved}" if moved else ""
    told += f", {dead} dead channels" if dead not in ("", "0") else ""
    said = told if row.status == "scored" else printable(row.error.message if row.error else row.status, 500)
    console.print(Text(f"step {step}  {said}"), soft_wrap=True)
    _alarms(alarms, console)
    stream.flush()


def summary(found: Document, stream: TextIO) -> None:
    """Print how many checkpoints and alarms there are."""
    _end(found, console_of(stream))


def _cells(row: Step) -> tuple[str, ...]:
    known = [x.dead_channels for x in row.layers if x.dead_channels is not None]
    return (
        str(row.step),
        quantity(row.intrain),
        quantity(row.volume),
        quantity(row.gradient_norm),
        percent(row.distance_to_previous),
        str(sum(known)) if known else "",
    )


def _alarms(alarms: Sequence[Alarm], console: Console) -> None:
    for alarm in alarms[:_MOST]:
        where = f"{printable(alarm.layer, 80)}: " if alarm.layer is not None else ""
        head = Text.assemble("  ", (f"{alarm.rule} at step {alarm.step}", "bold red"), "  ")
        console.print(head + Text(where + printable(alarm.message, 300)), soft_wrap=True)
    if len(alarms) > _MOST:
        console.print(Text(f"  … {len(alarms) - _MOST} more alarms: see --json or -o DIR", style="dim"))


def _failures(rows: Sequence[Step], console: Console) -> None:
    for row in rows[:_MOST]:
        assert row.error is not None
        console.print(Text(f"  step {row.step}  {printable(row.error.message, 600)}"), soft_wrap=True)


def _end(found: Document, console: Console) -> None:
    scored = sum(row.status == "scored" for row in found.steps)
    many = len(found.alarms)
    said = f"{many} alarm{'s' if many != 1 else ''}" if many else "no alarm"
    style = "bold red" if many else "bold green"
    console.print(
        Text.assemble(f"  {scored} of {len(found.steps)} checkpoints have a score, ", (said, style))
    )
