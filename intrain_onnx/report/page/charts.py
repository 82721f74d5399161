"""Plots as coordinates and SVG path data; the template adds the markup."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from intrain_onnx.report.numbers import count

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 18, 36

Point = tuple[float, float]
Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Mark:
    """One SVG path with its CSS class. Points are zero-length strokes with round caps."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A column of the plot with the text that is shown for it."""

    x: float
    width: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A plot against depth, or another position in the network.

    Attributes:
        title: of the plot.
        description: text alternative.
        x_ticks, y_ticks: positions and labels.
        legend: CSS classes of marks and their labels.
        x_label, y_label: what the axes show, with the unit.
    """

    title: str
    description: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    marks: Sequence[Mark]
    hits: Sequence[Hit]
    legend: Sequence[tuple[str, str]] = field(default=())
    x_label: str = "depth"
    y_label: str = ""


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high], in at most ``most`` steps.

    >>> nice_ticks(0, 17)
    [0.0, 5.0, 10.0, 15.0]
    """
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: round(start + (value - low) / span * (end - start), 1)


def _horizontal(depths: Sequence[int]) -> tuple[Scale, list[tuple[float, str]], float]:
    """Scale, ticks, and the width of one step."""
    low, high = min(depths, default=0), max(depths, default=1)
    scale = _linear(low - 0.5, high + 0.5, LEFT, WIDTH - RIGHT)
    ticks = [(scale(t), f"{t:g}") for t in nice_ticks(low, high, 8) if t == int(t)]
    return scale, ticks, (WIDTH - RIGHT - LEFT) / (high - low + 1)


def _dots(points: Sequence[Point]) -> str:
    return "".join(f"M{x:g} {y:g}h0" for x, y in points)


def _dashes(points: Sequence[Point], half: float) -> str:
    return "".join(f"M{x - half:g} {y:g}h{2 * half:g}" for x, y in points)


