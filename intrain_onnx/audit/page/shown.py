"""View models: the types that the template reads, with text sanitised and numbers formatted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intrain_onnx.report.page.charts import Chart
from intrain_onnx.report.page.shown import Cell, Pairs

Words = Sequence[tuple[str, bool]]
"""Parts of a text, each with whether it is code."""


@dataclass(frozen=True)
class Place:
    """One finding: where, what, and why it is waived if it is."""

    place: str
    message: str
    waived: str


@dataclass(frozen=True)
class Check:
    """The findings of one check that are alike: they fail, are told, or are waived.

    Attributes:
        label: severity, or ``waived``.
        fails: they fail the policy.
    """

    id: str
    title: str
    label: str
    fails: bool
    explanation: Words
    remedy: Words
    places: Sequence[Place]


@dataclass(frozen=True)
class Card:
    """A figure of a model: the score under one protocol, or its change from the baseline."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Model:
    """One audited model.

    Attributes:
        counts: of its findings, in words.
        error: why it could not be loaded; empty if it was.
        cells: of its row in the table, after verdict and path.
        folded: the checks without findings by outcome: heading, then id and title of each.
    """

    id: str
    path: str
    passed: bool
    counts: str
    error: str
    cells: Sequence[Cell]
    cards: Sequence[Card]
    facts: Pairs
    checks: Sequence[Check]
    folded: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        headline: the verdict.
        counts: of all findings, in words.
        held: what the models were held against.
        columns: of the table of models, after verdict and path.
        run: findings of the run.
    """

    title: str
    headline: str
    passed: bool
    counts: str
    held: str
    columns: Sequence[str]
    models: Sequence[Model]
    run: Sequence[Check]
