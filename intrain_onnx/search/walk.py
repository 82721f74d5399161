"""The walk through a space: which architecture is next, in whatever order evaluations end."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from intrain_onnx.bench.spaces.base import Genes
from intrain_onnx.search.candidates import Candidate, Candidates

if TYPE_CHECKING:
    from intrain_onnx.search.evolution import Evolution

Values = Sequence[float | None]
"""Of the objectives, of which less is better; None where an architecture has none."""


class Walk:
    """Gives candidates one at a time; a generation ends when all of its candidates have values.

    They are told to the evolution in the order in which they were asked, so that the way does not depend on
    how many are evaluated at a time. What has no value counts as the worst that was seen.

    Args:
        evolution: of the genes.
        candidates: makes architectures of them.
        objectives: number of values.
        most: evaluations.

    Attributes:
        made: candidates by number that were made before, on the same way, and are taken as they are.
    """

    def __init__(self, evolution: Evolution, candidates: Candidates, objectives: int, most: int) -> None:
        self._evolution, self._candidates, self.most = evolution, candidates, most
        self._worst = [-math.inf] * objectives
        self._waiting: deque[tuple[Genes, random.Random]] = deque()
        self._generation: list[Candidate] = []
        self._values: dict[int, Values] = {}
        self._begun = self._ended = False
        self._asked = self._children = 0
        self.made: Mapping[int, Candidate] = {}

    @property
    def exhausted(self) -> bool:
        """Whether it ended because no new architecture was found."""
        return self._ended

    def next(self) -> Candidate | None:
        """The next candidate; None while values are waited for, and at the end.

        Raises:
            SettingsError: nothing keeps the budgets.
        """
        if self._asked == self.most or self._ended:
            return None
        if not self._waiting:
            if len(self._values) < len(self._generation):
                return None
            self._turn()
        made = self._child(*self._waiting.popleft())
        if made is None:
            self._waiting.clear()
            self._ended = not self._generation
            return self.next()
        self._generation.append(made)
        self._asked += 1
        return made

    def _child(self, genes: Genes, generator: random.Random) -> Candidate | None:
        number, self._children = self._children, self._children + 1
        if number in self.made:
            self._candidates.remember(self.made[number])
            return self.made[number]
        if self._begun:
            return self._candidates.near(number, genes, generator)
        return self._candidates.first(number, generator)

    def tell(self, candidate: Candidate, values: Values) -> None:
        """The values of a candidate, in whatever order candidates end."""
        self._values[candidate.number] = values

    def _turn(self) -> None:
        """End a generation and ask for the next."""
        if self._generation:
            self._evolution.tell([c.genes for c in self._generation], self._told())
            self._begun = True
        self._generation, self._values = [], {}
        self._waiting.extend(self._evolution.ask())

    def _told(self) -> list[list[float]]:
        rows = [self._values[candidate.number] for candidate in self._generation]
        for row in rows:
            known = [-math.inf if v is None else v for v in row]
            self._worst = [max(pair) for pair in zip(self._worst, known, strict=True)]
        worst = [0.0 if math.isinf(w) else w + abs(w) + 1 for w in self._worst]
        return [worst if any(v is None for v in row) else [v for v in row if v is not None] for row in rows]


def walked(walk: Walk, evaluate: Callable[[Candidate], Values]) -> list[tuple[Candidate, Values]]:
    """Walk to the end, one evaluation after the other: of a table of stored values, for instance."""
    found = []
    while (candidate := walk.next()) is not None:
        values = evaluate(candidate)
        found.append((candidate, values))
        walk.tell(candidate, values)
    return found
