"""Rank correlation and top-k statistics of a measure against accuracy. Pure array functions; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from intrain_onnx.scores.rank_correlation import Array, Interval

TOP = 0.1
"""Fraction of architectures that count as the top, for precision and nDCG."""

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Ranking:
    """Ranking statistics of a measure.

    Attributes:
        count: number of architectures with an accuracy.
        failed: those of them without a value, which count as its worst.
        tau: Kendall's tau-b.
        rho: Spearman's rho.
        precision: fraction of its top that is in the top by accuracy, see :data:`TOP`.
        ndcg: normalised discounted cumulative gain at the top.
        partial: Kendall's partial tau given another measure, by that measure's name.
        within: Kendall's tau of pairs in the same group alone, by the name of the grouping.
    """

    count: int
    failed: int
    tau: Interval
    rho: Interval
    precision: Interval
    ndcg: Interval
    partial: dict[str, Interval]
    within: dict[str, Interval]


def worst_where_missing(x: Array) -> Array:
    """A measure with a value below all others where it has none; as it is if it has none at all.

    A measure that fails for networks that train badly would otherwise rank better for it.
    """
    known = np.isfinite(x)
    return np.where(known, x, x[known].min() - 1.0) if known.any() else x


def fifths(x: Array) -> Array:
    """The fifth that each value is in, 0 to 4; equal values are in the same one."""
    return np.searchsorted(np.quantile(x, [0.2, 0.4, 0.6, 0.8]), x).astype(np.float64)


def weighted_taus(x: Array, y: Array, weights: Array, groups: Array | None = None) -> Array:
    """Kendall's tau-b under each of several weightings of the same architectures.

    An architecture drawn k times by the bootstrap has weight k; pairs of its copies are ties. All rounds are
    computed by products with the matrices of pair signs, much faster than one round at a time.

    Args:
        x: (architectures,).
        y: (architectures,).
        weights: (rounds, architectures).
        groups: (architectures,): only pairs of the same group count.

    Returns:
        (rounds,), NaN if x or y is constant in a round, or in each group of it.
    """
    sums = np.zeros((3, len(weights)))
    for start in range(0, len(x), _BLOCK):
        block = slice(start, start + _BLOCK)
        left = np.sign(x[block, None] - x).astype(np.float32)
        right = np.sign(y[block, None] - y).astype(np.float32)
        if groups is not None:
            together = groups[block, None] == groups
            left, right = left * together, right * together
        some = weights[:, block].astype(np.float32)
        products = [some @ matrix for matrix in (left * right, np.abs(left), np.abs(right))]
        sums += [np.einsum("ri,ri->r", product, weights, dtype=np.float64) for product in products]
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[0] / np.sqrt(sums[1] * sums[2]), dtype=np.float64)


def rho(x: Array, y: Array) -> float:
    """Spearman's rho in [-1, 1]: Pearson's correlation of the ranks; NaN if x or y is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def precision_at_top(x: Array, y: Array, share: float = TOP) -> float:
    """Precision of the top by ``x`` for the top by ``y``, in [0, 1]; ``share`` for a random order.

    Ties at the cut-off of ``x`` share the remaining places equally.
    """
    size = max(1, round(share * len(x)))
    best = np.zeros(len(y), bool)
    best[np.lexsort((np.arange(len(y)), -y))[:size]] = True
    return float(_membership(x, size) @ best / size)


def _membership(x: Array, size: int) -> Array:
    """Membership of each in the ``size`` largest: 1, 0, or a fraction for ties at the cut-off."""
    border = np.sort(x)[-size]
    above, tied = x > border, x == border
    return np.asarray(above + tied * ((size - above.sum()) / tied.sum()), dtype=np.float64)


