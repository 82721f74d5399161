"""Terminal view of several reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from intrain_onnx.commands.terminal.shared import label_length, marks, show_notes, show_overlap
from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of
from intrain_onnx.report.context.inputs import in_words, mixed_inputs
from intrain_onnx.report.context.overlap import overlaps
from intrain_onnx.report.derived import file_labels, mixed_kinds, ranked, value_of
from intrain_onnx.report.document import Report
from intrain_onnx.report.numbers import tally
from intrain_onnx.report.rows import Document
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.vocabulary import LEADING

_NAMED = (LEADING, "intrain")
"""Named scores with a column of their own."""

_WIDE = 110
"""Columns of a terminal from which on all values are shown: in a narrower one names would be broken up."""

_WIDER = 150
"""Columns from which on all baselines are shown."""

_MAIN = ("parameters", "macs", "layers", "activations")
"""Baselines that are shown in a narrower one."""


def ranking(reports: Sequence[Report], stream: TextIO, by: str = LEADING) -> None:
    """Print scored models, best first, the baselines that a score has to beat, and what it adds to them.

    Args:
        reports: of the models.
        stream: where to.
        by: the value that they are ranked by, see `derived.value_of`.
    """
    ordered = ranked((r.document for r in reports), by)
    console = console_of(stream)
    most = label_length(console)
    labels = [printable(label, most) for label in file_labels([str(r.model.path) for r in ordered])]
    wide = console.width >= _WIDE
    console.print(_scores(ordered, labels, by, wide=wide))
    words = mixed_inputs(in_words(r.settings.inputs_fed) for r in ordered)
    for warning in filter(None, (mixed_kinds(ordered), words)):
        console.print(Text(f"  {warning}", style="bold red"), soft_wrap=True)
    show_notes(console, (_marks(r, by) for r in ordered))
    console.print(_baselines(ordered, labels, wide=console.width >= _WIDER))
    names = dict.fromkeys(name for r in ordered for name in r.scores)
    show_overlap(console, overlaps(names, len(ordered), lambda index, name: value_of(ordered[index], name)))


def _marks(report: Document, by: str) -> str:
    return marks(by, value_of(report, by), report.coverage.share)


def _scores(ordered: Sequence[Document], labels: Sequence[str], by: str, *, wide: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    other = () if by in _NAMED else (by,)
    names = ("rank", "model", *other, LEADING, "±", "InTrain", "±")
    more = ("capacity", "resilience", "width_depth") if wide else ()
    for name in (*names, *more, "warnings"):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for rank, (report, label) in enumerate(zip(ordered, labels, strict=True), start=1):
        score, first = report.score, report.scores.get(LEADING)
        error = first.standard_error if first is not None else None
        shown = {name: _number(value_of(report, name)) for name in (*_NAMED, *other)}
        shown[by] += _marks(report, by)
        shown_more = {
            "capacity": score.geometric_capacity,
            "resilience": score.optimization_resilience,
            "width_depth": value_of(report, "width_depth"),
        }
        table.add_row(
            str(rank),
            label,
            *(shown[name] for name in other),
            shown[LEADING],
            f"{error:.2g}" if error is not None else "",
            shown["intrain"],
            f"{score.std:.2g}" if score.std is not None else "",
            *(_number(shown_more[name]) for name in more),
            str(len(report.warnings)),
        )
    return table


def _number(value: float | None) -> str:
    return "" if value is None else tally(value) if isinstance(value, int) else f"{value:.4g}"


def _baselines(ordered: Sequence[Document], labels: Sequence[str], *, wide: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        title="To beat: what can be counted without measuring",
        title_justify="left",
    )
    table.add_column("model", overflow="fold")
    shown = [*BASELINES] if wide else _MAIN
    for name in shown:
        table.add_column(BASELINES[name].title, justify="right", overflow="fold")
    for report, label in zip(ordered, labels, strict=True):
        values = (tally(report.baselines.get(name)) for name in shown)
        table.add_row(label, *values)
    return table
