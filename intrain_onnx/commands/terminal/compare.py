"""Terminal view of a comparison of two networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from intrain_onnx.commands.terminal.shared import left_out
from intrain_onnx.errors import printable
from intrain_onnx.report.comparison import Comparison, LayerRow, Move, moves
from intrain_onnx.report.console import console_of
from intrain_onnx.report.numbers import decimal, quantity

_AROUND = 3
_MOVED = 12
"""Layers that moved most, of which a comparison of reports shows so many."""


def comparison(
    found: Comparison, paths: tuple[Path, Path], stream: TextIO, *, show_all: bool = False
) -> None:
    """Print two aligned networks side by side, around the first difference."""
    console = console_of(stream)
    counts = [sum(pair[side] is not None for pair in found.rows) for side in (0, 1)]
    verdict, style = _verdict(found)
    console.print(Text(f"{verdict}: {counts[0]} and {counts[1]} canonical layers", style=style))
    for name, (a, b, relative) in found.scores.items():
        console.print(f"  {name:24} {a:.6g}  {b:.6g}  (relative difference {relative:.2g})")
    if found.different:
        words = f"  the reports differ in {', '.join(found.different)}, which moves scores and layers too"
        console.print(Text(words, style="bold yellow"))
    if found.scores:
        _draw_moves(moves(found), console, show_all)
    first = found.first_difference
    around = range(len(found.rows)) if show_all else range(0)
    if first is not None and not show_all:
        around = range(max(first - _AROUND, 0), min(first + _AROUND + 1, len(found.rows)))
    if not around:
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("")
    for path in paths:
        table.add_column(printable(path.name, 60), overflow="fold")
    for index in around:
        pair = found.rows[index]
        table.add_row(">" if index == first else "", *(_layer_cell(row) for row in pair))
    console.print(table)
    if first is not None:
        console.print(f"  first difference: {_difference(*found.rows[first])}")


def _draw_moves(moved: Sequence[Move], console: Console, show_all: bool) -> None:
    if not moved:
        console.print("  no layer moved: participation ratios and gradient healths are the same")
        return
    shown = moved if show_all else moved[:_MOVED]
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("layer that moved", overflow="fold")
    for title in ("depth", "participation ratio", "gradient health"):
        table.add_column(title, justify="right")
    for move in shown:
        ratios = f"{_measured(move.old, move.old.ratio)} → {_measured(move.new, move.new.ratio)}"
        healths = f"{decimal(move.old.health, 3) or '-'} → {decimal(move.new.health, 3) or '-'}"
        table.add_row(printable(move.new.name, 60), str(move.new.depth), ratios, healths)
    console.print(table)
    if len(moved) > len(shown):
        console.print(f"  {len(moved) - len(shown)} more layers moved less: --all lists them")


def _measured(row: LayerRow, ratio: float | None) -> str:
    """The participation ratio, or why there is none."""
    return quantity(ratio) if ratio is not None else (row.status or "-").replace("_", " ")


def _verdict(found: Comparison) -> tuple[str, str]:
    if found.same:
        return "the same architecture", "bold green"
    if found.first_difference is not None:
        return "different architectures", "bold red"
    lowest = min(found.covered)
    return f"not known to be the same, as {left_out(lowest)} of the weights are in no layer", "bold yellow"


def _layer_cell(row: LayerRow | None) -> str:
    if row is None:
        return "—"
    return f"{row.depth}  {row.kind} {'x'.join(map(str, row.shape))}  {printable(row.name, 60)}"


def _difference(a: LayerRow | None, b: LayerRow | None) -> str:
    if a is None or b is None:
        return "a layer that the other model lacks"
    if a.kind != b.kind or a.shape != b.shape:
        return "kind or weight shape"
    return "depth" if a.depth != b.depth else "stride, groups, or the layers before and after"
