"""What the template shows, as types: text made safe, numbers made words, geometry ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intrain_onnx.report.page.charts import Chart, Interval
from intrain_onnx.report.page.network import Line, Node
from intrain_onnx.report.rows import WarningRow

Cell = tuple[str, float | None]
"""What a cell shows, and the number that its column is sorted by."""

Pairs = list[tuple[str, str]]
"""Names and values."""

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""


@dataclass(frozen=True)
class Layer(Node):
    """A tile of the network and a row of the table of layers.

    Attributes:
        meaning: of a status that is not ``measured``.
        lost: nothing of it enters the score.
        ratio_bin, health_bin: number of its colour; None without a value.
        label: the tile in words.
        cells: of its row, after depth and name.
    """

    kind: str
    status: str
    meaning: str
    lost: bool
    counted: bool
    ratio_bin: int | None
    health_bin: int | None
    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Part:
    """The score or one of its two factors; ``drawn`` is None for a single run."""

    name: str
    meaning: str
    value: str
    interval: str
    drawn: Interval | None


@dataclass(frozen=True)
class Score:
    """The cards at the top; ``seeds`` are the seed and three figures of each run."""

    parts: Sequence[Part]
    runs: int
    layers: int
    tensors: int
    seeds: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Fall:
    """A row of the table of bottlenecks; ``id`` is that of the layer's row."""

    id: str
    name: str
    depth: int
    ratio: str
    factor: str
    share: str
    why: str


@dataclass(frozen=True)
class Report:
    """One network.

    Attributes:
        findings: each ``good``, ``bad`` or ``note``, with its text.
        missing: statuses other than ``measured``, their meaning, and the names of their layers.
        extras: tables that not every report has, with their titles.
        facts: how it was made, by heading.
    """

    id: str
    label: str
    model: Pairs
    score: Score
    findings: Sequence[tuple[str, str]]
    falls: Sequence[Fall]
    missing: Sequence[tuple[str, str, Sequence[str]]]
    charts: Sequence[Chart]
    lines: Sequence[Line]
    layers: Sequence[Layer]
    statuses: Sequence[str]
    extras: Sequence[tuple[str, Table]]
    facts: Sequence[tuple[str, Pairs]]
    warnings: Sequence[WarningRow]


@dataclass(frozen=True)
class Ranked:
    """A row of the ranking; ``whole``: the score leaves no weights out."""

    rank: int
    id: str
    label: str
    intrain: str
    whole: bool
    interval: str
    drawn: Interval
    capacity: str
    resilience: str
    layers: int
    parameters: Cell
    macs: Cell
    warnings: int


@dataclass(frozen=True)
class Page:
    """The whole page; ``different`` are settings that the reports do not share."""

    title: str
    reports: Sequence[Report]
    ranking: Sequence[Ranked]
    different: Sequence[str]