def ndcg_at_top(x: Array, y: Array, share: float = TOP) -> float:
    """Normalised discounted cumulative gain of the top by ``x``, in [0, 1].

    The gain of an architecture is the fraction of the others that it beats, so the scale of the accuracies
    does not matter. Jarvelin and Kekalainen, ACM TOIS 2002, with log2 discount.
    """
    size = max(1, round(share * len(x)))
    gain = (rankdata(y) - 1) / max(len(y) - 1, 1)
    discount = 1 / np.log2(np.arange(2, size + 2))
    tied = np.argsort(-x, kind="stable")
    mean_gain = _mean_over_ties(x, gain)[tied][:size]
    ideal = np.sort(gain)[::-1][:size] @ discount
    return float(mean_gain @ discount / ideal) if ideal > 0 else math.nan


def _mean_over_ties(x: Array, gain: Array) -> Array:
    _, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(index, gain) / counts, dtype=np.float64)[index]


def partial_tau(xy: Array, xz: Array, yz: Array) -> Array:
    """Kendall's partial tau of x and y given z, from the three taus; NaN if z determines one of them.

    The correlation that z does not explain. Kendall, Biometrika 1942.
    """
    rest = (1 - xz**2) * (1 - yz**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rest > 1e-12, (xy - xz * yz) / np.sqrt(rest), np.nan)


def rank(
    x: Array,
    y: Array,
    given: Mapping[str, Array],
    groups: Mapping[str, Array] | None = None,
    *,
    rounds: int,
    seed: int,
) -> Ranking:
    """All ranking statistics of one measure against one accuracy.

    Args:
        x: the measure; where it has no value, it counts as worst. Without any there are no statistics.
        y: the accuracies; rows without one are left out.
        given: control variables of the partial taus, by name.
        groups: groups of equal numbers, by name of the grouping.
        rounds: number of bootstrap samples of the architectures.
        seed: of the bootstrap.
    """
    kept = np.isfinite(y)
    failed = int((kept & ~np.isfinite(x)).sum())
    x = worst_where_missing(np.where(kept, x, math.nan))
    kept &= np.isfinite(x)
    x, y = x[kept], y[kept]
    count = len(x)
    draws, weights = bootstrap(count, rounds, np.random.default_rng(seed))
    xy = weighted_taus(x, y, weights)
    return Ranking(
        count=count,
        failed=failed,
        tau=interval(xy),
        rho=interval(np.array([rho(x[i], y[i]) for i in draws])),
        precision=interval(np.array([precision_at_top(x[i], y[i]) for i in draws if count])),
        ndcg=interval(np.array([ndcg_at_top(x[i], y[i]) for i in draws if count])),
        partial={
            name: interval(
                partial_tau(xy, weighted_taus(x, z[kept], weights), weighted_taus(y, z[kept], weights))
            )
            for name, z in given.items()
        },
        within={
            name: interval(weighted_taus(x, y, weights, group[kept]))
            for name, group in (groups or {}).items()
        },
    )


def difference(x: Array, other: Array, y: Array, *, rounds: int, seed: int) -> Interval:
    """Kendall's tau of a measure less that of another: paired, over the same draws of the architectures.

    Args:
        x: the measure; where it has no value, it counts as its worst.
        other: that which is taken off, likewise.
        y: the accuracies; rows without one are left out.
        rounds: number of bootstrap samples of the architectures.
        seed: of the bootstrap.

    Returns:
        Undefined where one of them has no tau.
    """
    kept = np.isfinite(y)
    _, weights = bootstrap(int(kept.sum()), rounds, np.random.default_rng(seed))
    one, two = (weighted_taus(worst_where_missing(v[kept]), y[kept], weights) for v in (x, other))
    return interval(one - two)


def bootstrap(count: int, rounds: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], Array]:
    """Bootstrap samples, the sample itself first: indices, and how often each architecture is drawn."""
    draws = generator.integers(0, max(count, 1), (rounds, count))
    draws = np.vstack([np.arange(count, dtype=draws.dtype), draws])
    return draws, np.stack([np.bincount(draw, minlength=count) for draw in draws]).astype(np.float64)


def interval(values: Array) -> Interval:
    """The statistic of the sample, which is first, and the percentile interval of the bootstrap values."""
    if not len(values) or not math.isfinite(values[0]):
        return Interval(None, None, None)
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return Interval(float(values[0]), None, None)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))
