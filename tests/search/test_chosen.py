"""The front against brute force and pymoo's own sorting; what is chosen of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrain_onnx.rank.rows import Error, Row
from intrain_onnx.search.chosen import chosen, front, scored
from intrain_onnx.search.goals import Objective
from intrain_onnx.search.rows import Evaluation

BOTH = (Objective("volume", 1), Objective("macs", -1))


def dominated(point: list[float], others: list[list[float]]) -> bool:
    return any(
        all(a <= b for a, b in zip(o, point, strict=True))
        and any(a < b for a, b in zip(o, point, strict=True))
        for o in others
    )


@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(st.integers(0, 6), min_size=n, max_size=n))))
def test_the_front_is_what_brute_force_finds(points: list[list[int]]):
    expected = [
        i for i, point in enumerate(points) if not dominated(point, points) and point not in points[:i]
    ]
    assert front(points) == expected


def test_the_front_is_that_of_pymoo():
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting")
    points = np.random.default_rng(0).normal(size=(300, 3))
    found = sorting.NonDominatedSorting().do(points, only_non_dominated_front=True)
    assert front(points.tolist()) == sorted(int(i) for i in found)


def evaluation(number: int, volume: float | None, macs: int) -> Evaluation:
    if volume is None:
        row = Row(model=str(number), status="failed", error=Error("LimitError", "no", 6))
    else:
        row = Row(model=str(number), status="scored", baselines={"volume": volume})
    return Evaluation(number=number, genes=(number,), costs={"macs": macs}, row=row)


def test_what_failed_is_not_chosen():
    found = [evaluation(0, 1.0, 5), evaluation(1, None, 1), evaluation(2, 3.0, 9)]
    assert [e.number for e in scored(found, BOTH)] == [0, 2]
    assert [e.number for e in chosen(found, BOTH[:1], 5)] == [2, 0]
    assert [e.number for e in chosen(found, BOTH[1:], 1)] == [0]


def test_the_best_by_one_objective_the_earlier_first():
    found = [evaluation(i, volume, 1) for i, volume in enumerate([1.0, 3.0, 2.0, 3.0])]
    assert [e.number for e in chosen(found, BOTH[:1], 3)] == [1, 3, 2]


def test_a_long_front_is_cut_evenly():
    found = [evaluation(i, float(i), i + 1) for i in range(11)]
    assert [e.number for e in chosen(found, BOTH, 3)] == [10, 5, 0]
    assert [e.number for e in chosen(found, BOTH, 100)] == list(range(10, -1, -1))
    assert [e.number for e in chosen(found, BOTH, 1)] == [10]
