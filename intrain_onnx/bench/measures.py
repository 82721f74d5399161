"""The measures that are ranked: baselines, scores and proxies, from stored records. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from intrain_onnx.bench import ablation
from intrain_onnx.bench.records import Measured, Record
from intrain_onnx.config import PROTOCOLS
from intrain_onnx.proxies.aggregate import AGGREGATES, aggregate
from intrain_onnx.proxy_table import PROXIES
from intrain_onnx.scores import baselines
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.scores.rank_correlation import Array
from intrain_onnx.scores.static_twins import static_twins

LAYERS = BASELINES[baselines.LAYERS].title
PARAMETERS = BASELINES[baselines.PARAMETERS].title


@dataclass(frozen=True)
class Measure:
    """One value for each architecture; higher is better.

    Attributes:
        group: ``baseline``, the name of a protocol, that of its static twins (see `twin_group`), ``proxy`` or
            ``aggregate``.
        name: for display.
        values: one per architecture, NaN if missing.
        seconds: mean time per architecture; None if it needs no run.
    """

    group: str
    name: str
    values: Array
    seconds: float | None


def measures(records: Sequence[Record]) -> list[Measure]:
    """Baselines, scores and proxies of the records, in the order of the table."""
    protocols = list(records[0].protocols)
    found = list(_baselines(records, protocols[0]))
    for protocol in protocols:
        found += _scores(records, protocol)
        found += _static_twins(records, protocol)
    return [*found, *_proxies(records, protocols)]


def _baselines(records: Sequence[Record], protocol: str) -> Iterable[Measure]:
    for name, baseline in BASELINES.items():
        values = _values(records, protocol, partial(_baseline, name=name))
        yield Measure("baseline", baseline.title, values, None)


def _scores(records: Sequence[Record], protocol: str) -> Iterable[Measure]:
    seconds = float(np.nanmean(_values(records, protocol, lambda found: found.seconds)))
    for name in next((f.scores for f in _measured(records, protocol)), {}):
        values = _values(records, protocol, partial(_score, name=name))
        yield Measure(protocol, name, values, seconds)


def twin_group(protocol: str) -> str:
    """The group of the static twins of a protocol's scores, which have the names of the scores."""
    return f"{protocol}, static twin"


def _static_twins(records: Sequence[Record], protocol: str) -> Iterable[Measure]:
    found = [record.measured(protocol) for record in records]
    twins = [None if m is None else static_twins(m.values, PROTOCOLS[protocol]) for m in found]
    for name in next((f.scores for f in found if f is not None), {}):
        values = np.array([math.nan if twin is None else _float(twin.get(name)) for twin in twins])
        yield Measure(twin_group(protocol), name, values, None)


def _proxies(records: Sequence[Record], protocols: Sequence[str]) -> Iterable[Measure]:
    for protocol in protocols:
        sample = next((f.proxies for f in _measured(records, protocol)), {})
        raw = [_raw(record.measured(protocol)) for record in records]
        for name in sample:
            seconds = float(np.nanmean(_values(records, protocol, partial(_seconds, proxy=name))))
            for part in PROXIES[name].parts:
                values = np.array([_float(row.get(part)) for row in raw]) * PROXIES[name].direction
                title = PROXIES[name].title if len(PROXIES[name].parts) == 1 else part
                yield Measure("proxy", title, values, seconds)
        measured = {part for name in sample for part in PROXIES[name].parts}
        for name, parts in AGGREGATES.items():
            if measured.issuperset(parts):
                values = np.array([_float(v) for v in aggregate(name, raw)])
                yield Measure("aggregate", f"{PROXIES[name].title} aggregate", values, None)


def _baseline(found: Measured, name: str) -> float | None:
    return found.baselines.get(name)


def _score(found: Measured, name: str) -> float:
    return found.scores[name]


def _seconds(found: Measured, proxy: str) -> float:
    return found.proxies[proxy].seconds


def _raw(found: Measured | None) -> dict[str, float | None]:
    proxies = found.proxies.values() if found is not None else ()
    return {part: value for row in proxies for part, value in row.values.items()}


def forms(records: Sequence[Record], protocol: str) -> list[tuple[str, str, Array]]:
    """Values of every ablation form under one protocol, with its axis and choice."""
    return [
        (axis, choice, _values(records, protocol, partial(_form, form=form)))
        for axis, choice, form in ablation.forms()
    ]


def _form(found: Measured, form: ablation.Formula) -> float:
    return form(found.values)


def _measured(records: Sequence[Record], protocol: str) -> Iterable[Measured]:
    return (found for record in records if (found := record.measured(protocol)) is not None)


def _values(records: Sequence[Record], protocol: str, of: Callable[[Measured], float | None]) -> Array:
    rows = (record.measured(protocol) for record in records)
    return np.array([math.nan if found is None else _float(of(found)) for found in rows])


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)
