"""Terminal view of the static pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from intrain_onnx.commands.terminal.shared import opsets, show_warnings
from intrain_onnx.errors import printable
from intrain_onnx.inspection import Inspection
from intrain_onnx.report.console import console_of
from intrain_onnx.report.numbers import count
from intrain_onnx.rewrites.protocol.step import Changes

_LAYERS_SHOWN = 40
_PLACES_SHOWN = 3


def inspection(found: Inspection, stream: TextIO, *, show_all: bool = False) -> None:
    """Print the results of the static pass."""
    console, data = console_of(stream), found.document
    model = data.model
    console.print(Text(printable(model.path or "model in memory", 300), style="bold"))
    console.print(
        f"  {printable(model.producer, 100) or 'unknown producer'}, IR {model.ir_version}, opset "
        f"{opsets(model.opset_imports)}, {model.nodes} nodes, "
        f"{count(model.parameters)} parameters, {count(model.macs)} MACs a sample"
    )
    for label, values in (("input", model.inputs), ("output", model.outputs)):
        for value in values:
            shape = (
                "unknown rank"
                if value.shape is None
                else "x".join("?" if d is None else printable(d, 40) for d in value.shape)
            )
            console.print(f"  {label:7} {printable(value.name, 100)}  {value.dtype}  {shape or 'scalar'}")
    layers = data.layers
    table = Table(
        box=box.SIMPLE,
        title=f"  {len(layers)} canonical layers",
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for name in ("  depth", "layer", "op", "weight", "bias", "MACs"):
        table.add_column(name, justify="right" if name in ("  depth", "MACs") else "left", overflow="fold")
    for layer in layers if show_all else layers[:_LAYERS_SHOWN]:
        table.add_row(
            str(layer.depth),
            printable(layer.label, 80),
            layer.op,
            " + ".join("x".join(map(str, s)) for s in layer.weight_shapes),
            "yes" if layer.bias else "",
            count(layer.macs),
        )
    if layers:
        console.print(table)
    if len(layers) > _LAYERS_SHOWN and not show_all:
        console.print(f"  … {len(layers) - _LAYERS_SHOWN} more: --all")
    if data.unsupported_ops:
        console.print(Text("  Unsupported operators", style="bold red"))
        for name, number in data.unsupported_ops.items():
            console.print(f"    {printable(name, 100)}  {number} node{'s' if number > 1 else ''}")
    show_warnings(console, data.warnings)
    if found.rewrites:
        _rewrites(console, found.rewrites, most=None if show_all else _PLACES_SHOWN)


def _rewrites(console: Console, rewrites: Mapping[str, Changes], most: int | None) -> None:
    """Print what each rewrite changed, and why it declined elsewhere."""
    console.print(Text("  Rewrites of the architecture protocol", style="bold"))
    idle = [name for name, changes in rewrites.items() if not (changes.places or changes.declined)]
    for name, changes in rewrites.items():
        if name in idle:
            continue
        number = len(changes.places)
        console.print(f"    {name}: {number} place{'' if number == 1 else 's'}")
        for place in changes.places[:most]:
            console.print(Text(f"      {printable(place, 100)}", style="dim"))
        _and_more(console, number, most)
        for declined in changes.declined[:most]:
            told = f"      not {printable(declined.place, 100)}: {printable(declined.reason, 300)}"
            console.print(Text(told, style="yellow"))
        _and_more(console, len(changes.declined), most)
    if idle:
        console.print(f"    nothing to do: {', '.join(idle)}")


def _and_more(console: Console, number: int, most: int | None) -> None:
    if most is not None and number > most:
        console.print(f"      … {number - most} more: --all")
