"""Whether the scores at hand order networks otherwise than counting does: rank correlation with baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np

from intrain_onnx.report.numbers import with_interval
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.scores.rank_correlation import Array, Interval, tau_with_interval
from intrain_onnx.vocabulary import LEADING

COUNTED: Final = ("layers", "parameters", "macs", "activations")
"""The baselines that a score is held against."""

FEWEST: Final = 10
"""Networks below which nothing is said: the interval of a tau of 0 would reach from -.5 to .5."""

LITTLE: Final = 0.9
"""A score whose tau with a baseline is above this adds little to it."""

Value = Callable[[int, str], float | None]
"""The value of a network, by its index, under the name of a score or a baseline; None if it has none."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """One score over the networks at hand.

    Attributes:
        score: its name.
        networks: that have it.
        taus: Kendall's tau with each of `COUNTED`, by name.
    """

    score: str
    networks: int
    taus: Mapping[str, Interval]

    @property
    def repeats(self) -> list[str]:
        """The baselines to which the score adds little."""
        return [name for name, tau in self.taus.items() if tau.value is not None and tau.value > LITTLE]


def overlaps(scores: Iterable[str], networks: int, value: Value) -> list[Overlap]:
    """Kendall's tau of each score with each of `COUNTED`; none with fewer than `FEWEST` networks.

    Args:
        scores: their names; the leading score comes first, then InTrain.
        networks: how many there are.
        value: of a network.
    """
    if networks < FEWEST:
        return []
    first = {LEADING: 0, "intrain": 1}
    names = sorted(dict.fromkeys(scores), key=lambda name: first.get(name, 2))
    columns = {name: _column(name, networks, value) for name in (*names, *COUNTED)}
    found = []
    for name in names:
        known = int(np.isfinite(columns[name]).sum())
        if known >= FEWEST:
            taus = {counted: _tau(columns[name], columns[counted]) for counted in COUNTED}
            found.append(Overlap(name, known, taus))
    return found


def _column(name: str, networks: int, value: Value) -> Array:
    found = (value(index, name) for index in range(networks))
    return np.array([np.nan if v is None else v for v in found], dtype=np.float64)


def _tau(x: Array, y: Array) -> Interval:
    known = np.isfinite(x) & np.isfinite(y)
    return tau_with_interval(x[known], y[known]) if known.sum() >= FEWEST else Interval(None, None, None)


HEADER: Final = ("score", *(BASELINES[name].title for name in COUNTED))


def cells(found: Sequence[Overlap]) -> list[list[str]]:
    """The rows of a table with the columns of `HEADER`: tau and its 95 % interval."""
    return [[x.score, *(with_interval(*astuple(x.taus[name])) or "-" for name in COUNTED)] for x in found]


def remarks(found: Sequence[Overlap]) -> list[str]:
    """A sentence for each score that adds little to what can be counted."""
    return [
        f"{x.score} adds little to counting {_titles(x.repeats)} here: it orders these networks almost alike"
        for x in found
        if x.repeats
    ]


def _titles(names: Sequence[str]) -> str:
    return " and ".join(BASELINES[name].title for name in names)
