"""Runs a search: walks, scores what the log does not have yet, and writes each row before the next begins."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from intrain_onnx.bench.find_space import Found
from intrain_onnx.bench.spaces import Genome, Space
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.log import Log
from intrain_onnx.engine.outcomes import Engine
from intrain_onnx.engine.outcomes import Lost as LostProcess
from intrain_onnx.engine.retries import with_retries
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.limits import Limits
from intrain_onnx.rank import rows
from intrain_onnx.search import results
from intrain_onnx.search.candidates import Candidate, Candidates
from intrain_onnx.search.costs import Counter
from intrain_onnx.search.goals import Goals
from intrain_onnx.search.job import Chosen, HandOver, ScoreOne
from intrain_onnx.search.results import Logged
from intrain_onnx.search.rows import Evaluation, Lost, Made
from intrain_onnx.search.walk import Walk
from intrain_onnx.versions import version

if TYPE_CHECKING:
    from intrain_onnx.search.evolution import Evolution

Progress = Callable[[int, int], None]
BEST = "best"
"""Folder of what is handed over."""
_OURS = re.compile(r"[0-9]+\.(onnx|intrain\.json)")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is searched, and how.

    Attributes:
        found: the space.
        goals: objectives and budgets.
        config: settings of the scores.
        size: of the images that are scored, or number of tokens.
        counted_at: of the images that operations are counted at.
        population: of the evolution.
        seed: of everything that is random in it.
        limits: on what an architecture may take.
    """

    found: Found
    goals: Goals
    config: ScoreConfig
    size: int
    counted_at: int
    population: int
    seed: int
    limits: Limits = field(default_factory=Limits)

    @property
    def space(self) -> Space:
        """The space."""
        return self.found.space

    @property
    def genome(self) -> Genome:
        """That of the space.

        Raises:
            SettingsError: it has none.
        """
        if self.space.genome is None:
            raise SettingsError(
                f"space {self.space.name} has no genome, so it cannot be searched",
                hint="docs/add-a-space.md says how to write one",
            )
        return self.space.genome

    def job(self) -> ScoreOne:
        """What scores an architecture."""
        return ScoreOne(self.found.reference, self.size, self.config, self.limits)

    def settings(self) -> dict[str, Any]:
        """Everything that determines the way; the number of workers and of evaluations does not."""
        return {
            "tool": version("intrain-onnx"),
            "torch": version("torch"),
            "pymoo": version("pymoo"),
            "space": self.found.label,
            "size": self.size,
            "counted_at": self.counted_at,
            "objectives": [str(objective) for objective in self.goals.objectives],
            "budgets": dict(self.goals.budgets),
            "population": self.population,
            "seed": self.seed,
            "config": msgspec.to_builtins(self.config),
        }

    def evolution(self) -> Evolution:
        """A new population.

        Raises:
            SettingsError: pymoo is not installed.
        """
        try:
            from intrain_onnx.search.evolution import Evolution  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"a search needs {error.name}, which is not installed",
                hint="pip install 'intrain-onnx[search]'",
            ) from error
        return Evolution(self.genome, len(self.goals.objectives), self.population, self.seed)

    def candidates(self) -> Candidates:
        """Makes the architectures."""
        goals = self.goals
        cost = Counter(self.space, self.counted_at) if goals.counted else None
        return Candidates(self.genome, cost, goals.budgets, goals.fill)


@dataclass(slots=True)
class Ended:
    """How a search ended.

    Attributes:
        evaluations: in the order in which they were asked.
        exhausted: no architecture was left that had not been evaluated.
    """

    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    exhausted: bool = False

    def ordered(self) -> list[Evaluation]:
        """The evaluations."""
        return [self.evaluations[number] for number in sorted(self.evaluations)]


