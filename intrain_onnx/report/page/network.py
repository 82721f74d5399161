"""Layered layout of the layer graph: columns are depths, wrapped into lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

COLUMN, ROW = 46, 36
HALF_WIDTH, HALF_HEIGHT = 15, 13
ARCS, LABELS = 46, 22
PER_LINE = 23
"""Depths in one line: as many columns as fit on the page."""


@dataclass(frozen=True)
class Node:
    """A layer to be placed; ``id`` is its identifier on the page, ``inputs`` are names of other nodes."""

    id: str
    name: str
    depth: int
    inputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Edge:
    """SVG path data of an edge, and the ids of its source and target layers."""

    path: str
    begin: str
    end: str


@dataclass(frozen=True)
class Line:
    """One line of the diagram: consecutive depths from left to right.

    Attributes:
        nodes: with the centres of their boxes.
        depths: x position and number of each.
    """

    width: int
    height: int
    nodes: Sequence[tuple[Node, float, float]]
    edges: Sequence[Edge]
    depths: Sequence[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class _Place:
    """Position of a layer: its line, its column there, and the centre of its box."""

    identity: str
    line: int
    column: int
    x: float
    y: float


def lines(layers: Iterable[Node]) -> list[Line]:
    """Lay the graph of layers out in lines of ``PER_LINE`` depths."""
    by_depth: defaultdict[int, list[Node]] = defaultdict(list)
    for layer in layers:
        by_depth[layer.depth].append(layer)
    depths = sorted(by_depth)
    parts = [depths[i : i + PER_LINE] for i in range(0, len(depths), PER_LINE)]
    places: dict[str, _Place] = {}
    for number, part in enumerate(parts):
        rows = max(len(by_depth[depth]) for depth in part)
        for column, depth in enumerate(part):
            _place(by_depth[depth], number, column, ARCS + rows * ROW / 2, places)
    edges = _edges([layer for depth in depths for layer in by_depth[depth]], places)
    return [
        Line(
            width=COLUMN * len(part),
            height=ARCS + ROW * max(len(by_depth[depth]) for depth in part) + LABELS,
            nodes=[(x, places[x.name].x, places[x.name].y) for depth in part for x in by_depth[depth]],
            edges=edges[number],
            depths=[(COLUMN * (column + 0.5), depth) for column, depth in enumerate(part)],
        )
        for number, part in enumerate(parts)
    ]


def _place(layers: Sequence[Node], line: int, column: int, middle: float, places: dict[str, _Place]) -> None:
    """Stack layers of one depth around the middle, sorted by the mean y of their inputs (barycentre rule)."""

    def wish(layer: Node) -> float:
        known = [places[name].y for name in layer.inputs if name in places]
        return sum(known) / len(known) if known else middle

    for index, layer in enumerate(sorted(layers, key=wish)):
        y = middle + (index - (len(layers) - 1) / 2) * ROW
        places[layer.name] = _Place(layer.id, line, column, COLUMN * (column + 0.5), y)


def _edges(layers: Iterable[Node], places: Mapping[str, _Place]) -> defaultdict[int, list[Edge]]:
    """Edges by line; an edge between two lines is split into its start and its end."""
    tops: dict[tuple[int, int], float] = {}
    for place in places.values():
        key = place.line, place.column
        tops[key] = min(place.y, tops.get(key, place.y))
    found: defaultdict[int, list[Edge]] = defaultdict(list)
    for layer in layers:
        end = places[layer.name]
        for begin in (places[name] for name in layer.inputs if name in places):
            if begin.line == end.line:
                found[end.line].append(Edge(_path(begin, end, tops), begin.identity, end.identity))
                continue
            for place, step in ((begin, 1), (end, -1)):
                stub = f"M{place.x + step * HALF_WIDTH:g} {place.y:g}h{8 * step}"
                found[place.line].append(Edge(stub, begin.identity, end.identity))
    return found


def _path(begin: _Place, end: _Place, tops: Mapping[tuple[int, int], float]) -> str:
    """A cubic Bezier curve; it arcs above the boxes between where the ends are over one column apart."""
    x1, x2 = begin.x + HALF_WIDTH, end.x - HALF_WIDTH
    between = [tops[end.line, column] for column in range(begin.column + 1, end.column)]
    if not between:
        middle = (x1 + x2) / 2
        return f"M{x1:g} {begin.y:g}C{middle:g} {begin.y:g} {middle:g} {end.y:g} {x2:g} {end.y:g}"
    top = min(*between, begin.y, end.y) - 30 - 3 * min(len(between), 5)
    return f"M{x1:g} {begin.y:g}C{x1 + 14:g} {top:g} {x2 - 14:g} {top:g} {x2:g} {end.y:g}"
