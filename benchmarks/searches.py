"""Searches of spaces whose accuracies are known: what each score finds, by each way of walking.

    python benchmarks/searches.py DATA_DIR [-o FOLDER] [--seeds 20] [--write docs/search.md]
    python benchmarks/searches.py DATA_DIR --scores az_nas,vkdnw --write docs/search.md    # adds these rows

Every architecture of the tables (one of each class of cells that compute the same) is scored once, by
`bench`, which goes on where it stopped; the searches then look scores up. An architecture without an
accuracy is invalid: it costs no evaluation. DATA_DIR holds the tables of accuracies, which are not part of
the repository.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import random
import re
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from intrain_onnx.bench import records, run, table
from intrain_onnx.bench.find_space import find
from intrain_onnx.bench.spaces import SPACES, Genome
from intrain_onnx.bench.spaces.base import Genes
from intrain_onnx.bench.spaces.nasbench201 import parse
from intrain_onnx.errors import SettingsError
from intrain_onnx.proxies.aggregate import AGGREGATES, aggregate
from intrain_onnx.search.candidates import Candidates
from intrain_onnx.search.evolution import Evolution
from intrain_onnx.search.goals import goals
from intrain_onnx.search.walk import Values, Walk, walked

EVALUATIONS = 300
SHOWN = (50, 100, 300)
POPULATION = 20
"""Of the genetic algorithm: the default of `search`."""

AGED, TOURNAMENT = 50, 10
"""Population and sample of regularised evolution (Real et al., AAAI 2019), scaled to 300 evaluations."""

BEGIN, END = "<!-- searches: begin -->", "<!-- searches: end -->"

Score = str
Worth = Callable[[Sequence[str]], Sequence[float]]
"""Of all architectures evaluated so far, in their order: higher is better."""

Search = Callable[["Known", Genome, Worth, random.Random], list[str]]
"""The architectures in the order in which they were evaluated."""

SCORES: Mapping[str, str] = {
    "volume": "`volume`",
    "intrain": "InTrain",
    "width_depth": "`width_depth`",
    "parameters": "#Params",
    "macs": "#MACs",
    "az_nas": "AZ-NAS's aggregate",
    "vkdnw": "VKDNW's aggregate",
}


@dataclass(frozen=True)
class Table:
    """A space with its accuracies.

    Attributes:
        space: its name.
        title: for the page.
        file: of the accuracies.
        column: of the accuracy.
        key: of a description, equal for isomorphic networks.
    """

    space: str
    title: str
    file: str
    column: str
    key: Callable[[str], str]


def isomorphic(description: str) -> str:
    """A key that cells of NAS-Bench-201 share where they compute the same function of their input.

    A node is the sum of what its edges bring: ``none`` brings nothing, ``skip_connect`` the terms of what it
    skips from, another operation one term, or nothing where there is nothing to work on. Sums are sorted.
    """
    nodes: list[tuple[str, ...]] = [("x",)]
    for edges in parse(description):
        terms: list[str] = []
        for source, name in enumerate(edges):
            read = nodes[source]
            if name == "skip_connect":
                terms += read
            elif name != "none" and read:
                terms.append(f"{name}({'+'.join(read)})")
        nodes.append(tuple(sorted(terms)))
    return "+".join(nodes[-1])


TABLES = (
    Table("nasbench201", "NAS-Bench-201, CIFAR-10", "nb201.csv.gz", "cifar10_test", isomorphic),
    Table("macro", "NAS-Bench-Macro, CIFAR-10", "nas_bench_macro_cifar10.csv.gz", "mean_acc", str),
)


@dataclass
class Known:
    """Accuracies and values of the architectures of a table, by key.

    Attributes:
        accuracy: of the test set, per cent.
        values: scores, baselines and parts of proxies.
        best: accuracies, best first.
    """

    accuracy: Mapping[str, float]
    values: Mapping[str, Mapping[str, float | None]]
    best: Sequence[float] = field(init=False)

    def __post_init__(self) -> None:
        self.best = sorted(self.accuracy.values(), reverse=True)

    def rank(self, accuracy: float) -> int:
        """Place of an accuracy in the table, 1 for the best."""
        return 1 + sum(other > accuracy for other in self.best)


def rows_by_key(made: Table, data: Path) -> dict[str, table.Row]:
    """One row for each class of isomorphic architectures; their accuracies are averaged."""
    space, found = SPACES[made.space], dict[str, list[table.Row]]()
    for row in table.read(data / made.file):
        found.setdefault(made.key(space.describe(row)), []).append(row)
    mean = {key: statistics.fmean(float(r[made.column]) for r in rows) for key, rows in found.items()}
    return {key: {**rows[0], made.column: repr(mean[key])} for key, rows in found.items()}


def measured(made: Table, data: Path, folder: Path, workers: int, scores: Sequence[Score]) -> Known:
    """All architectures of the table with the scores that are wanted; goes on with what is in the folder."""
    space, rows = SPACES[made.space], rows_by_key(made, data)
    entries = table.entries(list(rows.values()), space)
    values: dict[str, dict[str, float | None]] = {key: {} for key in rows}
    runs: list[tuple[str, tuple[str, ...]]] = [("architecture", ())] if {*scores} - {*AGGREGATES} else []
    runs += [("paper", goals(AGGREGATES[s], [], {}).proxies) for s in scores if s in AGGREGATES]
    for protocol, wanted in runs:
        plan = run.Plan.of(find(made.space), (protocol,), proxies=wanted, workers=workers, seed=0, seeds=1)
        path = folder / f"{'_'.join((space.name, protocol, *wanted))}.jsonl"
        for record in run.run(plan, entries, path, resume=True, progress=counted):
            values[made.key(record.architecture)] |= values_of(record, protocol)
    return Known({key: float(row[made.column]) for key, row in rows.items()}, values)


def counted(done: int, count: int) -> None:
    if done % 100 == 0 or done == count:
        print(f"{done} of {count}", file=sys.stderr, flush=True)


def values_of(record: records.Record, protocol: str) -> dict[str, float | None]:
    """Scores and baselines under `architecture`, parts of proxies under `paper`."""
    found = record.measured(protocol)
    if found is None:
        return {}
    if protocol == "paper":
        return {part: v for proxy in found.proxies.values() for part, v in proxy.values.items()}
    return {**found.baselines, **found.scores}


def worth(known: Known, score: Score) -> Worth:
    """The value of each architecture; of an aggregate, its rank among all that were evaluated so far."""

    def of(evaluated: Sequence[str]) -> Sequence[float]:
        rows = [known.values[key] for key in evaluated]
        found = aggregate(score, rows) if score in AGGREGATES else [row.get(score) for row in rows]
        return [-math.inf if v is None else v for v in found]

    return of


def restricted(made: Table, genome: Genome, known: Known) -> Genome:
    """The genome whose architectures are those of the table, one of each class."""

    key_of = functools.cache(lambda genes: made.key(genome.express(genes)))

    def express(genes: Genes) -> str:
        key = key_of(genes)
        if key not in known.accuracy:
            raise SettingsError(f"{key!r} has no accuracy")
        return key

    return Genome(alleles=genome.alleles, express=express)


def at_random(known: Known, genome: Genome, value: Worth, rng: random.Random) -> list[str]:
    """Architectures of the table in a random order."""
    return rng.sample(sorted(known.accuracy), EVALUATIONS)


def local(known: Known, genome: Genome, value: Worth, rng: random.Random) -> list[str]:
    """Local search: neighbours by one gene, in a random order, up to the first that is better, and on.

    Where none is better it begins anew. What was evaluated before costs nothing.
    """
    found: dict[str, None] = {}
    while len(found) < EVALUATIONS:
        here = genome.draw(rng)
        found.setdefault(genome.express(here))
        better = True
        while better and len(found) < EVALUATIONS:
            better = False
            for near in neighbours(genome, here, rng):
                found.setdefault(genome.express(near))
                order = list(found)
                values = dict(zip(order, value(order), strict=True))
                if values[genome.express(near)] > values[genome.express(here)]:
                    here, better = near, True
                    break
                if len(found) == EVALUATIONS:
                    break
    return list(found)


def neighbours(genome: Genome, genes: Genes, rng: random.Random) -> Iterator[Genes]:
    """All valid genes that differ in one, in a random order."""
    changes = [(i, a) for i, n in enumerate(genome.alleles) for a in range(n) if a != genes[i]]
    for place, allele in rng.sample(changes, len(changes)):
        near = (*genes[:place], allele, *genes[place + 1 :])
        if genome.is_valid(near):
            yield near


def regularised(known: Known, genome: Genome, value: Worth, rng: random.Random) -> list[str]:
    """Regularised evolution: the best of a sample has a child, which takes the place of the oldest.

    A child that was evaluated before costs nothing; after so many in a row as live, one is drawn.
    """
    found: dict[str, None] = {}
    population: deque[Genes] = deque(maxlen=AGED)
    idle = 0
    while len(found) < EVALUATIONS:
        if len(population) < AGED or idle >= AGED:
            genes = genome.draw(rng)
        else:
            order = list(found)
            values = dict(zip(order, value(order), strict=True))
            sample = rng.sample(list(population), TOURNAMENT)
            genes = child(genome, max(sample, key=lambda g: values[genome.express(g)]), rng)
        population.append(genes)
        idle = 0 if genome.express(genes) not in found else idle + 1
        found.setdefault(genome.express(genes))
    return list(found)


def child(genome: Genome, parent: Genes, rng: random.Random) -> Genes:
    """A valid mutation of genes."""
    while True:
        genes = genome.mutated(parent, rng)
        if genome.is_valid(genes):
            return genes


def evolved(known: Known, genome: Genome, value: Worth, rng: random.Random) -> list[str]:
    """The engine of `search`; an aggregate ranks survivors and children anew in each generation."""
    evolution = Anew(genome, rng.randrange(2**31), value)
    walk = Walk(evolution, Candidates(genome), objectives=1, most=EVALUATIONS)
    walked(walk, evolution.note)
    return evolution.evaluated


class Anew(Evolution):
    """An evolution whose values are those of all that was evaluated so far, as aggregates are meant."""

    def __init__(self, genome: Genome, seed: int, value: Worth) -> None:
        super().__init__(genome, objectives=1, population=POPULATION, seed=seed)
        self.evaluated: list[str] = []
        self._genome, self._value = genome, value

    def note(self, candidate: object) -> Values:
        """Take an architecture as evaluated; its value follows when its generation ends."""
        self.evaluated.append(candidate.architecture)  # type: ignore[attr-defined]
        return [0.0]

    def tell(self, children: Sequence[Genes], values: Sequence[Sequence[float]]) -> None:
        """Give survivors and children the values that they have now."""
        now = dict(zip(self.evaluated, self._value(self.evaluated), strict=True))
        least = min((v for v in now.values() if math.isfinite(v)), default=0.0) - 1.0

        def cost(genes: Genes) -> list[float]:
            v = now[self._genome.express(genes)]
            return [-(v if math.isfinite(v) else least)]

        self.revalue(cost)
        super().tell(children, [cost(genes) for genes in children])


WAYS: Mapping[str, Search] = {
    "at random": at_random,
    "local search": local,
    "regularised evolution": regularised,
    "`search`": evolved,
}


@dataclass(frozen=True)
class Found:
    """What one search chose: the architecture of the highest score among the first so many."""

    accuracy: Mapping[int, float]
    rank: int


def chosen(known: Known, order: Sequence[str], value: Worth) -> Found:
    """Accuracies of what is best by the score after so many evaluations, or all if there were fewer."""
    found = {}
    for count in SHOWN:
        values = value(order[:count])
        found[count] = known.accuracy[order[max(range(len(values)), key=values.__getitem__)]]
    return Found(found, known.rank(found[EVALUATIONS]))


def searched(
    made: Table, known: Known, scores: Sequence[Score], seeds: int
) -> dict[tuple[Score, str], list[Found]]:
    """Every score by every way, over the seeds."""
    genome = SPACES[made.space].genome
    assert genome is not None
    inner, results = restricted(made, genome, known), {}
    for score, (way, search) in itertools.product(scores, WAYS.items()):
        value = worth(known, score)
        orders = (search(known, inner, value, random.Random(seed)) for seed in range(seeds))
        results[score, way] = [chosen(known, order, value) for order in orders]
    return results


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t; a point where all values are equal."""
    mean = statistics.fmean(values)
    if len(set(values)) == 1:
        return mean, mean, mean
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def cell(values: Sequence[float], digits: int = 2) -> str:
    mean, low, high = interval(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def section(made: Table, known: Known, results: Mapping[tuple[Score, str], Sequence[Found]]) -> str:
    """The table of a space, and the differences that were asked for."""
    accuracies = np.array(list(known.accuracy.values()))
    columns = " | ".join(f"accuracy after {n}" for n in SHOWN)
    lines = [
        f"### {made.title}",
        "",
        f"{len(accuracies):,} classes have accuracies from {accuracies.min():.2f} to {accuracies.max():.2f}; "
        f"one chosen at random has {accuracies.mean():.2f} in the mean.",
        "",
        f"| score | way | {columns} | regret after 300 | place |",
        "|---" * (len(SHOWN) + 4) + "|",
    ]
    lines += rows_of(known, results).values()
    return "\n".join([*lines, "", *differences(known, results), ""])


def rows_of(known: Known, results: Mapping[tuple[Score, str], Sequence[Found]]) -> dict[str, str]:
    """The row of each score and way, by its first two cells."""
    rows = {}
    for (score, way), found in results.items():
        shown = " | ".join(cell([f.accuracy[n] for f in found]) for n in SHOWN)
        regret = cell([max(known.accuracy.values()) - f.accuracy[EVALUATIONS] for f in found])
        place = statistics.median(f.rank for f in found)
        head = f"| {SCORES[score]} | {way} |"
        rows[head] = f"{head} {shown} | {regret} | {place:g} |"
    return rows


def with_rows(page: str, title: str, rows: Mapping[str, str]) -> str:
    """The page with rows in a section's table: in place of those of the same score and way, or at its end."""
    before, mark, rest = page.partition(f"### {title}\n")
    lines = rest.splitlines()
    ends = [i for i, line in enumerate(lines) if line.startswith("|") and not lines[i + 1].startswith("|")]
    if not mark or not ends:
        raise SettingsError(f"the page has no table of {title}")
    kept = [line for line in lines[: ends[0] + 1] if not line.startswith(tuple(rows))]
    return "\n".join([before + mark.rstrip("\n"), *kept, *rows.values(), *lines[ends[0] + 1 :]]) + "\n"


def differences(known: Known, results: Mapping[tuple[Score, str], Sequence[Found]]) -> list[str]:
    """Of `search` with `volume` after 300 evaluations: over chance, counting, and random search with it.

    None unless all of these were searched.
    """
    if not {"volume", "macs", "parameters"} <= {score for score, _ in results}:
        return []
    ours = [f.accuracy[EVALUATIONS] for f in results["volume", "`search`"]]
    mean = statistics.fmean(known.accuracy.values())
    pairs = {"an architecture at random": [mean] * len(ours)}
    for score in ("macs", "parameters"):
        pairs[f"`search` by {SCORES[score]}"] = [f.accuracy[EVALUATIONS] for f in results[score, "`search`"]]
    pairs["random search by `volume`"] = [f.accuracy[EVALUATIONS] for f in results["volume", "at random"]]
    return [
        f"- `search` by `volume` over {name}: {cell([a - b for a, b in zip(ours, others, strict=True)], 3)}"
        for name, others in pairs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("searches.bench"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=20)
    plain = [score for score in SCORES if score not in AGGREGATES]
    parser.add_argument("--scores", default=",".join(plain), help=f"Of {', '.join(SCORES)}.")
    parser.add_argument("--write", type=Path, help="The page: rows of other scores stay as they are.")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    scores = args.scores.split(",")
    sections = []
    page = args.write.read_text(encoding="utf-8") if args.write else ""
    for made in TABLES:
        known = measured(made, args.data, args.output, args.workers, scores)
        results = searched(made, known, scores, args.seeds)
        sections.append(section(made, known, results))
        if args.write and not {*plain} <= {*scores}:
            page = with_rows(page, made.title, rows_of(known, results))
    text = f"{args.seeds} seeds, {EVALUATIONS} evaluations; means with 95 % intervals.\n\n" + "\n".join(
        sections
    )
    if args.write:
        if {*plain} <= {*scores}:
            page = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.S)
        args.write.write_text(page, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
