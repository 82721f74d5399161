"""How well one number ranks architectures by their accuracy. Pure functions of arrays; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

Array = NDArray[np.float64]
TOP = 0.1
"""Share of the architectures that count as the top, for precision and nDCG."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic and its bootstrap 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a measure ranks.

    Attributes:
        count: architectures that have a value.
        tau: Kendall's tau-b.
        rho: Spearman's rho.
        precision: share of the architectures that it puts at the top which belong there, see :data:`TOP`.
        ndcg: normalised discounted cumulative gain of its top.
        partial: Kendall's partial tau given another measure, by that measure's name.
    """

    count: int
    tau: Interval
    rho: Interval
    precision: Interval
    ndcg: Interval
    partial: dict[str, Interval]


def tau(x: Array, y: Array) -> float:
    """Kendall's tau-b in [-1, 1]; NaN where one of them is constant.

    >>> tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.3333333333333333
    """
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(kendalltau(x, y).statistic)


def rho(x: Array, y: Array) -> float:
    """Spearman's rho in [-1, 1]: Pearson's correlation of the ranks; NaN where one of them is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def precision_at_top(x: Array, y: Array, share: float = TOP) -> float:
    """Share of the top by ``x`` that is in the top by ``y``; in [0, 1], ``share`` for a random order.

    Ties at the border of the top by ``x`` count with the share of the tied that fit in.
    """
    size = max(1, round(share * len(x)))
    best = np.zeros(len(y), bool)
    best[np.lexsort((np.arange(len(y)), -y))[:size]] = True
    return float(_membership(x, size) @ best / size)


def _membership(x: Array, size: int) -> Array:
    """How far each one belongs to the ``size`` largest: 1, 0, or a share where ties reach over the border."""
    border = np.sort(x)[-size]
    above, tied = x > border, x == border
    return np.asarray(above + tied * ((size - above.sum()) / tied.sum()), dtype=np.float64)


def ndcg_at_top(x: Array, y: Array, share: float = TOP) -> float:
    """Normalised discounted cumulative gain of the top by ``x``, in [0, 1].

    The gain of an architecture is the share of the others that it is better than, so the scale of the
    accuracies does not matter. Jarvelin and Kekalainen, ACM TOIS 2002, with log2 discount.
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


def partial_tau(xy: float, xz: float, yz: float) -> float:
    """Kendall's partial tau of x and y given z, from their three taus; NaN where z decides one of them.

    It keeps of a correlation what the third measure does not explain. Kendall, Biometrika 1942.
    """
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / math.sqrt(rest) if rest > 1e-12 else math.nan


def rank(x: Array, y: Array, given: dict[str, Array], *, rounds: int, seed: int) -> Ranking:
    """All statistics of one measure against one accuracy.

    Args:
        x: the measure, NaN where it has no value; those rows are left out, and ``count`` tells.
        y: the accuracies.
        given: measures whose influence is taken out, by name.
        rounds: of the bootstrap over architectures.
        seed: of the bootstrap.
    """
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    others = {name: z[kept] for name, z in given.items()}
    draws = np.random.default_rng(seed).integers(0, len(x), (rounds, len(x))) if len(x) else None

    def estimate(statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
        return _bootstrap(statistic, len(x), draws)

    return Ranking(
        count=len(x),
        tau=estimate(lambda i: tau(x[i], y[i])),
        rho=estimate(lambda i: rho(x[i], y[i])),
        precision=estimate(lambda i: precision_at_top(x[i], y[i])),
        ndcg=estimate(lambda i: ndcg_at_top(x[i], y[i])),
        partial={
            name: estimate(lambda i, z=z: partial_tau(tau(x[i], y[i]), tau(x[i], z[i]), tau(y[i], z[i])))  # type: ignore[misc]
            for name, z in others.items()
        },
    )


def _bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], count: int, draws: NDArray[np.int64] | None
) -> Interval:
    if draws is None or count < 2:
        return Interval(None, None, None)
    value = statistic(np.arange(count))
    if not math.isfinite(value):
        return Interval(None, None, None)
    found = np.array([statistic(draw) for draw in draws])
    found = found[np.isfinite(found)]
    if not len(found):
        return Interval(value, None, None)
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(value, float(low), float(high))
