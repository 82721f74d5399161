"""Means of rank correlations over several spaces, and paired differences of measures. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intrain_onnx.bench.ranking import bootstrap, interval, weighted_taus, worst_where_missing
from intrain_onnx.scores.rank_correlation import Array, Interval


@dataclass(frozen=True, slots=True)
class Column:
    """A space, or a part of one, with its measures.

    Attributes:
        name: for display.
        weight: in the mean over columns; 0 for a column that is only shown.
        truth: accuracies by data set; NaN if missing.
        measures: values by name, one for each architecture; NaN (a failure) counts as the worst.
    """

    name: str
    weight: float
    truth: Mapping[str, Array]
    measures: Mapping[str, Array]


@dataclass(frozen=True)
class Taus:
    """Kendall's tau of each measure in each column, under the same bootstrap samples.

    Attributes:
        columns: in order.
        taus: by measure, (columns, 1 + rounds), means over data sets; the first is that of the sample itself.
            NaN rows where the column lacks the measure.
    """

    columns: tuple[Column, ...]
    taus: Mapping[str, Array]

    def of(self, measure: str, column: int) -> Interval:
        """Tau in one column."""
        return interval(self._taus(measure)[column])

    def mean(self, measure: str) -> Interval:
        """Weighted mean over the columns that count."""
        return interval(self._mean(measure))

    def mean_difference(self, measure: str, other: str) -> Interval:
        """Mean of one measure minus that of another, in the same samples of architectures."""
        return interval(self._mean(measure) - self._mean(other))

    def difference(self, measure: str, other: str, column: int) -> Interval:
        """The same in one column."""
        return interval(self._taus(measure)[column] - self._taus(other)[column])

    def _mean(self, measure: str) -> Array:
        weights = np.array([column.weight for column in self.columns])
        kept = weights > 0
        rows = self._taus(measure)[kept]
        return weights[kept] @ rows / weights.sum() if kept.any() else np.full(rows.shape[1], np.nan)

    def _taus(self, measure: str) -> Array:
        unknown = np.full((len(self.columns), 1), np.nan)
        return self.taus.get(measure, unknown)


def taus(columns: Sequence[Column], *, rounds: int, seed: int) -> Taus:
    """Bootstrap the architectures of each column, for all measures alike.

    Args:
        columns: the spaces.
        rounds: number of bootstrap samples.
        seed: of the bootstrap.
    """
    names = list(dict.fromkeys(name for column in columns for name in column.measures))
    found = {name: np.full((len(columns), rounds + 1), np.nan) for name in names}
    generator = np.random.default_rng(seed)
    for index, column in enumerate(columns):
        _, weights = bootstrap(len(next(iter(column.truth.values()))), rounds, generator)
        for name, values in column.measures.items():
            filled = worst_where_missing(values)
            parts = [_taus(filled, truth, weights) for truth in column.truth.values()]
            found[name][index] = np.mean(parts, axis=0)
    return Taus(tuple(columns), found)


def _taus(x: Array, y: Array, weights: Array) -> Array:
    """Tau where the accuracy is known; 0 for a measure that tells no two architectures apart."""
    kept = np.isfinite(y)
    return np.nan_to_num(weighted_taus(x[kept], y[kept], weights[:, kept]))
