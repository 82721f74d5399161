"""The search spaces of the page of benchmarks: which rows are measured, and which were used to choose."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from intrain_onnx.bench import table
from intrain_onnx.bench.across import Column
from intrain_onnx.bench.records import Record
from intrain_onnx.bench.spaces import SPACES, Space
from intrain_onnx.bench.summary import MeasureRow
from intrain_onnx.bench.table import Condition, Entry, Row

SEED = 0
CHOOSING_SEED = 11
"""Of the samples that `volume` was chosen on."""


def drawn(count: int) -> Callable[[Sequence[Row]], Iterable[Row]]:
    """The rows that `width_depth` was chosen on, as they were drawn then."""
    return lambda rows: random.Random(1).sample(rows, count)


def shuffled(count: int) -> Callable[[Sequence[Row]], Iterable[Row]]:
    def first(rows: Sequence[Row]) -> Iterable[Row]:
        order = list(rows)
        random.Random(1).shuffle(order)
        return order[:count]

    return first


def nothing(rows: Sequence[Row]) -> Iterable[Row]:
    return ()


def below(column: str, most: float) -> Callable[[Row], bool]:
    """Whether a network is small enough to be measured in the time of the page."""
    return lambda row: float(row[column]) < most


@dataclass(frozen=True, kw_only=True)
class Study:
    """A space with its table, which rows are measured, and how.

    Attributes:
        space: name of the space.
        file: table in the folder of data, or a path in this repository.
        sample: how many are measured.
        chosen: how many rows `volume` was chosen on.
        used: rows that `width_depth` was chosen on.
        fresh: measure rows alone that neither was chosen on; too few are left where it is not set.
        where: rows that count.
        light: networks that are measured; None if all are.
        left_out: what ``light`` leaves out, in words.
        twins: column of classes of isomorphic networks, which are kept apart.
        proxies: measure the proxies too.
        protocols: that are measured.
    """

    space: str
    file: str
    sample: int
    chosen: int
    used: Callable[[Sequence[Row]], Iterable[Row]] = nothing
    fresh: bool = True
    where: str | None = None
    light: Callable[[Row], bool] | None = None
    left_out: str = ""
    twins: str | None = None
    proxies: bool = False
    protocols: tuple[str, ...] = ("architecture",)


BOTH = ("paper", "architecture")
STUDIES = (
    Study(
        space="nasbench201",
        file="nb201.csv.gz",
        sample=150,
        chosen=100,
        used=drawn(800),
        twins="rep_index",
        proxies=True,
        protocols=BOTH,
    ),
    Study(
        space="nasbench101",
        file="nb101.csv.gz",
        sample=100,
        chosen=80,
        used=drawn(300),
        where="source~gennas2500",
        protocols=BOTH,
    ),
    Study(
        space="nats_size",
        file="nats_sss_cifar10.csv.gz",
        sample=80,
        chosen=80,
        used=drawn(300),
        proxies=True,
        protocols=BOTH,
    ),
    Study(
        space="macro",
        file="nas_bench_macro_cifar10.csv.gz",
        sample=80,
        chosen=80,
        used=shuffled(160),
        proxies=True,
        protocols=BOTH,
    ),
    Study(space="transnas_macro", file="transnas_macro.csv.gz", sample=80, chosen=80),
    Study(space="nds_resnet", file="nds_resnet.csv.gz", sample=200, chosen=110, fresh=False),
    Study(
        space="torchvision",
        file="torchvision_v1.csv.gz",
        sample=100,
        chosen=100,
        fresh=False,
        light=below("num_params", 1.45e8),
        left_out="the four of 145 million parameters and more",
    ),
    Study(
        space="openlm",
        file="openlm_grid.csv.gz",
        sample=50,
        chosen=40,
        fresh=False,
        light=below("n", 6e7),
        left_out="those of 60 million parameters and more",
    ),
    Study(space="nas_bench_nlp", file="nas_bench_nlp_wikitext2.csv.gz", sample=159, chosen=100, fresh=False),
    Study(
        space="digits",
        file=str(Path(__file__).parent / "digits.csv"),
        sample=200,
        chosen=77,
        fresh=False,
        protocols=("checkpoint",),
    ),
)
COUNTED = {
    "nasbench201": 1.0,
    "nasbench101": 1.0,
    "nats_size": 1.0,
    "macro": 1.0,
    "transnas_macro": 1.0,
    "nds_resnet/ResNet": 0.5,
    "nds_resnet/ResNeXt": 0.5,
    "torchvision": 1.0,
    "openlm": 1.0,
}
"""Weights in the mean over the spaces; NAS-Bench-NLP and the digits are shown beside it."""

SPLIT = ("nds_resnet", "digits")
"""Spaces whose families are columns of their own."""

SETTINGS = ((4, 32), (16, 32), (16, 16), (16, 64))
"""Samples and image side of the study of settings, on the first architectures of NAS-Bench-201."""

OF_SETTINGS = 40


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

    @property
    def space(self) -> Space:
        return SPACES[self.study.space]

    def subset(self, kept: Callable[[Entry], bool]) -> Measured:
        pairs = [p for p in zip(self.entries, self.records, strict=True) if kept(p[0])]
        return replace(self, entries=[e for e, _ in pairs], records=[r for _, r in pairs])


def rows_of(study: Study, data: Path) -> list[Row]:
    """The rows of a table that are measured: where networks abound, those that no score was chosen on."""
    rows = table.read(data / study.file)
    if study.where:
        condition = Condition.parse(study.where)
        rows = [row for row in rows if condition(row)]
    if study.light is not None:
        rows = [row for row in rows if study.light(row)]
    if not study.fresh:
        return rows
    space = SPACES[study.space]
    entries = table.entries(rows, space, sample=study.chosen, seed=CHOOSING_SEED)
    taken = {space.describe(row) for row in study.used(rows)} | {entry.architecture for entry in entries}
    if study.twins is None:
        return [row for row in rows if space.describe(row) not in taken]
    classes = {row[study.twins] for row in rows if space.describe(row) in taken}
    return [row for row in rows if row[study.twins] not in classes]


def parts_of(measured: Measured) -> Iterator[tuple[str, Measured]]:
    """The space by its name, and each family as a part of it where families are shown apart."""
    name, family = measured.study.space, measured.space.family
    yield name, measured
    if name not in SPLIT or family is None:
        return
    for part in sorted({family(entry.architecture) for entry in measured.entries}):
        yield f"{name}/{part}", measured.subset(partial(_is_of, family, part))


def _is_of(family: Callable[[str], str], name: str, entry: Entry) -> bool:
    return family(entry.architecture) == name


def titles(columns: Sequence[Column]) -> list[str]:
    return [column.name.replace("/", ", ") for column in columns]
