"""Statistics of a benchmark, as JSON and Markdown. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple

import numpy as np
from msgspec import UNSET, Struct, UnsetType

from intrain_onnx.bench.measures import LAYERS, PARAMETERS, forms, measures, twin_group
from intrain_onnx.bench.ranking import TOP, Ranking, difference, fifths, rank, worst_where_missing
from intrain_onnx.bench.records import Failed, Record
from intrain_onnx.bench.table import Entry
from intrain_onnx.report.document import number
from intrain_onnx.report.numbers import decimals, with_interval
from intrain_onnx.scores.rank_correlation import Array, Interval, tau

ROUNDS = 500
EQUAL_LAYERS = f"equal {LAYERS}"
EQUAL_SIZE = f"fifths of {PARAMETERS}"
FAMILIES = "families"


class Failure(Struct, frozen=True):
    """A failed score, with the reason."""

    architecture: str
    protocol: str
    error: str


class MeasureRow(Struct, frozen=True):
    """Ranking statistics of one measure by data set (see `measures.Measure`).

    ``over_static``: of a score, Kendall's tau less that of its static twin, with a paired interval.
    """

    group: str
    name: str
    seconds: float | None
    results: Mapping[str, Ranking]
    over_static: Mapping[str, Interval] = {}


class AblationRow(Struct, frozen=True):
    """One form of the score with Kendall's tau by data set."""

    axis: str
    choice: str
    tau: Mapping[str, float | None]


class Summary(Struct, frozen=True, kw_only=True):
    """Ranking statistics of all measures, and the ablation of each protocol.

    ``unmatched``: of models of one's own, what has no file or no row; unset for spaces.
    """

    architectures: int
    failures: tuple[Failure, ...]
    measures: tuple[MeasureRow, ...]
    ablation: Mapping[str, tuple[AblationRow, ...]]
    unmatched: tuple[str, ...] | UnsetType = UNSET


def accuracies(entries: Sequence[Entry]) -> dict[str, Array]:
    """Accuracies by data set; NaN if missing in the table."""
    titles = list(entries[0].accuracies)
    return {t: np.array([e.accuracies[t] for e in entries], dtype=np.float64) for t in titles}


def summarise(
    entries: Sequence[Entry],
    records: Sequence[Record],
    *,
    family: Callable[[str], str] | None = None,
    seed: int,
    rounds: int = ROUNDS,
) -> Summary:
    """Compute all statistics, rounded for output.

    Args:
        entries: the architectures with their accuracies.
        records: what was measured of each, in the same order.
        family: of an architecture's description; None if all are of one.
        seed: of the bootstrap.
        rounds: its number of samples.
    """
    truth = accuracies(entries)
    found = measures(records)
    given = {
        m.name: worst_where_missing(m.values)
        for m in found
        if m.group == "baseline" and m.name in (LAYERS, PARAMETERS)
    }
    groups = {EQUAL_LAYERS: given[LAYERS], EQUAL_SIZE: fifths(given[PARAMETERS])}
    if family is not None:
        names = [family(entry.architecture) for entry in entries]
        groups[FAMILIES] = np.unique(names, return_inverse=True)[1].astype(np.float64)
    by_name = {(m.group, m.name): m.values for m in found}
    rows = []
    for measure in found:
        twin = by_name.get((twin_group(measure.group), measure.name))
        others = {name: values for name, values in given.items() if name != measure.name}
        results = {
            title: _rounded(rank(measure.values, y, others, groups, rounds=rounds, seed=seed))
            for title, y in truth.items()
        }
        over = {
            title: _digits(difference(measure.values, twin, y, rounds=rounds, seed=seed))
            for title, y in truth.items()
            if twin is not None
        }
        rows.append(MeasureRow(measure.group, measure.name, number(measure.seconds, 4), results, over))
    return Summary(
        architectures=len(entries),
        failures=_failures(records),
        measures=tuple(rows),
        ablation={p: _ablation(records, p, truth) for p in records[0].protocols},
    )


def _ablation(
    records: Sequence[Record], protocol: str, truth: Mapping[str, Array]
) -> tuple[AblationRow, ...]:
    return tuple(
        AblationRow(axis, choice, {title: number(_tau(values, y), 6) for title, y in truth.items()})
        for axis, choice, values in forms(records, protocol)
    )


def _tau(x: Array, y: Array) -> float:
    """Kendall's tau over the architectures with an accuracy; a missing value is the worst."""
    kept = np.isfinite(y)
    return tau(worst_where_missing(x[kept]), y[kept])


def _failures(records: Sequence[Record]) -> tuple[Failure, ...]:
    return tuple(
        Failure(record.architecture, protocol, found.error)
        for record in records
        for protocol, found in record.protocols.items()
        if isinstance(found, Failed)
    )


def _rounded(found: Ranking) -> Ranking:
    return Ranking(
        count=found.count,
        failed=found.failed,
        tau=_digits(found.tau),
        rho=_digits(found.rho),
        precision=_digits(found.precision),
        ndcg=_digits(found.ndcg),
        partial={name: _digits(value) for name, value in found.partial.items()},
        within={name: _digits(value) for name, value in found.within.items()},
    )


def _digits(found: Interval) -> Interval:
    return Interval(number(found.value, 6), number(found.low, 6), number(found.high, 6))


def markdown(summary: Summary, title: str, settings: str) -> str:
    """Markdown: a table of measures per data set, then the ablation of each protocol."""
    lines = [f"### {title}", "", f"{summary.architectures} architectures. {settings}", ""]
    if summary.failures:
        lines += [f"{len(summary.failures)} scores failed, and count as the worst of every measure.", ""]
    lines += [f"{said}.\n" for said in summary.unmatched or ()]
    titles = list(summary.measures[0].results)
    for name in titles:
        lines += [f"**{name}**", "", *_measure_table(summary.measures, name), ""]
    for protocol, rows in summary.ablation.items():
        lines += [f"**Ablation, `{protocol}`** (Kendall tau)", "", *_ablation_table(rows, titles), ""]
    return "\n".join(lines)


def _measure_table(rows: Sequence[MeasureRow], title: str) -> list[str]:
    columns = [
        "tau (95 % interval)",
        "over its static twin",
        "rho",
        f"precision at {TOP:.0%}",
        f"nDCG at {TOP:.0%}",
    ]
    groupings = list(rows[0].results[title].within)
    columns += [f"tau given {LAYERS}", f"tau given {PARAMETERS}"]
    columns += [*(f"tau within {name}" for name in groupings), "failed", "seconds"]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for row in rows:
        found = row.results[title]
        cells = [
            f"{row.group}: {row.name}",
            with_interval(*astuple(found.tau)),
            with_interval(*astuple(row.over_static[title])) if title in row.over_static else "",
            *(decimals(part.value) for part in (found.rho, found.precision, found.ndcg)),
            *(decimals(found.partial[n].value) if n in found.partial else "" for n in (LAYERS, PARAMETERS)),
            *(decimals(found.within[name].value) for name in groupings),
            str(found.failed or ""),
            "" if row.seconds is None else f"{row.seconds:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ablation_table(rows: Sequence[AblationRow], titles: Sequence[str]) -> list[str]:
    lines = [f"| axis | choice | {' | '.join(titles)} |", f"|---|---|{'---|' * len(titles)}"]
    before = ""
    for row in rows:
        axis = "" if row.axis == before else row.axis
        before = row.axis
        lines.append(f"| {axis} | {row.choice} | {' | '.join(decimals(row.tau[t]) for t in titles)} |")
    return lines
