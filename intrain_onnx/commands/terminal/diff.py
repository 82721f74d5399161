"""Terminal view of a comparison of two files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from intrain_onnx.diff.rows import Compared, Document, LayerRow, OutputRow, Side
from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of

_SHOWN = 12
"""Layers and findings that are listed, unless all are asked for."""


def draw(found: Document, stream: TextIO, *, show_all: bool = False) -> None:
    """Print verdict, findings, outputs and the layers that differ most."""
    console = console_of(stream)
    _head(found, console)
    _findings(found, console, show_all=show_all)
    for output in found.outputs:
        console.print(Text(f"  output {printable(output.first, 60)}: {_output(output)}"), soft_wrap=True)
    if found.parts_at is not None:
        console.print(
            Text(f"  they part at layer {printable(found.parts_at, 200)}", style="bold"), soft_wrap=True
        )
    layers = found.layers if show_all else worst(found.layers, _SHOWN)
    if layers:
        console.print(_table(layers))
    left = len(found.layers) - len(layers)
    if left:
        console.print(Text(f"  {left} layers that differ less are left out: see --all", style="dim"))
    for note in found.notes:
        console.print(Text(f"  note: {printable(note, 500)}", style="yellow"), soft_wrap=True)


def _head(found: Document, console: Console) -> None:
    said, style = verdict(found)
    console.print(Text(said, style=style))
    for name, side in (("A", found.first), ("B", found.second)):
        console.print(Text(f"  {name}  {printable(side.path, 300)}: {_side(side)}"), soft_wrap=True)
    what = f"{', '.join(found.inputs.given)} given" if found.inputs.given else "noise"
    console.print(
        f"  {found.inputs.samples} samples ({what}), seed {found.inputs.seed}; B is expected to be a "
        f"{'conversion' if found.expected == 'conversion' else 'later checkpoint'}"
    )


def verdict(found: Document) -> tuple[str, str]:
    """The result in words, and its style."""
    if found.passed:
        return f"the same network{'' if _all_equal(found) else ', within the thresholds'}", "bold green"
    count = len(found.findings)
    return f"not the same network: {count} finding{'s' if count > 1 else ''}", "bold red"


def _all_equal(found: Document) -> bool:
    return found.same_structure and all(
        o.difference is not None and o.difference.equal for o in found.outputs
    )


def _side(side: Side) -> str:
    parts = [side.precision, *side.quantisation, f"{side.layers} layers", f"{side.parameters:,} parameters"]
    if side.intrain is not None:
        parts.append(f"InTrain {side.intrain:.4g}")
    return ", ".join(parts)


def _findings(found: Document, console: Console, *, show_all: bool) -> None:
    shown = found.findings if show_all else found.findings[:_SHOWN]
    for row in shown:
        place = f"  {printable(row.place, 200)}" if row.place else ""
        limit = (
            f" (at least {row.threshold:g})"
            if row.threshold is not None and row.rule not in ("levels", "zeros", "not-finite")
            else ""
        )
        head = Text.assemble("  ", (row.rule, "bold red"), place)
        console.print(head, soft_wrap=True)
        console.print(Text(f"      {printable(row.message, 500)}{limit}"), soft_wrap=True)
    if len(found.findings) > len(shown):
        console.print(Text(f"  … {len(found.findings) - len(shown)} more findings: see --all", style="dim"))


def _output(row: OutputRow) -> str:
    if row.difference is None:
        return row.unseen or "not compared"
    if row.difference.equal:
        return "equal"
    said = f"{decibels(row.difference)}, relative error {row.difference.relative_error or 0:.2g}"
    return said + (f", top class agrees in {row.agreement:.1%}" if row.agreement is not None else "")


def decibels(difference: Compared) -> str:
    """Signal to noise in words."""
    return (
        "equal"
        if difference.equal
        else f"{difference.snr_db:.0f} dB"
        if difference.snr_db is not None
        else "—"
    )


def worst(layers: Sequence[LayerRow], count: int) -> list[LayerRow]:
    """The layers that differ most, in the order of the network."""

    def size(row: LayerRow) -> float:
        if row.status != "same":
            return math.inf
        tensors = [w.difference for w in row.weights if w.difference is not None and w.role == "weight"]
        known = [d for d in (row.activation, *tensors) if d is not None]
        return max(
            (d.relative_error if d.relative_error is not None else math.inf for d in known), default=0.0
        )

    chosen = sorted(range(len(layers)), key=lambda i: (-size(layers[i]), i))[:count]
    return [layers[i] for i in sorted(chosen) if size(layers[i]) > 0]


def _table(layers: Sequence[LayerRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column("depth", justify="right")
    table.add_column("layer", overflow="fold", ratio=1)
    for name in ("weight", "activation", "corr.", "log PR", "health"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in layers:
        weight = next((w.difference for w in row.weights if w.role == "weight"), None)
        acts = row.activation
        name = printable(row.first or row.second or "", 80) + (
            "" if row.status == "same" else f" ({row.status})"
        )
        table.add_row(
            str(row.depth),
            name,
            decibels(weight) if weight is not None else "—",
            decibels(acts) if acts is not None else "—",
            f"{acts.correlation:.4f}" if acts is not None and acts.correlation is not None else "—",
            _change(row.log_participation_ratio, ".2f"),
            _change(row.health, ".2g"),
        )
    return table


def _change(pair: tuple[float | None, float | None], form: str) -> str:
    a, b = (f"{v:{form}}" if v is not None else "—" for v in pair)
    return a if a == b else f"{a} → {b}"
