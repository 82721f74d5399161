"""Ranking statistics against scipy and definitions written out."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau, spearmanr

from intrain_onnx.bench.ranking import (
    difference,
    fifths,
    ndcg_at_top,
    partial_tau,
    precision_at_top,
    rank,
    rho,
    weighted_taus,
)
from intrain_onnx.scores.rank_correlation import tau

RNG = np.random.default_rng(0)
VECTORS = arrays(np.float64, 30, elements=st.integers(0, 12).map(float))


@settings(max_examples=60, deadline=None)
@given(VECTORS, VECTORS)
def test_tau_and_rho_are_those_of_scipy(x: np.ndarray, y: np.ndarray):
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(tau(x, y))
        assert math.isnan(rho(x, y))
        return
    assert tau(x, y) == pytest.approx(kendalltau(x, y).statistic)
    assert rho(x, y) == pytest.approx(spearmanr(x, y).statistic)


@settings(max_examples=30, deadline=None)
@given(VECTORS, VECTORS, st.integers(0, 1000))
def test_a_weighted_tau_is_the_tau_of_the_drawn_sample(x: np.ndarray, y: np.ndarray, seed: int):
    draws = np.random.default_rng(seed).integers(0, len(x), (4, len(x)))
    weights = np.stack([np.bincount(d, minlength=len(x)) for d in draws]).astype(float)
    for found, draw in zip(weighted_taus(x, y, weights), draws, strict=True):
        assert found == pytest.approx(tau(x[draw], y[draw]), nan_ok=True)


def test_weighted_taus_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch):
    x, y = RNG.normal(size=(2, 50))
    weights = np.ones((1, 50))
    whole = weighted_taus(x, y, weights)
    monkeypatch.setattr("intrain_onnx.bench.ranking._BLOCK", 7)
    assert weighted_taus(x, y, weights) == pytest.approx(whole)


def test_precision_counts_who_belongs_to_the_top():
    y = np.arange(20.0)
    assert precision_at_top(y, y) == 1.0
    assert precision_at_top(-y, y) == 0.0
    one_of_two = np.where(y == 18, -1.0, y)
    assert precision_at_top(one_of_two, y) == 0.5
    assert precision_at_top(np.zeros(20), y) == pytest.approx(0.1)


def test_precision_over_ties_is_the_mean_over_all_ways_to_break_them():
    x = np.array([3.0, 2, 2, 2, 1, 0, 0, 0, 0, 0])
    y = RNG.permutation(10).astype(float)
    broken = []
    for order in itertools.permutations([1, 2, 3]):
        z = x.copy()
        z[[1, 2, 3]] += np.array(order) / 10
        broken.append(precision_at_top(z, y, 0.3))
    assert precision_at_top(x, y, 0.3) == pytest.approx(np.mean(broken))


def test_ndcg_of_the_ideal_order_is_one_and_a_worse_one_is_less():
    y = RNG.permutation(40).astype(float)
    assert ndcg_at_top(y, y) == pytest.approx(1.0)
    assert ndcg_at_top(-y, y) < ndcg_at_top(RNG.permutation(40).astype(float), y) < 1.0
    gains = np.sort(y)[::-1] / 39
    second_first = np.where(y == 38, 99.0, y)
    ideal = sum(gains[i] / math.log2(i + 2) for i in range(4))
    swapped = gains[1] / 1 + gains[0] / math.log2(3) + sum(gains[i] / math.log2(i + 2) for i in (2, 3))
    assert ndcg_at_top(second_first, y) == pytest.approx(swapped / ideal)


def test_a_partial_tau_takes_out_what_the_third_explains():
    assert partial_tau(np.array(0.5), np.array(0.0), np.array(0.0)) == pytest.approx(0.5)
    assert partial_tau(np.array(0.48), np.array(0.6), np.array(0.8)) == pytest.approx(0.0)
    assert np.isnan(partial_tau(np.array(0.5), np.array(1.0), np.array(0.5)))


def test_what_has_no_value_is_the_worst_and_what_has_no_accuracy_is_left_out():
    x = np.array([1.0, 2, math.nan, 4, 5, math.inf])
    y = np.array([2.0, 3, 1, math.nan, 4, 5])
    z = np.array([3.0, 1, 2, 5, 4, 0])
    found = rank(x, y, {"z": z}, rounds=20, seed=0)
    assert (found.count, found.failed) == (5, 2)
    ranks, kept = np.array([1.0, 2, 0, 3, 0]), [0, 1, 2, 4, 5]
    assert found == dataclasses.replace(rank(ranks, y[kept], {"z": z[kept]}, rounds=20, seed=0), failed=2)
    assert found.tau.value == pytest.approx(kendalltau(ranks, y[kept]).statistic)


@settings(max_examples=30, deadline=None)
@given(VECTORS, VECTORS, st.integers(0, 1000))
def test_tau_within_groups_is_that_of_the_pairs_in_a_group(x: np.ndarray, y: np.ndarray, seed: int):
    groups = np.random.default_rng(seed).integers(0, 4, len(x)).astype(float)
    pairs = [(i, j) for i, j in itertools.combinations(range(len(x)), 2) if groups[i] == groups[j]]
    left, right = (np.array([np.sign(v[i] - v[j]) for i, j in pairs]) for v in (x, y))
    norm = math.sqrt(np.abs(left).sum() * np.abs(right).sum())
    expected = (left * right).sum() / norm if norm else None
    found = rank(x, y, {}, {"g": groups, "one": np.zeros(len(x))}, rounds=2, seed=0)
    assert found.within["g"].value == pytest.approx(expected)
    assert found.within["one"] == found.tau


def test_groups_of_one_have_no_tau():
    found = rank(np.arange(5.0), np.arange(5.0), {}, {"g": np.arange(5.0)}, rounds=3, seed=0)
    assert found.within["g"].value is None


def test_fifths_hold_as_many_and_equal_values_stay_together():
    found = fifths(np.random.default_rng(0).permutation(100).astype(float))
    assert np.bincount(found.astype(int)).tolist() == [20] * 5
    assert len(set(fifths(np.repeat([1.0, 2.0], 50))[:50])) == 1
    assert len(set(fifths(np.ones(10)))) == 1


def test_nothing_is_ranked_where_nothing_has_a_value():
    found = rank(np.full(4, math.nan), np.arange(4.0), {}, rounds=5, seed=0)
    assert found.count == 0
    assert found.tau.value is found.rho.value is found.ndcg.low is None


def test_a_constant_measure_has_no_tau():
    found = rank(np.ones(10), np.arange(10.0), {}, rounds=5, seed=0)
    assert found.tau.value is None


def test_a_difference_is_paired_and_missing_values_are_the_worst():
    x = np.array([1.0, 2, math.nan, 4, 5, 3, 6])
    other = np.array([3.0, 1, 2, 5, 4, 0, 7])
    y = np.array([2.0, 3, 1, math.nan, 4, 5, 6])
    found = difference(x, other, y, rounds=40, seed=2)
    kept = np.isfinite(y)
    x, other, y = np.nan_to_num(x, nan=0.0)[kept], other[kept], y[kept]
    draws = [np.arange(6), *np.random.default_rng(2).integers(0, 6, (40, 6))]
    values = [kendalltau(x[d], y[d]).statistic - kendalltau(other[d], y[d]).statistic for d in draws]
    assert found.value == pytest.approx(values[0])
    assert (found.low, found.high) == pytest.approx(tuple(np.nanpercentile(values[1:], [2.5, 97.5])))
    assert dataclasses.astuple(difference(x, x, y, rounds=40, seed=2)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("other", [np.ones(8), np.full(8, math.nan)])
def test_there_is_no_difference_to_what_has_no_tau(other: np.ndarray):
    found = difference(np.arange(8.0), other, np.arange(8.0), rounds=5, seed=0)
    assert dataclasses.astuple(found) == (None, None, None)


def test_intervals_cover_and_shrink_with_the_sample():
    def width(count: int) -> float:
        x = np.random.default_rng(1).normal(size=count)
        y = x + np.random.default_rng(2).normal(size=count)
        t = rank(x, y, {}, rounds=200, seed=0).tau
        assert t.low < 0.5 < t.high  # tau of a correlation of 1 / sqrt 2 is 2 / pi * asin(1 / sqrt 2)
        return t.high - t.low

    assert width(50) > 2 * width(800)


def test_the_bootstrap_is_the_same_for_the_same_seed():
    x, y = RNG.normal(size=(2, 40))
    first, again = (rank(x, y, {"z": x + y}, rounds=30, seed=3) for _ in range(2))
    assert first == again
    assert first != rank(x, y, {"z": x + y}, rounds=30, seed=4)