def _line(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def _hits(texts: Mapping[int, Sequence[str]], scale: Scale, label: str = "depth", most: int = 6) -> list[Hit]:
    """A column for each depth that has texts, up to the middle between it and the next."""
    depths = sorted(texts)
    middles = [scale((a + b) / 2) for a, b in pairwise(depths)]
    edges = [LEFT, *middles, WIDTH - RIGHT]
    hits = []
    for depth, begin, end in zip(depths, edges, edges[1:], strict=False):
        lines = texts[depth]
        head = f"{label.partition(',')[0]} {depth}"
        hits.append(Hit(begin, round(end - begin, 1), "\n".join((head, *_some(lines, most)))))
    return hits


@dataclass(frozen=True, slots=True)
class Sample:
    """A measurement: depth, value and label. ``limit`` is the upper bound of the value."""

    depth: int
    value: float
    text: str
    limit: float | None = None


def scatter(
    title: str,
    description: str,
    samples: Sequence[Sample],
    *,
    log: bool = False,
    top: float | None = None,
    line: Sequence[tuple[float, float]] = (),
    legend: Sequence[tuple[str, str]] = (),
    x_label: str = "depth",
    y_label: str = "",
    marked: Sequence[int] = (),
) -> Chart | None:
    """Scatter plot of measurements against depth; None without samples.

    Args:
        title: see ``Chart``.
        description: see ``Chart``.
        samples: the points; their limits are drawn as dashes.
        log: logarithmic axis.
        top: upper end of a linear axis.
        line: depths and values of a line.
        legend: see ``Chart``.
        x_label: see ``Chart``.
        y_label: see ``Chart``.
        marked: depths with an upright line.
    """
    if not samples:
        return None
    values = [s.value for s in samples] + [s.limit for s in samples if s.limit is not None]
    values += [v for _, v in line]
    x, x_ticks, width = _horizontal([*(s.depth for s in samples), *marked])
    y, y_ticks = _decades(values) if log else _vertical(top or max(values))
    half = min(max(width * 0.35, 1.5), 7.0)
    limits = [(x(s.depth), y(s.limit)) for s in samples if s.limit is not None]
    texts: defaultdict[int, list[str]] = defaultdict(list)
    for s in samples:
        texts[s.depth].append(s.text)
    marks = [
        Mark("alarm", "".join(f"M{x(d):g} {TOP}V{HEIGHT - BOTTOM}" for d in marked)),
        Mark("limit", _dashes(limits, half)),
        Mark("trend", _line([(x(d), y(v)) for d, v in line])),
        Mark("dot", _dots([(x(s.depth), y(s.value)) for s in samples])),
    ]
    hits, drawn = _hits(texts, x, x_label), [m for m in marks if m.path]
    return Chart(title, description, x_ticks, y_ticks, drawn, hits, legend, x_label, y_label)


def _vertical(high: float) -> tuple[Scale, list[tuple[float, str]]]:
    high = high or 1.0
    scale = _linear(0.0, high * 1.02, HEIGHT - BOTTOM, TOP)
    return scale, [(scale(t), f"{t:g}") for t in nice_ticks(0.0, high)]


def _decades(
    values: Sequence[float], start: float = HEIGHT - BOTTOM, end: float = TOP
) -> tuple[Scale, list[tuple[float, str]]]:
    """Logarithmic scale from ``start`` to ``end``, and its ticks."""
    positive = [math.log10(v) for v in values if v > 0]
    low, high = min(positive), max(positive)
    margin = max(0.05 * (high - low), 0.05)
    linear = _linear(low - margin, high + margin, start, end)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    every = max(1, math.ceil((high - low) / 6))
    ticks = [
        (linear(math.log10(m * 10.0**e)), _power(m, e))
        for e in range(math.floor(low), math.ceil(high) + 1)
        for m in steps
        if e % every == 0 and low - margin <= math.log10(m * 10.0**e) <= high + margin
    ]
    return lambda value: linear(math.log10(value)), ticks


def _power(factor: int, exponent: int) -> str:
    if 3 < exponent < 12:
        return count(factor * 10**exponent)
    return f"{factor * 10.0**exponent:g}" if -3 < exponent < 4 else f"{factor}e{exponent}"


def cloud(
    title: str,
    description: str,
    points: Sequence[tuple[float, float, str]],
    *,
    x_label: str,
    y_label: str,
    line: Sequence[tuple[float, float]] = (),
    legend: Sequence[tuple[str, str]] = (),
) -> Chart | None:
    """Scatter plot of values against positive numbers on a logarithmic axis; None with fewer than two points.

    Args:
        title: see ``Chart``.
        description: see ``Chart``.
        points: number, value and label of each; those of numbers that are drawn at one place share a hit.
        line: numbers and values of a line, which are among the points.
        legend: see ``Chart``.
        x_label: see ``Chart``.
        y_label: see ``Chart``.
    """
    drawn = [point for point in points if point[0] > 0]
    if len(drawn) < 2:
        return None
    x, x_ticks = _decades([p[0] for p in drawn], LEFT, WIDTH - RIGHT)
    y, y_ticks = _within([p[1] for p in drawn])
    texts: defaultdict[int, list[str]] = defaultdict(list)
    for number, _, text in drawn:
        texts[round(x(number))].append(text)
    path = _line([(x(number), y(value)) for number, value in line if number > 0])
    marks = [
        *([Mark("trend", path)] if path else []),
        Mark("dot", _dots([(x(number), y(value)) for number, value, _ in drawn])),
    ]
    return Chart(title, description, x_ticks, y_ticks, marks, _columns(texts), legend, x_label, y_label)


def course(
    title: str,
    description: str,
    values: Sequence[tuple[int, float, str]],
    best: Sequence[float],
    y_label: str,
) -> Chart | None:
    """Values against their numbers in a sequence, and the best so far as a line; None without values.

    Args:
        title: see ``Chart``.
        description: see ``Chart``.
        values: number, value and label of each, in order.
        best: of the values up to each.
        y_label: see ``Chart``.
    """
    if not values:
        return None
    x, x_ticks, _ = _horizontal([number for number, _, _ in values])
    y, y_ticks = _within([value for _, value, _ in values])
    places = [x(number) for number, _, _ in values]
    marks = [
        Mark("dot", _dots([(place, y(value)) for place, (_, value, _) in zip(places, values, strict=True)])),
        Mark("trend", _line([(place, y(value)) for place, value in zip(places, best, strict=True)])),
    ]
    texts: defaultdict[int, list[str]] = defaultdict(list)
    for place, (_, _, text) in zip(places, values, strict=True):
        texts[round(place)].append(text)
    legend = [("dot", "architecture"), ("trend", "best so far")]
    return Chart(title, description, x_ticks, y_ticks, marks, _columns(texts), legend, "evaluation", y_label)


def _columns(texts: Mapping[int, Sequence[str]], most: int = 6) -> list[Hit]:
    """A hit for each place on the x axis that has texts, up to the middle between it and the next."""
    places = sorted(texts)
    edges = [LEFT, *((a + b) / 2 for a, b in pairwise(places)), WIDTH - RIGHT]
    return [
        Hit(begin, round(end - begin, 1), "\n".join(_some(texts[place], most)))
        for place, begin, end in zip(places, edges, edges[1:], strict=False)
    ]


def _some(lines: Sequence[str], most: int) -> list[str]:
    return [*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])]


