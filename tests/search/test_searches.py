"""The benchmark of searches: classes of cells, ways of walking, and what is chosen, by hand."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("pymoo")

import searches

from intrain_onnx.bench.spaces import Genome


def cell(*names: str) -> str:
    short = {"n": "none", "s": "skip_connect", "1": "nor_conv_1x1", "3": "nor_conv_3x3", "p": "avg_pool_3x3"}
    a, b, c, d, e, f = (short[name] for name in names)
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sn3nns", "3nsnns"),  # a 3x3 convolution alone, by two ways through the nodes
        ("n3nnns", "n33nns"),  # what reads nothing is nothing
        ("3ssnns", "3nnssn"),  # sums may be bracketed in any way
    ],
)
def test_cells_that_compute_the_same_share_a_key(one: str, other: str):
    assert searches.isomorphic(cell(*one)) == searches.isomorphic(cell(*other))


def test_cells_that_compute_something_else_do_not():
    cells = ("nnn3nn", "3nnn1n", "3nnn3n", "nnn1nn", "nnnsnn", "nnnpnn")
    assert len({searches.isomorphic(cell(*names)) for names in cells}) == len(cells)
    assert searches.isomorphic(cell(*"n33nnn")) == ""  # cut off from its input


@pytest.fixture
def small() -> Any:
    """A thousand architectures of three genes whose accuracy is the sum of the genes."""
    genome = Genome(alleles=(10, 10, 10), express=lambda genes: "-".join(map(str, genes)))
    accuracy = {f"{a}-{b}-{c}": float(a + b + c) for a in range(10) for b in range(10) for c in range(10)}
    parts = searches.AGGREGATES["vkdnw"]
    values = {key: {"volume": value, **dict.fromkeys(parts, value)} for key, value in accuracy.items()}
    return genome, searches.Known(accuracy, values)


@pytest.mark.parametrize("way", ["at random", "local search", "regularised evolution", "`search`"])
@pytest.mark.parametrize("score", ["volume", "vkdnw"])
def test_every_way_evaluates_as_many_and_finds_what_the_score_knows(way: str, score: str, small: Any):
    """The score is the accuracy: what is guided beats what is not."""
    genome, known = small
    value = searches.worth(known, score)
    order = searches.WAYS[way](known, genome, value, random.Random(3))
    assert len(order) == len(set(order)) == searches.EVALUATIONS
    found = searches.chosen(known, order, value)
    assert found.accuracy[300] == max(known.accuracy[key] for key in order)
    assert found.rank == 1 + sum(a > found.accuracy[300] for a in known.accuracy.values())
    assert found.accuracy[300] >= (27 if way != "at random" else 20)
    assert order == searches.WAYS[way](known, genome, value, random.Random(3))


def test_an_interval_of_equal_values_is_a_point():
    assert searches.interval([2.0, 2.0]) == (2.0, 2.0, 2.0)
    mean, low, high = searches.interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 2.484, 2 + 2.484), abs=1e-3)  # 4.303 / sqrt(3)


def test_rows_of_one_score_are_added_to_a_page_or_take_the_place_of_their_own():
    table = "| score | way | x |\n|---|---|---|\n| A | local | 1 |\n"
    page = f"# Title\n\n### One\n\n{table}\n- more\n\n### Two\n\n{table}\nend\n"
    once = searches.with_rows(page, "One", {"| B | local |": "| B | local | 2 |"})
    assert once == page.replace("| 1 |\n\n- more", "| 1 |\n| B | local | 2 |\n\n- more")
    again = searches.with_rows(once, "One", {"| B | local |": "| B | local | 3 |"})
    assert again == once.replace("| 2 |", "| 3 |")
    with pytest.raises(searches.SettingsError, match="no table of Three"):
        searches.with_rows(page, "Three", {})
