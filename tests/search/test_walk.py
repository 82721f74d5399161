"""The walk: repeats, whatever the order of ends; finds optima and fronts that brute force knows."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from intrain_onnx.bench.spaces import SPACES, Genome
from intrain_onnx.search.candidates import Candidate, Candidates
from intrain_onnx.search.chosen import front
from intrain_onnx.search.walk import Values, Walk, walked

pytest.importorskip("pymoo", reason="the extra `search` is not installed")

from intrain_onnx.search.evolution import Evolution


def express(genes: tuple[int, ...]) -> str:
    return "-".join(map(str, genes))


GENOME = Genome(alleles=(4,) * 6, express=express)
"""4,096 architectures."""

TARGET = (3, 1, 0, 2, 2, 1)


def far(candidate: Candidate) -> list[float]:
    """Distance to the target, less is better: 0 at one architecture of all."""
    return [float(sum(abs(a - b) for a, b in zip(candidate.genes, TARGET, strict=True)))]


def walk(
    genome: Genome = GENOME, seed: int = 0, most: int = 200, objectives: int = 1, size: int = 20
) -> Walk:
    return Walk(Evolution(genome, objectives, size, seed), Candidates(genome), objectives, most)


def test_a_seed_gives_one_way():
    ways = [[c.architecture for c, _ in walked(walk(seed=seed), far)] for seed in (0, 0, 1)]
    assert ways[0] == ways[1] != ways[2]
    assert len(set(ways[0])) == 200


def test_the_order_in_which_evaluations_end_makes_no_difference():
    """Up to eight run at a time, and end in random order."""
    expected = [c.architecture for c, _ in walked(walk(), far)]
    for seed in range(3):
        generator, way, got, running = random.Random(seed), walk(), [], []
        while True:
            while len(running) < 8 and (candidate := way.next()) is not None:
                got.append(candidate.architecture)
                running.append(candidate)
            if not running:
                break
            candidate = running.pop(generator.randrange(len(running)))
            way.tell(candidate, far(candidate))
        assert got == expected


def test_global_generators_play_no_part():
    random.seed(1)
    first = [c.architecture for c, _ in walked(walk(), far)]
    random.seed(2)
    state = random.getstate()
    assert [c.architecture for c, _ in walked(walk(), far)] == first
    assert random.getstate() == state


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_best_of_a_small_space(seed: int):
    """Random search has one chance in 14 with 300 of 4,096."""
    found = walked(walk(seed=seed, most=300), far)
    assert min(values[0] for _, values in found) == 0
    exhaustive = min(itertools.product(range(4), repeat=6), key=lambda g: math.dist(g, TARGET))
    assert min(found, key=lambda each: each[1][0])[0].genes == exhaustive


def test_it_finds_the_front_of_a_small_space():
    def both(genes: tuple[int, ...]) -> list[float]:
        return [float(sum(genes)), float(sum((3 - gene) ** 2 for gene in genes))]

    expected = {tuple(both(g)) for g in itertools.product(range(4), repeat=6)}
    values = sorted(expected)
    expected = {values[i] for i in front(values)}
    found = walked(walk(objectives=2, most=900, size=30), lambda c: both(c.genes))
    points = [tuple(v) for _, v in found]
    got = {points[i] for i in front(points)}
    assert len(got & expected) >= 0.9 * len(expected)


def test_it_ends_when_nothing_is_left():
    genome = Genome(alleles=(2, 3), express=express)
    way = walk(genome, most=50, size=4)
    found = walked(way, lambda c: [float(sum(c.genes))])
    assert sorted(c.genes for c, _ in found) == sorted(itertools.product(range(2), range(3)))
    assert way.exhausted


def size_of(description: str) -> dict[str, int]:
    return {"params": sum(int(part) + 1 for part in description.split("-"))}


@pytest.mark.parametrize("budget", [{}, {"params": 9}, {"params": 14}])
@pytest.mark.parametrize("sizes", [(), (0, 2)])
@pytest.mark.parametrize("alleles", [(4,) * 6, (2, 3, 3)])
def test_candidates_that_were_made_before_need_not_be_made_again(
    budget: dict[str, int], sizes: tuple[int, ...], alleles: tuple[int, ...]
):
    """Any part of them, also where the space is exhausted and children became nothing."""
    genome = Genome(alleles=alleles, express=express, sizes=sizes)

    def way() -> Walk:
        return Walk(Evolution(genome, 1, 7, 0), Candidates(genome, size_of, budget, bool(sizes)), 1, 60)

    def value(candidate: Candidate) -> list[float]:
        return [float(sum((gene - 1) ** 2 for gene in candidate.genes))]

    whole, generator = walked(way(), value), random.Random(0)
    assert len(whole) > 2
    for _ in range(5):
        again = way()
        again.made = {c.number: c for c, _ in whole if generator.random() < 0.5}
        assert walked(again, value) == whole


@pytest.mark.parametrize("alleles", [(1,), (1, 1), (2,), (1, 3, 1)])
@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 10])
def test_the_smallest_spaces_and_populations(alleles: tuple[int, ...], objectives: int, size: int):
    way = walk(Genome(alleles=alleles, express=express), most=50, objectives=objectives, size=size)
    found = walked(way, lambda c: [float(sum(c.genes))] * objectives)
    assert sorted(c.genes for c, _ in found) == sorted(itertools.product(*map(range, alleles)))


@pytest.mark.parametrize("objectives", [1, 2])
def test_what_has_no_value_counts_as_the_worst(objectives: int):
    """Half of the space fails; the rest is searched as if it were all."""

    def half(candidate: Candidate) -> Values:
        return far(candidate) * objectives if candidate.genes[0] >= 2 else [None] * objectives

    found = walked(walk(objectives=objectives, most=400), half)
    late = [values for _, values in found[200:]]
    assert sum(values[0] is None for values in late) < 0.3 * len(late)
    assert min(values[0] for _, values in found if values[0] is not None) <= 1


def test_all_may_fail():
    assert len(walked(walk(most=100), lambda c: [None])) == 100


def test_a_number_below_the_population_is_kept_to():
    assert len(walked(walk(most=7), far)) == 7


@pytest.mark.parametrize("name", ["nasbench201", "macro", "nats_size", "transnas_macro", "mobilenet_v2"])
def test_spaces_are_walked(name: str):
    genome = SPACES[name].genome
    assert genome is not None
    found = walked(walk(genome, most=100, size=10), lambda c: [float(sum(c.genes))])
    assert len({c.architecture for c, _ in found}) == 100