def _within(values: Sequence[float]) -> tuple[Scale, list[tuple[float, str]]]:
    """Linear vertical scale over the range of the values, and its ticks."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    scale = _linear(low - margin, high + margin, HEIGHT - BOTTOM, TOP)
    return scale, [(scale(t), f"{t:g}") for t in nice_ticks(low - margin, high + margin)]


def curves(
    title: str,
    description: str,
    depths: Sequence[int],
    series: Sequence[tuple[str, str, Sequence[float]]],
) -> Chart | None:
    """Cumulative sums against depth, each in per cent of its final value, on a shared axis.

    Args:
        title: see ``Chart``.
        description: see ``Chart``.
        depths: of the sums.
        series: CSS class, name, and sums of each curve.
    """
    if not depths:
        return None
    x, x_ticks, _ = _horizontal(depths)
    y, y_ticks = _vertical(100.0)
    texts: dict[int, list[str]] = {d: [] for d in depths}
    marks = []
    for kind, name, sums in series:
        total = sums[-1]
        shares = [100.0 * s / total if total else 0.0 for s in sums]
        marks.append(Mark(kind, _line([(x(d), y(s)) for d, s in zip(depths, shares, strict=True)])))
        for d, s, share in zip(depths, sums, shares, strict=True):
            texts[d].append(f"{name} {s:.4g} ({share:.0f} %)")
    legend = [(kind, f"{name}, {sums[-1]:.4g} in all") for kind, name, sums in series]
    hits = _hits(texts, x)
    return Chart(title, description, x_ticks, y_ticks, marks, hits, legend, y_label="% of the total")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, its interval and its runs, as positions from 0 to ``width`` on a shared axis."""

    width: int
    low: float
    high: float
    mean: float
    runs: Sequence[float]


def intervals(
    rows: Sequence[tuple[float, tuple[float, float] | None, Sequence[float]]], width: int = 160
) -> list[Interval]:
    """Means with their intervals and runs, scaled to one axis."""
    ends = [v for mean, ci, runs in rows for v in (mean, *(ci or ()), *runs)]
    scale = _linear(min(ends, default=0.0), max(ends, default=1.0), 6, width - 6)
    made = []
    for mean, ci, runs in rows:
        low, high = ci or (mean, mean)
        made.append(Interval(width, scale(low), scale(high), scale(mean), [scale(r) for r in runs]))
    return made
