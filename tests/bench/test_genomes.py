"""Genomes of spaces: what they draw, mutate and cross stays in the space, and builds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intrain_onnx.bench.spaces import SPACES, Genome
from intrain_onnx.bench.spaces.mobilenet_v2 import (
    MOST_PAIRS_IN_ALL,
    START,
    express,
    genes_of,
    parse,
    rescaled,
)

GENOMES = {name: space.genome for name, space in SPACES.items() if space.genome is not None}
EACH = pytest.mark.parametrize("name", GENOMES)
NUMBERS = {"nasbench201": 5**6, "macro": 3**8, "nats_size": 8**5}
ZICO = "16 k7e1b40c40n1s2 k7e2b64c80n1s2 k7e4b96c96n5s2 k7e2b224c224n5s2 2048"


def drawn(genome: Genome, generator: random.Random) -> tuple[int, ...]:
    """Genes that a search may hold: drawn, or the start."""
    return genome.start or genome.draw(generator)


@EACH
@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_operators_stay_in_the_space(name: str, seed: int):
    genome, generator = GENOMES[name], random.Random(seed)
    genes = drawn(genome, generator)
    for _ in range(20):
        other = genome.crossed(genes, drawn(genome, generator), generator)
        for made in (genome.mutated(genes, generator), other):
            assert len(made) == len(genome.alleles)
            assert all(0 <= gene < most for gene, most in zip(made, genome.alleles, strict=True))
            if genome.is_valid(made):
                assert genome.express(made)
                genes = made


@EACH
def test_a_child_has_its_genes_of_its_parents(name: str):
    genome, generator = GENOMES[name], random.Random(0)
    one, other = (
        genome.mutated(genome.mutated(drawn(genome, generator), generator), generator) for _ in "ab"
    )
    children = [genome.crossed(one, other, generator) for _ in range(20)]
    assert len(set(children)) > 1
    for child in children:
        assert all(gene in pair for gene, *pair in zip(child, one, other, strict=True))


@EACH
def test_what_a_genome_draws_builds(name: str):
    space, generator = SPACES[name], random.Random(0)
    genes = drawn(space.genome, generator)
    for _ in range(5):
        assert space.build(space.genome.express(genes), fold=True).graph.node
        changed = space.genome.mutated(genes, generator)
        genes = changed if space.genome.is_valid(changed) else genes


@pytest.mark.parametrize("name", NUMBERS)
def test_genomes_have_the_whole_space(name: str):
    """Each architecture once: as many as are published, and the sampler draws no others."""
    genome, number = GENOMES[name], 1
    for alleles in genome.alleles:
        number *= alleles
    assert number == NUMBERS[name]
    generator = random.Random(0)
    descriptions = {genome.express(genome.draw(generator)) for _ in range(3000)}
    assert len(descriptions) > 1500
    for _ in range(20):
        SPACES[name].build(SPACES[name].draw(generator), fold=True)


def test_modules_that_are_none_are_left_out():
    genome = GENOMES["transnas_macro"]
    assert genome.express((0, 1, 4, 0, 1, 1)) == genome.express((1, 4, 1, 1, 0, 0)) == "64-1411-basic"
    assert not genome.is_valid((0, 0, 0, 1, 4, 1))
    assert not genome.is_valid((1, 1, 1, 1, 1, 1))


@pytest.mark.parametrize("description", [START, ZICO])
def test_published_networks_are_in_the_genome(description: str):
    assert express(genes_of(parse(description))) == description


def test_pairs_are_bounded():
    genes = list(genes_of(parse(ZICO)))
    genes[5] = MOST_PAIRS_IN_ALL - 11 - 1
    assert GENOMES["mobilenet_v2"].is_valid(tuple(genes))
    genes[5] += 1
    assert not GENOMES["mobilenet_v2"].is_valid(tuple(genes))


def test_a_mutation_has_the_published_ranges():
    """Factors 2.5 to 1 / 2.5 of 80 channels, rounded to 8."""
    generator = random.Random(0)
    assert {8 * (rescaled(9, generator) + 1) for _ in range(500)} == {200, 160, 120, 96, 80, 64, 56, 40, 32}
