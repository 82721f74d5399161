"""Heat maps of layers by steps, as coordinates; the template adds the markup. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from intrain_onnx.checkpoints.rows import LayerStep, Step
from intrain_onnx.errors import printable
from intrain_onnx.report.numbers import percent, quantity
from intrain_onnx.report.page.view import BINS, HEALTH_TOP

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 440, 116, 12, 6, 36
_ROW, _TALL = 15, 24
_NAME = 17
_MOST_STEPS, _MOST_LAYERS = 60, 60
_APART = 44
"""Between two labels of the steps."""

Value = tuple[float, str]
"""Where on the colour scale, 0 to 1, and in words."""


@dataclass(frozen=True, slots=True)
class Box:
    """A layer at a step: its place, its colour (None without a value), and its text."""

    x: float
    colour: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Band:
    """A layer at all steps: its place, its name, and its boxes."""

    y: int
    name: str
    boxes: Sequence[Box]


@dataclass(frozen=True)
class Heat:
    """Layers by steps.

    Attributes:
        title: of the figure.
        description: text alternative.
        low, high: what the ends of the colour scale are.
        width, height: of a box.
        bottom: y of the axis.
        bands: of the layers.
        ticks: x and label of steps.
        alarms: path data of frames.
    """

    title: str
    description: str
    low: str
    high: str
    width: float
    height: int
    bottom: int
    bands: Sequence[Band]
    ticks: Sequence[tuple[float, str]]
    alarms: str


@dataclass(frozen=True)
class Grid:
    """The steps and layers that are drawn, of rows with layers."""

    steps: Sequence[Step]
    names: Sequence[str]
    layers: Mapping[tuple[int, str], LayerStep]

    @classmethod
    def of(cls, steps: Sequence[Step], marked: Collection[tuple[int, str | None]]) -> Grid:
        """All of them, or as many as can be told apart: those with an alarm, and others evenly."""
        measured = [row for row in steps if row.layers]
        names = list(dict.fromkeys(x.name for row in measured for x in row.layers))
        alarmed = {step for step, _ in marked}
        chosen = _spread(measured, _MOST_STEPS, [row.step in alarmed for row in measured])
        ringed = {name for _, name in marked}
        kept = _spread(names, _MOST_LAYERS, [name in ringed for name in names])
        layers = {(i, x.name): x for i, row in enumerate(chosen) for x in row.layers}
        return cls(chosen, kept, layers)

    def left_out(self, steps: Sequence[Step]) -> str:
        """What is not drawn, in words; empty if all is."""
        measured = [row for row in steps if row.layers]
        layers = len({x.name for row in measured for x in row.layers})
        if len(self.steps) == len(measured) and len(self.names) == layers:
            return ""
        return (
            f"Of {len(measured)} checkpoints and {layers} layers, {len(self.steps)} and {len(self.names)} "
            "are drawn: those with an alarm, and others evenly."
        )


def _spread(items: Sequence[object], most: int, first: Sequence[bool]) -> list:  # type: ignore[type-arg]
    if len(items) <= most:
        return list(items)
    chosen = {i for i, marked in enumerate(first) if marked}
    chosen = set(sorted(chosen)[:most])
    others = [i for i in range(len(items)) if i not in chosen]
    room = most - len(chosen)
    chosen |= {others[round(k * (len(others) - 1) / max(room - 1, 1))] for k in range(room)}
    return [items[i] for i in sorted(chosen)]


def heat(
    title: str,
    grid: Grid,
    value: Callable[[LayerStep], Value | None],
    ends: tuple[str, str],
    marked: Mapping[tuple[int, str], str],
) -> Heat | None:
    """A heat map of one value; None where no layer has it.

    Args:
        title: of the figure.
        grid: what is drawn.
        value: of a layer, on the colour scale and in words.
        ends: what the ends of the scale are.
        marked: texts of alarms, by step and layer.
    """
    found = {key: value(layer) for key, layer in grid.layers.items()}
    if all(v is None for v in found.values()):
        return None
    high = _TALL if len(grid.names) <= 12 else _ROW
    wide = (WIDTH - LEFT - RIGHT) / max(len(grid.steps), 1)
    labels = {x.name: x.label for x in grid.layers.values()}
    bands, frames = [], []
    for r, name in enumerate(grid.names):
        y, boxes = TOP + r * high, []
        for c, row in enumerate(grid.steps):
            x, known, alarm = round(LEFT + c * wide, 1), found.get((c, name)), marked.get((row.step, name))
            boxes.append(Box(x, _bin(known), _words(row, labels[name], known, alarm)))
            if alarm is not None:
                frames.append(f"M{x:g} {y}h{wide:.1f}v{high}h{-wide:.1f}z")
        bands.append(Band(y, _short(labels[name]), boxes))
    bottom = TOP + high * len(grid.names)
    told = (
        f"{title} of {len(grid.names)} layers at {len(grid.steps)} checkpoints, {len(frames)} with an alarm."
    )
    return Heat(title, told, *ends, round(wide, 1), high, bottom, bands, _ticks(grid, wide), "".join(frames))


def _bin(value: Value | None) -> int | None:
    return None if value is None else max(0, min(int(value[0] * BINS), BINS - 1))


def _words(row: Step, name: str, known: Value | None, alarm: str | None) -> str:
    lines = [f"step {row.step}", f"{printable(name, 60)}: {known[1] if known is not None else 'no value'}"]
    return "\n".join([*lines, *([f"Alarm: {alarm}"] if alarm is not None else [])])


def _short(name: str) -> str:
    shown = printable(name, 200)
    return shown if len(shown) <= _NAME else f"…{shown[1 - _NAME :]}"


def _ticks(grid: Grid, wide: float) -> list[tuple[float, str]]:
    every = max(1, math.ceil(_APART / wide))
    return [
        (round(LEFT + (c + 0.5) * wide, 1), str(grid.steps[c].step)) for c in range(0, len(grid.steps), every)
    ]


def ratio(layer: LayerStep) -> Value | None:
    """Log of the participation ratio over that of its bound."""
    pr, most = layer.participation_ratio, layer.largest_ratio
    if pr is None or most is None:
        return None
    share = math.log(pr) / math.log(most) if most > 1 else 1.0
    return share, f"{quantity(pr)} of {most}"


def health(layer: LayerStep) -> Value | None:
    """Gradient health, up to the end of the scale."""
    return None if layer.health is None else (layer.health / HEALTH_TOP, quantity(layer.health))


def dead(layer: LayerStep) -> Value | None:
    """Share of dead channels."""
    if layer.dead_channels is None:
        return None
    share = layer.dead_channels / max(layer.channels, 1)
    return share, f"{layer.dead_channels} of {layer.channels}"


def distance(layer: LayerStep) -> Value | None:
    """Log of the relative distance to the checkpoint before, from a thousandth to the whole."""
    moved = layer.distance_to_previous
    if moved is None:
        return None
    share = (math.log10(moved) + 3) / 3 if moved > 0 else 0.0
    return share, percent(moved)
