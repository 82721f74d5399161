"""The gradient health of a weight whose gradient has no structure: the null of a measured health."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np

_TAILS: Final = np.concatenate([np.linspace(1.0, 0.01, 200)[:-1], np.geomspace(0.01, 1e-12, 300)])
_MOST_ROWS: Final = 10**6
_HALVINGS: Final = 40


@lru_cache(maxsize=4096)
def expected_health(rows: int, size: int) -> float:
    """Median of std / max|g| for a gradient of ``size`` elements, each a sum over ``rows`` of noise products.

    The gradient of y = W x is the sum over the rows of error times input. If both are independent N(0, 1),
    an element divided by its standard deviation is z sqrt(c / rows), z normal and c chi-square with ``rows``
    degrees of freedom. The largest of ``size`` independent ones has the median t at which size P(|g| > t) =
    ln 2. About 1 / sqrt(2 ln size) for many rows, and far less for few: a gradient of few rows has heavy
    tails, whatever the network. Elements share errors and inputs, so for one row the null is up to a fifth
    too low; from four rows on it is within 8 % of simulations (tests/scores/test_expected_health.py).

    Args:
        rows: of the layer's output, samples times positions; at least 1.
        size: elements of the weight; at least 1.

    Returns:
        In (0, 1].
    """
    from scipy.special import erfc, gammainccinv  # noqa: PLC0415 - slow to load, and an inspection needs none

    freedom = min(max(rows, 1), _MOST_ROWS)
    middles = (_TAILS[1:] + _TAILS[:-1]) / 2
    weights = _TAILS[:-1] - _TAILS[1:]
    spread = np.sqrt(2 * (2 * gammainccinv(freedom / 2, middles) / freedom))
    low, high = 0.0, 100.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = size * float(weights @ erfc(middle / spread))
        low, high = (middle, high) if above > math.log(2) else (low, middle)
    return min(1.0, 1 / high)
