"""The numbers that are ranked, from the stored records. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intrain_onnx.bench import ablation
from intrain_onnx.bench.ranking import Array
from intrain_onnx.bench.records import Record, unpack
from intrain_onnx.proxies.aggregate import AGGREGATES, aggregate
from intrain_onnx.proxy_table import PROXIES

LAYERS = "layer count"
PARAMETERS = "#Params"


@dataclass(frozen=True)
class Measure:
    """One number of every architecture, a higher one being better.

    Attributes:
        group: ``baseline``, the name of a protocol, ``proxy`` or ``aggregate``.
        name: for people.
        values: one an architecture, NaN where there is none.
        seconds: that one architecture takes, on average; None where it takes no pass of its own.
    """

    group: str
    name: str
    values: Array
    seconds: float | None


def measures(records: Sequence[Record]) -> list[Measure]:
    """Baselines, scores and proxies of some records, in the order of a table."""
    protocols = list(records[0]["protocols"])
    found = list(_baselines(records, protocols[0]))
    for protocol in protocols:
        found += _scores(records, protocol)
    return [*found, *_proxies(records, protocols)]


def _baselines(records: Sequence[Record], protocol: str) -> Iterable[Measure]:
    for name, key in ((PARAMETERS, "parameters"), ("FLOPs", "macs"), (LAYERS, "canonical_layers")):
        values = _values(records, protocol, lambda found, key=key: found["model"][key])  # type: ignore[misc]
        yield Measure("baseline", name, values, None)
    live = _values(records, protocol, lambda found: len(unpack(found["evidence"]).live_layers))
    yield Measure("baseline", "live layer count", live, None)


def _scores(records: Sequence[Record], protocol: str) -> Iterable[Measure]:
    seconds = float(np.nanmean(_values(records, protocol, lambda found: found["seconds"])))
    names = next((list(f["scores"]) for f in _measured(records, protocol)), [])
    for name in names:
        values = _values(records, protocol, lambda found, name=name: found["scores"][name])  # type: ignore[misc]
        yield Measure(protocol, name, values, seconds)


def _proxies(records: Sequence[Record], protocols: Sequence[str]) -> Iterable[Measure]:
    for protocol in protocols:
        sample: Mapping[str, Any] = next((f["proxies"] for f in _measured(records, protocol)), {})
        raw = [_raw(record["protocols"][protocol]) for record in records]
        for name in sample:
            seconds = float(
                np.nanmean(_values(records, protocol, lambda f, name=name: f["proxies"][name]["seconds"]))  # type: ignore[misc]
            )
            for part in PROXIES[name].parts:
                values = np.array([_float(row.get(part)) for row in raw]) * PROXIES[name].direction
                title = PROXIES[name].title if len(PROXIES[name].parts) == 1 else part
                yield Measure("proxy", title, values, seconds)
        measured = {part for name in sample for part in PROXIES[name].parts}
        for name, parts in AGGREGATES.items():
            if measured.issuperset(parts):
                values = np.array([_float(v) for v in aggregate(name, raw)])
                yield Measure("aggregate", f"{PROXIES[name].title} aggregate", values, None)


def _raw(found: Mapping[str, Any]) -> dict[str, float | None]:
    return {part: v for row in found.get("proxies", {}).values() for part, v in row["values"].items()}


def forms(records: Sequence[Record], protocol: str) -> list[tuple[str, str, Array]]:
    """The forms of the ablation on one protocol: the axis, the choice, and the values."""
    evidences = [
        unpack(found["evidence"]) if found["error"] is None else None
        for found in (record["protocols"][protocol] for record in records)
    ]
    return [
        (axis, choice, np.array([math.nan if e is None else form(e) for e in evidences]))
        for axis, choice, form in ablation.forms()
    ]


def _measured(records: Sequence[Record], protocol: str) -> Iterable[Mapping[str, Any]]:
    return (f for f in (record["protocols"][protocol] for record in records) if f["error"] is None)


def _values(records: Sequence[Record], protocol: str, of: Callable[[Mapping[str, Any]], Any]) -> Array:
    rows = (record["protocols"][protocol] for record in records)
    return np.array([math.nan if f["error"] is not None else _float(of(f)) for f in rows])


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
