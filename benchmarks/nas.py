"""Every score and every proxy on every search space that has accuracies: one run, one page.

    python benchmarks/nas.py DATA_DIR [-o nas.bench] [--workers 2] [--write docs/benchmarks.md]

DATA_DIR holds the tables of accuracies (see `STUDIES` for their names and columns), which are not part of the
repository: some have no licence. Rows that the variants were chosen on are left out. Results are stored as
they come, so a run that was cut off goes on when it is started again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import msgspec

from intrain_onnx.bench import run, summary, table
from intrain_onnx.bench.records import Record
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.bench.summary import MeasureRow, Summary
from intrain_onnx.bench.table import Condition, Entry, Row
from intrain_onnx.proxy_table import PROXIES
from intrain_onnx.report.numbers import decimals, with_interval

SEED = 0
PROTOCOLS = ("paper", "architecture")


def drawn(count: int) -> Callable[[Sequence[Row]], Iterable[Row]]:
    """The rows that the variants were chosen on, as they were drawn then."""
    return lambda rows: random.Random(1).sample(rows, count)


def shuffled(count: int) -> Callable[[Sequence[Row]], Iterable[Row]]:
    def first(rows: Sequence[Row]) -> Iterable[Row]:
        order = list(rows)
        random.Random(1).shuffle(order)
        return order[:count]

    return first


@dataclass(frozen=True)
class Study:
    """A space, its table, the rows that count, those that were used to choose, and how many are measured."""

    space: str
    file: str
    sample: int
    used: Callable[[Sequence[Row]], Iterable[Row]]
    where: str | None = None
    subset: str | None = None


STUDIES = (
    Study("nasbench201", "nb201.csv.gz", 500, drawn(800), subset="reachable_only=1"),
    Study("nats_size", "nats_sss_cifar10.csv.gz", 300, drawn(300)),
    Study("macro", "nas_bench_macro_cifar10.csv.gz", 300, shuffled(160)),
    Study("nasbench101", "nb101.csv.gz", 300, drawn(300), where="source~gennas2500"),
)
SETTINGS = ((4, 32), (8, 32), (16, 32), (64, 32), (16, 16), (16, 64))
"""Samples and image side of the study of settings, on the first architectures of NAS-Bench-201."""

OF_SETTINGS = 80

HEADLINE = (
    ("paper", "intrain", "InTrain, `paper`, BatchNorm kept"),
    ("architecture", "intrain", "InTrain, `architecture`, BatchNorm folded"),
    ("architecture", "width_depth", "`width_depth`, BatchNorm folded"),
    ("aggregate", "VKDNW aggregate", "VKDNW, aggregate of five proxies"),
    ("proxy", "ZiCo", "ZiCo"),
    ("proxy", "SynFlow", "SynFlow"),
    ("baseline", "layers", "layer count"),
    ("baseline", "#Params", "#Params"),
)
"""Group, name and label of the measures that the README shows."""


@dataclass(frozen=True)
class SettingsRow:
    """Samples, image side, and how the measures rank with them."""

    batch: int
    size: int
    measures: Sequence[MeasureRow]


@dataclass(frozen=True)
class Measured:
    """What was measured of one space."""

    study: Study
    rows: list[Row]
    entries: list[Entry]
    records: list[Record]

    def subset(self, condition: Condition) -> tuple[list[Entry], list[Record]]:
        space = SPACES[self.study.space]
        kept = {space.describe(row) for row in self.rows if condition(row)}
        pairs = [p for p in zip(self.entries, self.records, strict=True) if p[0].architecture in kept]
        return [e for e, _ in pairs], [r for _, r in pairs]


def fresh_rows(study: Study, data: Path) -> list[Row]:
    """The rows of a table that no variant was chosen on."""
    rows = table.read(data / study.file)
    if study.where:
        condition = Condition.parse(study.where)
        rows = [row for row in rows if condition(row)]
    space = SPACES[study.space]
    used = {space.describe(row) for row in study.used(rows)}
    return [row for row in rows if space.describe(row) not in used]


def plan(study: Study, workers: int, *, proxies: tuple[str, ...] = (), **settings: Any) -> run.Plan:
    fixed = {"seed": SEED, "seeds": 1, "device": "cpu", **settings}
    return run.Plan.of(SPACES[study.space], PROTOCOLS, proxies=proxies, workers=workers, **fixed)


def measure(study: Study, data: Path, folder: Path, workers: int) -> Measured:
    space = SPACES[study.space]
    rows = fresh_rows(study, data)
    entries = table.entries(rows, space, sample=study.sample, seed=SEED)
    made = plan(study, workers, proxies=tuple(PROXIES))
    path = folder / f"{space.name}.jsonl"
    started = time.perf_counter()
    records = run.run(made, entries, path, resume=True, progress=counted(space.title))
    print(f"\n{space.title}: {time.perf_counter() - started:.0f} s in this run", file=sys.stderr)
    return Measured(study, rows, entries, records)


def counted(what: str) -> Callable[[int, int], None]:
    return lambda done, total: print(f"\r{what}: {done} of {total}  ", end="", file=sys.stderr, flush=True)


def settings_study(data: Path, folder: Path, workers: int) -> list[SettingsRow]:
    """Tau of the scores on the same architectures with other numbers and sizes of images."""
    study = STUDIES[0]
    entries = table.entries(fresh_rows(study, data), SPACES[study.space], sample=OF_SETTINGS, seed=SEED)
    rows = []
    for batch, size in SETTINGS:
        made = plan(study, workers, batch=batch, size=size)
        path = folder / f"settings_{batch}x{size}.jsonl"
        records = run.run(made, entries, path, resume=True, progress=counted(f"{batch} x {size}"))
        found = summary.summarise(entries, records, seed=SEED, rounds=0)
        rows.append(SettingsRow(batch, size, found.measures))
    return rows


def page(found: Sequence[tuple[Measured, Summary]], subset: Summary, settings: Sequence[SettingsRow]) -> str:
    text = (Path(__file__).parent / "nas_page.md").read_text(encoding="utf-8")
    parts = {
        "headline": "\n".join(headline(found)),
        "taus": "\n".join(taus(found)),
        "samples": "\n".join(samples(found)),
        "subset": "\n".join(single(subset)),
        "ablation": "\n".join(ablation(found)),
        "settings": "\n".join(settings_table(settings)),
        "details": "\n".join(details(found)),
    }
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def columns(found: Sequence[tuple[Measured, Summary]]) -> list[tuple[int, str, str]]:
    """Each data set of each space: index of the space, data set, heading."""
    return [
        (index, dataset, f"{SPACES[m.study.space].title} {dataset}")
        for index, (m, result) in enumerate(found)
        for dataset in result.measures[0].results
    ]


def taus(found: Sequence[tuple[Measured, Summary]]) -> Iterable[str]:
    heads = columns(found)
    by_name = [{(r.group, r.name): r for r in result.measures} for _, result in found]
    yield f"| Kendall tau (95 % interval) | {' | '.join(head for *_, head in heads)} | s |"
    yield f"|---|{'---|' * (len(heads) + 1)}"
    for (group, name), first in by_name[0].items():
        cells = []
        for index, dataset, _ in heads:
            row = by_name[index].get((group, name))
            cells.append(with_interval(*astuple(row.results[dataset].tau)) if row else "")
        seconds = "" if first.seconds is None else f"{first.seconds:.2f}"
        yield f"| {group}: {name} | {' | '.join(cells)} | {seconds} |"


def headline(found: Sequence[tuple[Measured, Summary]]) -> Iterable[str]:
    """The few rows that the README shows too."""
    heads = columns(found)
    yield f"| Kendall tau | {' | '.join(head for *_, head in heads)} |"
    yield f"|---|{'---|' * len(heads)}"
    for group, name, label in HEADLINE:
        rows = [next(r for r in f.measures if (r.group, r.name) == (group, name)) for _, f in found]
        cells = (decimals(rows[index].results[dataset].tau.value) for index, dataset, _ in heads)
        yield f"| {label} | {' | '.join(cells)} |"


def samples(found: Sequence[tuple[Measured, Summary]]) -> Iterable[str]:
    for measured, result in found:
        space = SPACES[measured.study.space]
        where = f", rows with `{measured.study.where}`" if measured.study.where else ""
        yield (
            f"- {space.title}: {result.architectures} architectures{where}, {space.batch} images of "
            f"{space.size}x{space.size}, {len(result.failures)} failures."
        )


def single(result: Summary) -> Iterable[str]:
    heads = list(result.measures[0].results)
    yield f"| Kendall tau (95 % interval), {result.architectures} architectures | {' | '.join(heads)} |"
    yield f"|---|{'---|' * len(heads)}"
    for row in result.measures:
        cells = (with_interval(*astuple(row.results[head].tau)) for head in heads)
        yield f"| {row.group}: {row.name} | {' | '.join(cells)} |"


def ablation(found: Sequence[tuple[Measured, Summary]]) -> Iterable[str]:
    heads = columns(found)
    for protocol in PROTOCOLS:
        yield f"\n**`{protocol}`**\n"
        yield f"| axis | choice | {' | '.join(head for *_, head in heads)} |"
        yield f"|---|---|{'---|' * len(heads)}"
        tables = [result.ablation[protocol] for _, result in found]
        for place, first in enumerate(tables[0]):
            cells = (decimals(tables[index][place].tau[dataset]) for index, dataset, _ in heads)
            yield f"| {first.axis} | {first.choice} | {' | '.join(cells)} |"


def settings_table(rows: Sequence[SettingsRow]) -> Iterable[str]:
    scores = [(r.group, r.name) for r in rows[0].measures if r.group in PROTOCOLS]
    yield f"| images | {' | '.join(f'{group}: {name}' for group, name in scores)} | seconds, architecture |"
    yield f"|---|{'---|' * (len(scores) + 1)}"
    for row in rows:
        by_name = {(r.group, r.name): r for r in row.measures}
        cells = (decimals(by_name[key].results["CIFAR-10"].tau.value) for key in scores)
        seconds = by_name["architecture", "intrain"].seconds
        yield f"| {row.batch} of {row.size}x{row.size} | {' | '.join(cells)} | {seconds:.2f} |"


def details(found: Sequence[tuple[Measured, Summary]]) -> Iterable[str]:
    for measured, result in found:
        text = summary.markdown(
            msgspec.structs.replace(result, ablation={}), SPACES[measured.study.space].title, ""
        )
        yield text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("nas.bench"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="write the page here")
    parser.add_argument("--spaces", nargs="*", help="these alone")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = [s for s in STUDIES if not options.spaces or s.space in options.spaces]
    measured = [measure(study, options.data, options.output, options.workers) for study in wanted]
    found = [
        (m, summary.summarise(m.entries, m.records, family=SPACES[m.study.space].family, seed=SEED))
        for m in measured
    ]
    for m, result in found:
        (options.output / f"{m.study.space}.json").write_text(
            json.dumps(msgspec.to_builtins(result), indent=1) + "\n"
        )
    if options.write:
        settings = settings_study(options.data, options.output, options.workers)
        subset = summary.summarise(*measured[0].subset(Condition.parse(STUDIES[0].subset or "")), seed=SEED)
        options.write.write_text(page(found, subset, settings), encoding="utf-8")


if __name__ == "__main__":
    main()
