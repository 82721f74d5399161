"""Kendall's tau of two measures of the same networks. Pure array functions; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_NORMAL: Final = 1.959964
"""97.5 % quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic and its bootstrap 95 % interval; None if undefined."""

    value: float | None
    low: float | None
    high: float | None


def tau(x: Array, y: Array) -> float:
    """Kendall's tau-b in [-1, 1]; NaN if x or y is constant.

    >>> round(tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 3)
    0.333
    """
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    from scipy.stats import kendalltau  # noqa: PLC0415 - slow to load

    return float(kendalltau(x, y).statistic)


def tau_with_interval(x: Array, y: Array) -> Interval:
    """Kendall's tau-b and its 95 % interval by Fisher's z, of variance 0.437 / (n - 4).

    Fieller, Hartley and Pearson, Biometrika 1957; for n of 10 and more. In place of a bootstrap, whose cost
    is quadratic in the number of networks, of which a ranking has thousands. Undefined if x or y is
    constant; the interval of a tau of 1 or -1 is that value alone.
    """
    value = tau(x, y)
    if not math.isfinite(value) or len(x) < 5:
        return Interval(None, None, None)
    if abs(value) > 1 - 1e-12:  # scipy rounds
        return Interval(value, value, value)
    half = _NORMAL * math.sqrt(0.437 / (len(x) - 4))
    z = math.atanh(value)
    return Interval(value, math.tanh(z - half), math.tanh(z + half))