def run(
    plan: Plan,
    evaluations: int,
    folder: Path,
    engine: Engine,
    ended: Ended,
    *,
    resume: bool = False,
    progress: Progress = lambda done, total: None,
) -> None:
    """Search, and log what is scored.

    Args:
        plan: what is searched.
        evaluations: most architectures.
        folder: of the results; it exists.
        engine: scores the architectures.
        ended: gets each evaluation as it is known, so that an interrupted search has them too.
        resume: go on with the log of the folder: the same way, without scoring anything twice.
        progress: called with the number of architectures done, and of all.

    Raises:
        SettingsError: the log cannot be gone on with, its folder has files of others, pymoo is missing, or
            nothing keeps the budgets.
        LimitError: the log cannot be written.
    """
    walk = Walk(plan.evolution(), plan.candidates(), len(plan.goals.objectives), evaluations)
    first = None
    if not (folder / results.LOG).exists():
        _require_own(folder)
        first = walk.next()  # before there is a log: nothing may keep the budgets
    with results.opened(folder, plan.settings(), resume=resume) as log:
        logged = results.read(folder)
        walk.made = {e.number: _candidate(e) for e in logged.evaluations.values()}
        _Run(plan, walk, first, logged, log, engine, ended, progress).run()
    ended.exhausted = walk.exhausted


def _candidate(made: Evaluation) -> Candidate:
    return Candidate(made.number, made.genes, made.architecture, made.costs, made.rejected)


class _Run(Iterator[Candidate]):
    """An iterator of what is to be scored, which grows as values come."""

    def __init__(
        self,
        plan: Plan,
        walk: Walk,
        first: Candidate | None,
        logged: Logged,
        log: Log,
        engine: Engine,
        ended: Ended,
        progress: Progress,
    ) -> None:
        self.plan, self.logged, self.log, self.engine = plan, logged, log, engine
        self.ended, self.progress, self.walk, self.first = ended, progress, walk, first

    def run(self) -> None:
        """Score all that has no row."""
        self.progress(0, self.walk.most)
        outcomes = with_retries(
            self.engine,
            self.plan.job(),
            self,
            name=lambda candidate: candidate.architecture,
            lost_before=self.logged.losses,
            on_loss=self._lost,
        )
        with closing(outcomes):
            for outcome in outcomes:
                candidate, found = outcome.item, outcome.result
                if isinstance(found, LostProcess):
                    found = rows.of_loss(candidate.architecture, {}, found, None)
                made = Evaluation(
                    number=candidate.number,
                    genes=candidate.genes,
                    costs=candidate.costs,
                    rejected=candidate.rejected,
                    row=found,
                )
                self.log.append(results.line_of(made))
                self._tell(candidate, made)

    def __next__(self) -> Candidate:
        """The next one without a row; those that have one are told on the way."""
        while (candidate := self.first or self.walk.next()) is not None:
            self.first = None
            known = self.logged.evaluations.get(candidate.architecture)
            if known is None:
                return candidate
            self._tell(candidate, known)
        raise StopIteration

    def _tell(self, candidate: Candidate, made: Evaluation) -> None:
        self.walk.tell(candidate, made.losses(self.plan.goals.objectives))
        self.ended.evaluations[candidate.number] = made
        self.progress(len(self.ended.evaluations), self.walk.most)

    def _lost(self, candidate: Candidate, lost: LostProcess) -> None:
        entry = Lost(candidate.architecture, f"{lost.reason}: {lost.detail}")
        self.log.append(results.line_of(entry))


def _require_own(folder: Path) -> None:
    """Refuse a folder without a log whose files a search would replace."""
    place = folder / BEST
    if place.exists():
        raise SettingsError(f"{place} is there already", hint="Name another place with -o")


def hand_over(plan: Plan, picked: Sequence[Evaluation], folder: Path, engine: Engine) -> list[Made]:
    """Write the chosen architectures and their reports into a folder of their own, without those of before.

    Raises:
        OSError: it cannot be made, or not be emptied.
    """
    place = folder / BEST
    place.mkdir(exist_ok=True)
    for name in os.listdir(place):
        if _OURS.fullmatch(name):
            (place / name).unlink()
    width = len(str(len(picked)))
    items = [Chosen(e.architecture, f"{i:0{width}d}") for i, e in enumerate(picked, start=1)]
    job, made = HandOver(plan.job(), plan.counted_at, place), dict[int, Made]()
    with closing(engine.map(job, items)) as outcomes:
        for outcome in outcomes:
            found = outcome.result
            made[outcome.index] = Made(error=str(found.error())) if isinstance(found, LostProcess) else found
    return [made[index] for index in range(len(items))]
