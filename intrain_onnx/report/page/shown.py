"""View models: the types that the template reads, with text sanitised and numbers formatted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intrain_onnx.report.page.charts import Chart, Interval
from intrain_onnx.report.page.network import Line, Node
from intrain_onnx.report.rows import WarningRow

Cell = tuple[str, float | None]
"""Text of a table cell, and the number that its column is sorted by."""

Pairs = list[tuple[str, str]]
"""Names and values."""

Table = tuple[list[str], list[list[str]]]
"""Header and rows."""


@dataclass(frozen=True)
class Layer(Node):
    """A node of the network diagram and a row of the table of layers.

    Attributes:
        meaning: explanation of a status other than ``measured``.
        lost: the layer contributes nothing to the score.
        ratio_bin, health_bin: index of the colour bin; None without a value.
        label: text alternative of the node.
        module: what it is called in the table.
        cells: of its table row, after depth and name.
    """

    kind: str
    status: str
    meaning: str
    lost: bool
    counted: bool
    ratio_bin: int | None
    health_bin: int | None
    label: str
    module: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Part:
    """The leading score, the paper's, or one of its two factors; ``drawn`` is the plot of its interval."""

    name: str
    meaning: str
    value: str
    interval: str
    drawn: Interval | None


@dataclass(frozen=True)
class Score:
    """The score cards; ``seeds`` has the seed and the three figures of each run."""

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
        missing: each status other than ``measured``, with its meaning and the names of its layers.
        extras: titled tables that not every report has.
        facts: settings, data and environment, by heading.
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
    """A row of the ranking.

    Attributes:
        whole: the layers cover all weights (coverage 1).
        void: the score is 0, and says nothing.
        drawn: the interval and the runs in per cent of the mean; None for a single run.
    """

    rank: int
    id: str
    label: str
    leading: str
    intrain: str
    whole: bool
    void: bool
    interval: str
    drawn: Interval | None
    capacity: str
    resilience: str
    width_depth: str
    baselines: Sequence[Cell]
    warnings: int


@dataclass(frozen=True)
class Beside:
    """What a ranking says besides its rows.

    Attributes:
        inputs: the warning where networks read different inputs; empty otherwise.
        plot: the score against #Params; None with fewer than two networks that have both.
        overlap: rank correlation of the scores with what can be counted; None for few networks.
        remarks: which score adds little to what.
    """

    inputs: str
    plot: Chart | None
    overlap: Table | None
    remarks: Sequence[str]


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        baselines: titles of the columns that the ranking has of them.
        different: settings that differ between the reports.
        mixed: the warning where they are of different kinds of networks.
        beside: of a ranking; None for one report.
        spread: ends of the axis of the intervals, in per cent of each mean; empty where no report has one.
    """

    title: str
    reports: Sequence[Report]
    ranking: Sequence[Ranked]
    baselines: Sequence[str]
    different: Sequence[str]
    mixed: str
    beside: Beside | None
    spread: str
