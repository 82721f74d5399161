"""Terminal view of several reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of
from intrain_onnx.report.derived import file_labels, mixed_kinds, ranked
from intrain_onnx.report.document import Report
from intrain_onnx.report.numbers import tally
from intrain_onnx.report.rows import Document
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.vocabulary import LEADING


def ranking(reports: Sequence[Report], stream: TextIO) -> None:
    """Print scored models, best first, and the baselines that a score has to beat."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in (
        "rank",
        "model",
        LEADING,
        "±",
        "InTrain",
        "±",
        "capacity",
        "resilience",
        "width_depth",
        "warnings",
    ):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    ordered = ranked(r.document for r in reports)
    labels = file_labels([str(r.model.path) for r in ordered])
    for rank, (report, label) in enumerate(zip(ordered, labels, strict=True), start=1):
        score, first = report.score, report.scores.get(LEADING)
        error = first.standard_error if first is not None else None
        shape = report.scores.get("width_depth")
        star = "*" if report.coverage.share < 1 else ""
        table.add_row(
            str(rank),
            printable(label, 120),
            f"{first.value:.4g}{star}" if first is not None else star,
            f"{error:.2g}" if error is not None else "",
            f"{score.intrain:.4g}",
            f"{score.std:.2g}" if score.std is not None else "",
            f"{score.geometric_capacity:.4g}",
            f"{score.optimization_resilience:.4g}",
            f"{shape.value:.4g}" if shape is not None else "",
            str(len(report.warnings)),
        )
    console = console_of(stream)
    console.print(table)
    mixed = mixed_kinds(ordered)
    if mixed:
        console.print(Text(f"  {mixed}", style="bold red"), soft_wrap=True)
    console.print(_baselines(ordered, labels))
    missed = [r for r in ordered if r.coverage.share < 1]
    if missed:
        said = "  * leaves weights out: see the warning weights_not_recognised"
        console.print(Text(said, style="bold red"))


def _baselines(ordered: Sequence[Document], labels: Sequence[str]) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        title="To beat: what can be counted without measuring",
        title_justify="left",
    )
    table.add_column("model", overflow="fold")
    for baseline in BASELINES.values():
        table.add_column(baseline.title, justify="right", overflow="fold")
    for report, label in zip(ordered, labels, strict=True):
        values = (tally(report.baselines.get(name)) for name in BASELINES)
        table.add_row(printable(label, 120), *values)
    return table
