"""Candidates keep the budgets, differ, fill what they may, and what nothing keeps ends with one error."""

from __future__ import annotations

import random

import pytest

from intrain_onnx.bench.spaces import SPACES, Genome
from intrain_onnx.errors import SettingsError
from intrain_onnx.search.candidates import FILLED, TRIES, Candidates
from intrain_onnx.search.costs import Counter


def express(genes: tuple[int, ...]) -> str:
    return "-".join(map(str, genes))


def cost(description: str) -> dict[str, int]:
    """Of the sum of the widths squared, each gene + 1: cheap, and in closed form."""
    widths = [int(part) + 1 for part in description.split("-")]
    return {"macs": 1000 + sum(width * width for width in widths), "params": sum(widths)}


PLAIN = Genome(alleles=(20,) * 4, express=express)
WIDE = Genome(alleles=(200,) * 4, express=express, sizes=(0, 1, 2, 3))


@pytest.mark.parametrize("genome", [PLAIN, WIDE], ids=["plain", "sizes"])
@pytest.mark.parametrize("fill", [False, True])
def test_all_keep_the_budgets_and_differ(genome: Genome, fill: bool):
    candidates, generator = Candidates(genome, cost, {"macs": 1300, "params": 30}, fill), random.Random(0)
    made = [candidates.first(i, generator) for i in range(50)]
    assert [c.number for c in made] == list(range(50))
    assert len({c.architecture for c in made}) == 50
    for candidate in made:
        assert candidate.costs == cost(candidate.architecture)
        assert candidate.architecture == express(candidate.genes)
        assert candidate.costs["macs"] <= 1300
        assert candidate.costs["params"] <= 30


def test_a_tight_budget_of_a_plain_space_is_found_by_walking_towards_it():
    """Of 160,000 genomes 15 keep it."""
    candidates, generator = Candidates(PLAIN, cost, {"params": 6}, fill=False), random.Random(0)
    made = [candidates.first(i, generator) for i in range(6)]
    assert all(candidate.costs["params"] <= 6 for candidate in made)
    assert sum(candidate.rejected for candidate in made) > 0


@pytest.mark.parametrize("most", [3_000, 40_000, 130_000])
def test_widths_fill_the_budget(most: int):
    candidates, generator = Candidates(WIDE, cost, {"macs": most}, fill=True), random.Random(1)
    shares = [candidates.first(0, generator).costs["macs"] / most for _ in range(40)]
    assert all(share <= 1 for share in shares)
    assert min(shares) > 0.97
    assert sum(share >= FILLED for share in shares) > 35


def test_widths_are_raised_only_where_that_is_wanted():
    candidates, generator = Candidates(WIDE, cost, {"macs": 130_000}, fill=False), random.Random(1)
    assert min(candidates.first(0, generator).costs["macs"] for _ in range(40)) < 0.5 * 130_000


@pytest.mark.parametrize("genome", [PLAIN, WIDE], ids=["plain", "sizes"])
def test_a_budget_that_nothing_keeps_ends_with_the_smallest_cost(genome: Genome):
    asked: list[str] = []

    def counted(description: str) -> dict[str, int]:
        asked.append(description)
        return cost(description)

    candidates = Candidates(genome, counted, {"macs": 1003}, fill=True)
    with pytest.raises(SettingsError, match=r"the smallest costs seen: macs 1,004, budget 1,003.*--budget"):
        candidates.first(0, random.Random(0))
    assert len(asked) <= 40 * TRIES


def test_what_cannot_be_counted_keeps_no_budget():
    def broken(description: str) -> dict[str, int]:
        raise SettingsError("no")

    assert Candidates(PLAIN, broken).first(0, random.Random(0)).costs == {}
    with pytest.raises(SettingsError, match="none of"):
        Candidates(PLAIN, broken, {"macs": 5}).first(0, random.Random(0))


def test_a_small_space_is_exhausted():
    genome = Genome(alleles=(2, 2), express=express)
    candidates, generator = Candidates(genome), random.Random(0)
    assert {candidates.first(0, generator).architecture for _ in range(4)} == {"0-0", "0-1", "1-0", "1-1"}
    assert candidates.first(0, generator) is None


def test_what_mutates_into_nothing_is_tried_again():
    def odd(genes: tuple[int, ...]) -> str:
        if sum(genes) % 2:
            raise SettingsError("odd")
        return express(genes)

    candidates, generator = Candidates(Genome(alleles=(5,) * 3, express=odd)), random.Random(0)
    first = candidates.first(0, generator)
    near = candidates.near(1, first.genes, generator)
    assert near is not None
    assert sum(near.genes) % 2 == 0


@pytest.mark.parametrize("most", [450e6, 600e6, 1000e6])
def test_mobilenet_v2_begins_within_a_percent_of_its_budget(most: float):
    space = SPACES["mobilenet_v2"]
    assert space.genome is not None
    candidates = Candidates(space.genome, Counter(space, 224), {"macs": int(most)}, fill=True)
    generator = random.Random(0)
    shares = [candidates.first(0, generator).costs["macs"] / most for _ in range(3)]
    assert all(FILLED <= share <= 1 for share in shares)
