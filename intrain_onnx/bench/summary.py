"""Statistics of a benchmark and the documents made of them: JSON and Markdown. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from intrain_onnx.bench.measures import LAYERS, PARAMETERS, forms, measures
from intrain_onnx.bench.ranking import TOP, Array, Ranking, rank, tau
from intrain_onnx.bench.records import Record
from intrain_onnx.bench.table import Entry
from intrain_onnx.report.document import number
from intrain_onnx.report.numbers import decimals, with_interval

ROUNDS = 500


def accuracies(entries: Sequence[Entry]) -> dict[str, Array]:
    """Accuracies by data set, NaN where the table has none."""
    titles = list(entries[0].accuracies)
    return {t: np.array([e.accuracies[t] for e in entries], dtype=np.float64) for t in titles}


def summarise(
    entries: Sequence[Entry],
    records: Sequence[Record],
    *,
    seed: int,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """All statistics as a JSON document: of every measure for every data set, and of the ablation."""
    truth = accuracies(entries)
    found = measures(records)
    given = {m.name: m.values for m in found if m.group == "baseline" and m.name in (LAYERS, PARAMETERS)}
    rows = []
    for measure in found:
        others = {name: values for name, values in given.items() if name != measure.name}
        results = {
            title: _ranking(rank(measure.values, y, others, rounds=rounds, seed=seed))
            for title, y in truth.items()
        }
        rows.append(
            {
                "group": measure.group,
                "name": measure.name,
                "seconds": number(measure.seconds, 4),
                "results": results,
            }
        )
    return {
        "architectures": len(entries),
        "failures": _failures(records),
        "measures": rows,
        "ablation": {p: _ablation(records, p, truth) for p in records[0]["protocols"]},
    }


def _ablation(records: Sequence[Record], protocol: str, truth: Mapping[str, Array]) -> list[dict[str, Any]]:
    return [
        {
            "axis": axis,
            "choice": choice,
            "tau": {
                title: number(tau(values[kept], y[kept]), 6)
                for title, y in truth.items()
                for kept in (np.isfinite(values) & np.isfinite(y),)
            },
        }
        for axis, choice, values in forms(records, protocol)
    ]


def _failures(records: Sequence[Record]) -> list[dict[str, str]]:
    return [
        {"architecture": record["architecture"], "protocol": protocol, "error": found["error"]}
        for record in records
        for protocol, found in record["protocols"].items()
        if found["error"] is not None
    ]


def _ranking(ranking: Ranking) -> dict[str, Any]:
    data = asdict(ranking)
    intervals = {name: _interval(data.pop(name)) for name in ("tau", "rho", "precision", "ndcg")}
    partial = {name: _interval(value) for name, value in data.pop("partial").items()}
    return {**data, **intervals, "partial": partial}


def _interval(value: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: number(v, 6) for name, v in value.items()}


def markdown(summary: Mapping[str, Any], title: str, settings: str) -> str:
    """A table of every measure for every data set, then the ablation of each protocol."""
    lines = [f"### {title}", "", f"{summary['architectures']} architectures. {settings}", ""]
    if summary["failures"]:
        lines += [f"{len(summary['failures'])} scores failed and are left out where they are missing.", ""]
    titles = list(summary["measures"][0]["results"])
    for name in titles:
        lines += [f"**{name}**", "", *_measure_table(summary["measures"], name), ""]
    for protocol, rows in summary["ablation"].items():
        lines += [f"**Ablation, `{protocol}`** (Kendall tau)", "", *_ablation_table(rows, titles), ""]
    return "\n".join(lines)


def _measure_table(rows: Sequence[Mapping[str, Any]], title: str) -> list[str]:
    columns = ["tau (95 % interval)", "rho", f"precision at {TOP:.0%}", f"nDCG at {TOP:.0%}"]
    columns += [f"tau given {LAYERS}", f"tau given {PARAMETERS}", "seconds"]
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for row in rows:
        found = row["results"][title]
        partial = found["partial"]
        cells = [
            f"{row['group']}: {row['name']}",
            with_interval(found["tau"]),
            *(decimals(found[key]["value"]) for key in ("rho", "precision", "ndcg")),
            *(decimals(partial[key]["value"]) if key in partial else "" for key in (LAYERS, PARAMETERS)),
            "" if row["seconds"] is None else f"{row['seconds']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ablation_table(rows: Sequence[Mapping[str, Any]], titles: Sequence[str]) -> list[str]:
    lines = [f"| axis | choice | {' | '.join(titles)} |", f"|---|---|{'---|' * len(titles)}"]
    before = ""
    for row in rows:
        axis = "" if row["axis"] == before else row["axis"]
        before = row["axis"]
        lines.append(f"| {axis} | {row['choice']} | {' | '.join(decimals(row['tau'][t]) for t in titles)} |")
    return lines
