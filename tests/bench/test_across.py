"""Means over spaces and paired differences, against loops in numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from intrain_onnx.bench.across import Column, taus
from intrain_onnx.scores.rank_correlation import Interval

RNG = np.random.default_rng(7)


def column(name: str, weight: float, count: int, noise: float) -> Column:
    truth = {"a": RNG.standard_normal(count), "b": RNG.standard_normal(count)}
    good = truth["a"] + noise * RNG.standard_normal(count)
    return Column(name, weight, truth, {"good": good, "bad": RNG.standard_normal(count)})


COLUMNS = [column("one", 1.0, 40, 0.5), column("two", 0.5, 25, 0.8), column("shown", 0.0, 10, 9.0)]


def expected(index: int, measure: str) -> float:
    found = COLUMNS[index]
    values = [kendalltau(found.measures[measure], y).statistic for y in found.truth.values()]
    return float(np.mean(values))


@pytest.mark.parametrize("measure", ["good", "bad"])
def test_the_mean_is_over_the_columns_that_count(measure: str):
    compared = taus(COLUMNS, rounds=50, seed=0)
    for index in range(3):
        assert compared.of(measure, index).value == pytest.approx(expected(index, measure))
    wanted = (expected(0, measure) + 0.5 * expected(1, measure)) / 1.5
    assert compared.mean(measure).value == pytest.approx(wanted)


def test_differences_are_paired():
    """Of two measures that differ by a hair the difference is sure, though neither tau is."""
    y = RNG.standard_normal(60)
    x = y + 3 * RNG.standard_normal(60)
    twin = x + 0.05 * RNG.standard_normal(60)
    compared = taus([Column("c", 1.0, {"a": y}, {"x": x, "twin": twin})], rounds=400, seed=1)
    whole, apart = compared.mean("x"), compared.mean_difference("x", "twin")
    assert apart.value == pytest.approx(kendalltau(x, y).statistic - kendalltau(twin, y).statistic)
    assert span(apart) < 0.2 * span(whole)


def span(found: Interval) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_failures_count_as_worst_and_unknown_accuracies_do_not():
    y = np.array([1.0, 2.0, 3.0, 4.0, np.nan])
    x = np.array([np.nan, 2.0, 3.0, 4.0, 0.0])
    compared = taus([Column("c", 1.0, {"a": y}, {"x": x})], rounds=5, seed=0)
    assert compared.of("x", 0).value == 1.0
    compared = taus([Column("c", 1.0, {"a": -y}, {"x": x})], rounds=5, seed=0)
    assert compared.of("x", 0).value == -1.0
