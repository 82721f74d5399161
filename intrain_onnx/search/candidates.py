"""Turns genes into architectures that keep the budgets and were not evaluated before.

What is over a budget is repaired: widths, where the genome names them, are scaled down, or up to fill the
budget. What cannot be is rejected, and a mutation of the one that came closest is tried instead.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from intrain_onnx.bench.spaces import Genome
from intrain_onnx.bench.spaces.base import Genes
from intrain_onnx.errors import IntrainError, SettingsError
from intrain_onnx.search.goals import Costs, ratio

TRIES = 400
"""Genes, not tried before, that are tried for one architecture."""

_ROUNDS = 10 * TRIES
"""Mutations for one architecture, of which most may be known."""

FILLED = 0.99
"""Share of a budget above which nothing is scaled up."""

_STEPS = 12
"""Of the search for a scale."""

_PASSES = 4
"""Over the widths, each of which is raised by one."""

_START_CHANGES = 8
"""Most mutations of the start of a search."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that is to be evaluated.

    Attributes:
        number: its place among the children that were asked for.
        genes: that stand for it.
        architecture: its description.
        costs: what was counted of it.
        rejected: architectures that did not keep a budget, and in whose place it is.
    """

    number: int
    genes: Genes
    architecture: str
    costs: Costs = field(default_factory=dict)
    rejected: int = 0


@dataclass(slots=True)
class Candidates:
    """Makes candidates, of which no two have one description.

    What is made follows from the genes, their generator, and the descriptions that are known, alone: a search
    that is gone on with need not make again what it has made.

    Attributes:
        genome: of the space.
        cost: counts an architecture; None where nothing is.
        budgets: most of each cost.
        fill: scale what is below a budget up.
    """

    genome: Genome
    cost: Callable[[str], Costs] | None = None
    budgets: Mapping[str, int] = field(default_factory=dict)
    fill: bool = False
    _known: set[str] = field(default_factory=set)
    _over: dict[Genes, tuple[Genes, float]] = field(default_factory=dict)
    _smallest: dict[str, int] = field(default_factory=dict)

    def remember(self, candidate: Candidate) -> None:
        """Take a candidate as made."""
        self._known.add(candidate.architecture)

    def first(self, number: int, generator: random.Random) -> Candidate | None:
        """One of the initial population: drawn, or the start of the genome after some mutations."""
        genome = self.genome
        if not genome.start:
            return self.near(number, genome.draw(generator), generator)
        genes = genome.start
        for _ in range(generator.randint(0, _START_CHANGES) if self._known else 0):
            changed = genome.mutated(genes, generator)
            genes = changed if genome.is_valid(changed) else genes
        return self.near(number, genes, generator)

    def near(self, number: int, genes: Genes, generator: random.Random) -> Candidate | None:
        """The architecture of genes, or else of mutations of them; None if no new one was found.

        Raises:
            SettingsError: nothing that was tried keeps the budgets; names the smallest costs seen.
        """
        base, least, over = genes, math.inf, set[Genes]()
        for _ in range(_ROUNDS):
            if self.genome.is_valid(genes) and genes not in over:
                fitted, excess = self._fitted(genes, generator)
                description = self.genome.express(fitted)
                if excess > 1:
                    over.add(genes)
                elif description not in self._known:
                    self._known.add(description)
                    return Candidate(number, fitted, description, self._costs(fitted), len(over))
                if excess <= max(least, 1.0):  # walks on from what is known, or is less over the budget
                    base, least = fitted, excess
            if len(over) == TRIES:
                break
            genes = self.genome.mutated(base, generator)
        if not self._known and self.budgets:
            raise self._impossible(len(over))
        return None

    def _costs(self, genes: Genes) -> Costs:
        """Costs by name; empty where they cannot be counted."""
        try:
            return self.cost(self.genome.express(genes)) if self.cost is not None else {}
        except IntrainError:
            return {}

    def _excess(self, genes: Genes) -> float:
        """The largest share of a budget that an architecture takes; infinite where it cannot be counted."""
        if not self.budgets:
            return 0.0
        costs = self._costs(genes)
        if not costs:
            return math.inf
        for name in self.budgets:
            self._smallest[name] = min(costs[name], self._smallest.get(name, costs[name]))
        return ratio(costs, self.budgets)

    def _fitted(self, genes: Genes, generator: random.Random) -> tuple[Genes, float]:
        """Genes with scaled widths, and the share of a budget that they take."""
        if genes in self._over:
            return self._over[genes]
        excess = self._excess(genes)
        fitted = genes
        if self.genome.sizes and 0 < excess < math.inf:
            if excess > 1 or (self.fill and excess < FILLED):
                fitted, excess = self._scaled(genes, excess)
            if self.fill and excess < FILLED:
                fitted, excess = self._filled(fitted, excess, generator)
        if excess > 1:  # which no generator had a part in
            self._over[genes] = fitted, excess
        return fitted, excess

    def _scaled(self, genes: Genes, excess: float) -> tuple[Genes, float]:
        """All widths times one factor, the largest that keeps the budgets, by regula falsi in logarithms."""
        best, low, high, factor = (genes, excess), 0.0, math.inf, 1.0
        for step in range(_STEPS):
            low, high = (factor, high) if excess <= 1 else (low, factor)
            # Operations grow with the square of the widths, or with the width of what is depthwise.
            guess = factor * (0.5 * (1 + FILLED) / excess) ** 0.6
            if step > 2:  # some widths are at an end of their range: the others must make up for it
                guess = 4 * low if math.isinf(high) else (low + high) / 2
            factor = guess if low < guess < high else (low + high) / 2
            changed = self._times(genes, factor)
            excess = self._excess(changed)
            best = min(best, (changed, excess), key=_distance)
            if FILLED <= excess <= 1:
                break
        if best[1] > 1:
            smallest = self._times(genes, 0.0)
            best = min(best, (smallest, self._excess(smallest)), key=_distance)
        return best

    def _filled(self, genes: Genes, excess: float, generator: random.Random) -> tuple[Genes, float]:
        """Widths raised one by one, in a random order, as long as the budgets are kept."""
        places = generator.sample(self.genome.sizes, len(self.genome.sizes))
        for place in places * _PASSES:
            if excess >= FILLED:
                break
            if genes[place] + 1 < self.genome.alleles[place]:
                changed = (*genes[:place], genes[place] + 1, *genes[place + 1 :])
                share = self._excess(changed)
                if share <= 1:
                    genes, excess = changed, share
        return genes, excess

    def _times(self, genes: Genes, factor: float) -> Genes:
        changed = list(genes)
        for place in self.genome.sizes:
            width = max(round((genes[place] + 1) * factor), 1)
            changed[place] = min(width, self.genome.alleles[place]) - 1
        return tuple(changed)

    def _impossible(self, tried: int) -> SettingsError:
        said = ", ".join(
            f"{name} {least:,}, budget {self.budgets[name]:,}" for name, least in self._smallest.items()
        )
        return SettingsError(
            f"none of {tried} architectures keeps the budget; the smallest costs seen: "
            f"{said or 'none could be counted'}",
            hint="Raise --budget",
        )


def _distance(found: tuple[Genes, float]) -> float:
    """From the budget; what is over it is farther than all that is below."""
    excess = found[1]
    return 1 - excess if excess <= 1 else 1 + excess
