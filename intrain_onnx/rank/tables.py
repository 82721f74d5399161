"""The rows of a ranking as tables: order, CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from intrain_onnx.errors import SettingsError, printable
from intrain_onnx.proxy_table import LOWER
from intrain_onnx.rank.rows import Row
from intrain_onnx.report.context.inputs import mixed_inputs
from intrain_onnx.report.context.overlap import Overlap, overlaps
from intrain_onnx.report.derived import file_labels, is_void, mixed_names
from intrain_onnx.report.document import write_atomically
from intrain_onnx.report.frames.table import Table
from intrain_onnx.report.numbers import tally
from intrain_onnx.report.page.beside import beside
from intrain_onnx.report.page.ranks import Ranks
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.vocabulary import LEADING


def ranked(rows: Iterable[Row], by: str) -> list[Row]:
    """Best first by a score, a baseline or a part of a proxy; those without it last, by name.

    Raises:
        SettingsError: no row has it.
    """
    listed = list(rows)
    if any(r.status == "scored" for r in listed) and all(r.value(by) is None for r in listed):
        known = sorted({name for r in listed for name in (*r.scores, *r.baselines, *r.proxies)})
        raise SettingsError(f"no model has {by!r}", hint=f"--by takes {', '.join(known)}")
    sign = 1 if by in LOWER else -1

    def key(row: Row) -> tuple[bool, float, str]:
        value = row.value(by)
        return value is None, sign * (value or 0.0), row.model

    return sorted(listed, key=key)


def columns(rows: Sequence[Row], by: str) -> tuple[list[str], list[list[Any]]]:
    """Names and values of a table in rank order; empty cells are None."""
    scores, baselines, proxies, given = (
        sorted({name for r in rows for name in getattr(r, part)})
        for part in ("scores", "baselines", "proxies", "given")
    )
    names = ["rank", "model", "status", "sha256", "same_as", "kind", "inputs", "layers", "coverage"]
    names += [*scores, *(f"{name}_se" for name in scores), *baselines, *proxies]
    names += [*(f"given_{name}" for name in given), "warnings", "parity", "device", "threads"]
    names += ["attempts", "seconds", "error_kind", "error", "exit_code"]
    return names, [
        [
            rank if row.value(by) is not None else None,
            printable(row.model, 4096),
            row.status,
            row.sha256,
            printable(row.same_as, 4096) if row.same_as else None,
            row.kind,
            row.inputs,
            row.layers,
            row.coverage,
            *(row.scores[name].value if name in row.scores else None for name in scores),
            *(row.scores[name].standard_error if name in row.scores else None for name in scores),
            *(row.baselines.get(name) for name in baselines),
            *(row.proxies.get(name) for name in proxies),
            *(row.given.get(name) for name in given),
            " ".join(row.warnings),
            row.parity,
            row.device,
            row.threads,
            row.attempts,
            row.seconds,
            row.error.kind if row.error is not None else None,
            row.error.message if row.error is not None else None,
            row.error.exit_code if row.error is not None else None,
        ]
        for rank, row in enumerate(rows, start=1)
    ]


def table(rows: Sequence[Row], by: str) -> Table:
    """All columns of all rows, in rank order."""
    return Table.of(*columns(rows, by))


def summary(rows: Sequence[Row], by: str) -> Table:
    """The columns that people are shown, in rank order."""
    wanted = ("rank", "model", *dict.fromkeys([by, *_SHOWN]), "warnings", "error")
    whole = table(rows, by).columns
    return Table({name: whole[name] for name in wanted if name in whole})


def overlapping(rows: Sequence[Row]) -> list[Overlap]:
    """Kendall's tau of each named score with what can be counted, over the rows that have scores."""
    scored = [row for row in rows if row.scores]
    names = (name for row in scored for name in row.scores)
    return overlaps(names, len(scored), lambda index, name: scored[index].value(name))


def write_overlap(path: Path, found: Sequence[Overlap]) -> None:
    """Write the rank correlations, one a line."""
    values = [
        [x.score, name, x.networks, tau.value, tau.low, tau.high]
        for x in found
        for name, tau in x.taus.items()
    ]
    names = ["score", "baseline", "networks", "tau", "low", "high"]
    write_atomically(path, Table.of(names, values).csv())


def write_csv(path: Path, rows: Sequence[Row], by: str) -> None:
    """Write all rows, in rank order."""
    write_atomically(path, table(rows, by).csv())


def write_parquet(path: Path, rows: Sequence[Row], by: str) -> bool:
    """Write all rows, in rank order; returns whether pyarrow is installed."""
    try:
        content = table(rows, by).parquet()
    except SettingsError:
        return False
    write_atomically(path, content)
    return True


_SHOWN = (LEADING, "intrain", "width_depth", "parameters", "macs", "layers")
"""Values on the page and the terminal; the tables have them all."""

VOID = " ! says nothing"
"""Behind a score of 0."""

MOST_SHOWN = 2000
"""Rows of the page; a browser draws more of them slowly."""


def for_page(rows: Sequence[Row], by: str, overlap: Sequence[Overlap] = ()) -> Ranks:
    """What the page shows of rows in rank order, and of the rank correlations of all of them."""
    scored = [row for row in rows if row.value(by) is not None]
    failed = [row for row in rows if row.error is not None]
    shown = scored[:MOST_SHOWN]
    values = list(dict.fromkeys([by, *_SHOWN]))
    plotted = LEADING if by in BASELINES else by
    names = [printable(label) for label in file_labels([row.model for row in shown])]
    cells = [
        [(str(rank), float(rank)), (label, None)]
        + [_shown(name, row.value(name), VOID if name == by else "") for name in values]
        + [(str(len(row.warnings)), float(len(row.warnings)))]
        for rank, (row, label) in enumerate(zip(shown, names, strict=True), start=1)
    ]
    more = max(len(scored) - MOST_SHOWN, 0) + max(len(failed) - MOST_SHOWN, 0)
    return Ranks(
        title=f"{len(scored)} networks, ranked by {by}",
        summary=f"{len(rows)} models: {len(scored)} have a rank, {len(failed)} have no score.",
        mixed=mixed_names({row.kind for row in scored}),
        columns=["rank", "model", *values, "warnings"],
        rows=cells,
        beside=beside(
            plotted,
            [
                (row.value("parameters"), row.value(plotted), label)
                for row, label in zip(shown, names, strict=True)
            ],
            overlap,
            mixed_inputs(row.inputs for row in scored),
        ),
        left_out=f"{more:,} more rows are in ranking.csv." if more else "",
        failures=[
            (printable(r.model), r.status, r.error.kind, printable(r.error.message, 600))
            for r in failed[:MOST_SHOWN]
            if r.error is not None
        ],
    )


def _shown(name: str, value: float | None, void: str) -> tuple[str, float | None]:
    text = tally(value) if value is None or isinstance(value, int) else f"{value:.5g}"
    return f"{text}{void if is_void(name, value) else ''}", value
