"""What the graph alone tells."""

from __future__ import annotations

from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from intrain_onnx.commands.terminal.shared import console_of, opsets, show_warnings
from intrain_onnx.errors import printable
from intrain_onnx.inspection import Inspection
from intrain_onnx.report.numbers import count

_LAYERS_SHOWN = 40


def inspection(found: Inspection, stream: TextIO, *, show_all: bool = False) -> None:
    """What the graph alone tells."""
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
            printable(layer.name, 80),
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
