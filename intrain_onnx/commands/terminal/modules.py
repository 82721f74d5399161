"""Terminal view of the modules that the layers of a model are in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from intrain_onnx.errors import printable
from intrain_onnx.loading.module_paths import nested
from intrain_onnx.report.console import console_of
from intrain_onnx.report.numbers import count
from intrain_onnx.report.rows import InspectedLayer

_DEEPEST = 40


@dataclass
class Module:
    """A module, and what lies in it.

    Attributes:
        name: within the module around it.
        layers: in it and in its modules.
        inner: its modules, in the order of their first layers.
        own: the layers that are it themselves: one, unless it is called several times.
    """

    name: str
    layers: list[InspectedLayer] = field(default_factory=list)
    inner: dict[str, Module] = field(default_factory=dict)
    own: list[InspectedLayer] = field(default_factory=list)

    @property
    def weights(self) -> int:
        """Elements of its layers' weights, one that several layers read once."""
        tensors = {
            name: math.prod(shape)
            for layer in self.layers
            for name, shape in zip(layer.weights, layer.weight_shapes, strict=True)
        }
        return sum(tensors.values())

    @property
    def macs(self) -> int | None:
        """Of its layers, for one sample; None where a shape is unknown."""
        found = [layer.macs for layer in self.layers if layer.macs is not None]
        return sum(found) if len(found) == len(self.layers) else None


def tree(layers: Sequence[InspectedLayer]) -> Module:
    """Modules by the paths of their layers; a layer of unknown module stands by its own name."""
    root = Module("")
    for layer in layers:
        root.layers.append(layer)
        here = root
        for name in (nested(layer.module) if layer.module else (layer.name,))[:_DEEPEST]:
            here = here.inner.setdefault(name, Module(name))
            here.layers.append(layer)
        here.own.append(layer)
    return root


def modules(layers: Sequence[InspectedLayer], stream: TextIO) -> None:
    """Print the modules, each under the one that it is in, with their layers, weights and operations."""
    table = Table(box=box.SIMPLE, title="  Modules", title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("  module", overflow="fold")
    table.add_column("kind")
    for name in ("layers", "weights", "MACs"):
        table.add_column(name, justify="right")
    root = tree(layers)
    for depth, module in _walk(root, 0):
        kinds = dict.fromkeys(layer.op for layer in module.own)
        table.add_row(
            Text("  " + "  " * depth + printable(module.name, 80)),
            ", ".join(kinds),
            str(len(module.layers)),
            count(module.weights),
            count(module.macs),
        )
    table.add_section()
    table.add_row("  all", "", str(len(root.layers)), count(root.weights), count(root.macs))
    console = console_of(stream)
    console.print(table)
    unknown = sum(layer.module is None for layer in layers)
    if unknown:
        said = f"  {unknown} of {len(layers)} layers stand by their nodes: no name tells their module"
        console.print(Text(said), soft_wrap=True)


def _walk(module: Module, depth: int) -> Iterator[tuple[int, Module]]:
    for inner in module.inner.values():
        yield depth, inner
        yield from _walk(inner, depth + 1)
