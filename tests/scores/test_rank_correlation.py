"""Kendall's tau against the count of pairs, and its interval against how often it holds the true value."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from intrain_onnx.scores.rank_correlation import Interval, tau, tau_with_interval


def by_pairs(x: np.ndarray, y: np.ndarray) -> float:
    """Tau-b: concordant less discordant pairs, over the geometric mean of the pairs that are no ties."""
    signs = [
        (np.sign(a - b), np.sign(c - d))
        for (a, c), (b, d) in itertools.combinations(zip(x, y, strict=True), 2)
    ]
    left, right = (sum(abs(pair[i]) for pair in signs) for i in (0, 1))
    return sum(p * q for p, q in signs) / math.sqrt(left * right)


@pytest.mark.parametrize("seed", range(4))
def test_tau_is_that_of_the_pairs(seed: int):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 9, 40).astype(float), rng.normal(size=40)
    assert tau(x, y) == pytest.approx(by_pairs(x, y), rel=1e-12)
    assert tau_with_interval(x, y).value == tau(x, y)


def test_the_interval_holds_the_true_value_nineteen_times_of_twenty():
    """Of a bivariate normal distribution tau is 2/pi asin(rho)."""
    rng, rho, rounds = np.random.default_rng(0), 0.6, 800
    true, held = 2 / math.pi * math.asin(rho), 0
    for _ in range(rounds):
        x = rng.normal(size=30)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=30)
        found = tau_with_interval(x, y)
        assert found.low is not None
        held += found.low <= true <= found.high
    assert 0.93 < held / rounds < 0.975


def test_what_has_no_interval():
    x = np.arange(10.0)
    assert tau_with_interval(x, np.ones(10)) == Interval(None, None, None)
    assert tau_with_interval(x[:4], x[:4]) == Interval(None, None, None)
    for sign in (1.0, -1.0):
        found = tau_with_interval(x, sign * x)
        assert [found.value, found.low, found.high] == pytest.approx([sign] * 3, rel=1e-12)
