"""Evolution of genes by pymoo's ask and tell: a genetic algorithm, or NSGA-II where objectives are several.

The operators are those of the genome: a child has each gene of one of two parents, and then one of them is
mutated, unless the space has operators of its own. Nothing is random but what comes of one seed. pymoo is an
extra: import this when it is needed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import NoDuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from intrain_onnx.bench.spaces import Genome
from intrain_onnx.bench.spaces.base import Genes

Array = np.ndarray[Any, Any]


class Evolution:
    """A population that is asked for children and told what they are worth.

    Args:
        genome: how genes are changed and combined.
        objectives: number of values that are minimised.
        population: number of architectures that survive, and of children at a time.
        seed: of everything that is random.
    """

    def __init__(self, genome: Genome, objectives: int, population: int, seed: int) -> None:
        kind = GA if objectives == 1 else NSGA2
        self._algorithm = kind(
            pop_size=population,
            sampling=np.zeros((population, len(genome.alleles)), int),
            mutation=_Mutation(genome),
            crossover=_Crossover(genome),
            eliminate_duplicates=NoDuplicateElimination(),
        )
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        self._algorithm.setup(
            Problem(n_var=len(genome.alleles), n_obj=objectives, vtype=int),
            seed=generator,
            termination=NoTermination(),
        )
        self._asked: Any = None

    def ask(self) -> list[tuple[Genes, random.Random]]:
        """Genes of children, of which the first ones mean nothing, and a generator for the repair of each."""
        self._asked = self._algorithm.ask()
        state = self._algorithm.random_state
        return [(genes_of(row), _generator(state)) for row in self._asked.get("X")]

    def tell(self, children: Sequence[Genes], values: Sequence[Sequence[float]]) -> None:
        """The values of what became of children that were asked for, in their order; the rest are dropped."""
        told = self._asked[: len(children)]
        told.set("X", np.array(children, int))
        told.set("F", np.array(values, float))
        for each in told:
            each.evaluated.update({"F", "G", "H"})
        self._algorithm.tell(infills=told)

    def revalue(self, values: Callable[[Genes], Sequence[float]]) -> None:
        """Give the survivors other values, as where a score is a rank among all that was evaluated so far."""
        survivors = self._algorithm.pop
        if survivors is not None and len(survivors):
            survivors.set("F", np.array([values(genes_of(row)) for row in survivors.get("X")], float))


class _Mutation(Mutation):  # type: ignore[misc]
    """That of a genome."""

    def __init__(self, genome: Genome) -> None:
        super().__init__()
        self._genome = genome

    def _do(self, problem: Any, x: Array, *args: Any, random_state: Any = None, **kwargs: Any) -> Array:
        generator = _generator(random_state)
        return np.array([self._genome.mutated(genes_of(row), generator) for row in x], int)


class _Crossover(Crossover):  # type: ignore[misc]
    """That of a genome: one child of two parents."""

    def __init__(self, genome: Genome) -> None:
        super().__init__(n_parents=2, n_offsprings=1)
        self._genome = genome

    def _do(self, problem: Any, x: Array, *args: Any, random_state: Any = None, **kwargs: Any) -> Array:
        generator = _generator(random_state)
        pairs = [(genes_of(one), genes_of(other)) for one, other in zip(*x, strict=True)]
        return np.array([[self._genome.crossed(*pair, generator) for pair in pairs]], int)


def genes_of(row: Array) -> Genes:
    """Genes of a row of an array."""
    return tuple(int(gene) for gene in row)


def _generator(state: Any) -> random.Random:
    """A generator of Python that a draw of numpy's seeds."""
    return random.Random(int(state.integers(2**63)))  # noqa: S311 - nothing is secret here
