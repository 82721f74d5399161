"""The forms that `volume` was chosen among, each a product of a choice on four axes, from stored records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product

import msgspec
import numpy as np
from nas_studies import COUNTED, SEED, Measured, parts_of, titles

from intrain_onnx.bench.across import Column, taus
from intrain_onnx.bench.records import Record
from intrain_onnx.bench.summary import accuracies
from intrain_onnx.report.numbers import decimals
from intrain_onnx.scores.rank_correlation import Array
from intrain_onnx.scores.run_values import RunValues
from intrain_onnx.scores.variants import inner_width, live_size, log_extent, mean, reach, width

Factor = Callable[[RunValues], float]
AXES: Mapping[str, Mapping[str, Factor]] = {
    "width": {
        "cuts": width,
        "stages": lambda v: mean([mean(stage) for stage in v.stages]),
        "cuts and stages": inner_width,
        "all layers": lambda v: mean([x.log_corrected for x in v.layers if x.live]),
        "largest layer": lambda v: max((x.log_corrected for x in v.layers if x.live), default=0.0),
        "none": lambda _: 1.0,
    },
    "depth": {
        "log(1 + sum of log n)": live_size,
        "log(1 + live layers)": lambda v: math.log1p(len(v.live_layers)),
        "none": lambda _: 1.0,
    },
    "extent": {"log(1 + sum of PR times positions)": log_extent, "none": lambda _: 1.0},
    "size": {
        "log(1 + live weights)": lambda v: math.log1p(sum(t.size for t in v.live_weights)),
        "none": lambda _: 1.0,
    },
}
CHOSEN = ("cuts and stages", "log(1 + sum of log n)", "log(1 + sum of PR times positions)", "none")
SHOWN = 10

Form = tuple[str, ...]


def forms() -> dict[Form, Factor]:
    """Every product, by its choices."""
    found: dict[Form, Factor] = {}
    for choices in product(*AXES.values()):
        if set(choices) != {"none"}:
            factors = [axis[choice] for axis, choice in zip(AXES.values(), choices, strict=True)]
            found[choices] = partial(_product, factors)
    return found


def _product(factors: Sequence[Factor], values: RunValues) -> float:
    return math.prod(factor(values) for factor in factors)


def values_of(records: Sequence[Record], protocol: str, form: Factor) -> Array:
    """A form of each architecture; NaN where it failed."""
    rows = (record.measured(protocol) for record in records)
    return np.array([math.nan if row is None else form(row.values) for row in rows])


def columns_of(found: Sequence[Measured], tried: Mapping[str, Factor]) -> Iterator[Column]:
    """The parts of all spaces with the values of the forms."""
    for measured in found:
        for name, part in parts_of(measured):
            values = {f: values_of(part.records, part.study.protocols[-1], form) for f, form in tried.items()}
            yield Column(name, COUNTED.get(name, 0.0), accuracies(part.entries), values)


class Table:
    """Tau of each form in each column that counts, and means over these."""

    def __init__(self, found: Sequence[Measured]) -> None:
        tried = {" | ".join(form): factor for form, factor in forms().items()}
        columns = [c for c in columns_of(found, tried) if c.weight]
        self.columns = columns
        self.weights = np.array([column.weight for column in columns])
        self.taus = {n: rows[:, 0] for n, rows in taus(columns, rounds=0, seed=SEED).taus.items()}
        self.spaces = np.array([column.name.partition("/")[0] for column in columns])

    def mean(self, values: Array, kept: Array | None = None) -> float:
        weights = self.weights if kept is None else self.weights * kept
        return float(weights @ values / weights.sum())

    def order(self, kept: Array | None = None) -> list[str]:
        """The forms, the best first."""
        return sorted(self.taus, key=lambda name: -self.mean(self.taus[name], kept))

    def leaving_out(self) -> Array:
        """In each column, tau of the form that is best in the columns of all other spaces."""
        best = [self.order(self.spaces != space)[0] for space in self.spaces]
        return np.array([self.taus[name][index] for index, name in enumerate(best)])


def forms_table(found: Sequence[Measured]) -> Iterator[str]:
    """The best forms by their mean, the chosen one, and the choice that leaves one space out."""
    made = Table(found)
    heads = titles(made.columns)
    yield f"| place | {' | '.join(AXES)} | {' | '.join(heads)} | mean |"
    yield f"|---|{'---|' * (len(AXES) + len(heads) + 1)}"
    if len(set(made.spaces)) < 2:
        return
    chosen = " | ".join(CHOSEN)
    for place, name in enumerate(made.order(), 1):
        if place <= SHOWN or name == chosen:
            cells = map(decimals, [*made.taus[name], made.mean(made.taus[name])])
            mark = f"{place}, `volume`" if name == chosen else str(place)
            yield f"| {mark} | {name} | {' | '.join(cells)} |"
    left = made.leaving_out()
    cells = map(decimals, [*left, made.mean(left)])
    yield f"| best of the other spaces |{' |' * len(AXES)} {' | '.join(cells)} |"


REACHES: Mapping[str, Factor] = {
    "none": lambda _: 1.0,
    "growth of 3, fall of 5 nats": lambda v: reach(msgspec.structs.replace(v, kept=True)),
    "10 nats": lambda v: reach(msgspec.structs.replace(v, kept=False)),
}
"""The reach of the gradient, by the growth that it allows."""


def reach_table(found: Sequence[Measured]) -> Iterator[str]:
    """The chosen form times each reach, in every column."""
    form = forms()[CHOSEN]
    tried = {name: partial(_product, (form, factor)) for name, factor in REACHES.items()}
    compared = taus([*columns_of(found, tried)], rounds=0, seed=SEED)
    yield f"| growth allowed | {' | '.join(titles(compared.columns))} |"
    yield f"|---|{'---|' * len(compared.columns)}"
    for name in REACHES:
        cells = (decimals(compared.of(name, i).value) for i in range(len(compared.columns)))
        yield f"| {name} | {' | '.join(cells)} |"
