"""The page of a ranking of many models: one table, and what has no score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intrain_onnx.report.page.document import rendered
from intrain_onnx.report.page.shown import Beside, Cell


@dataclass(frozen=True, slots=True)
class Ranks:
    """What the page shows; all texts are safe to print.

    Attributes:
        title: of the page.
        summary: how many models have a rank.
        mixed: the warning where kinds of networks are more than one; empty otherwise.
        columns: names; one is ``model``.
        rows: cells in the order of the columns.
        beside: plot, and rank correlations.
        left_out: what is not listed; empty if all is.
        failures: model, status, reason and message of each without a score.
    """

    title: str
    summary: str
    mixed: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    beside: Beside
    left_out: str
    failures: Sequence[tuple[str, str, str, str]]


def page(ranks: Ranks) -> str:
    """One HTML document, self-contained and deterministic."""
    return rendered("ranks.html", page=ranks)
