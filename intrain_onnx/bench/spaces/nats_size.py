"""NATS-Bench size space: the best cell of NAS-Bench-201 with variable widths.

Five cells; the second and the fourth are stride-2 residual blocks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import onnx

from intrain_onnx.bench.spaces.base import Genes, Genome, Space, bad, column
from intrain_onnx.bench.spaces.nasbench201 import parse as parse_cell
from intrain_onnx.bench.spaces.nasbench201 import write_cell, write_reduction
from intrain_onnx.bench.writer import Writer

WIDTHS = range(8, 65, 8)
CELLS = 5
CELL = parse_cell(
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)


def parse(description: str) -> list[int]:
    """Parse widths such as ``8:16:24:32:40``."""
    parts = description.split(":")
    if len(parts) != CELLS or not all(part in map(str, WIDTHS) for part in parts):
        raise bad(description, "the NATS-Bench size space", "five of 8, 16, ... 64 are joined by colons")
    return [int(part) for part in parts]


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network with these five widths."""
    widths, writer = parse(description), Writer(fold)
    classes = classes or SPACE.classes
    before = widths[0]
    x = writer.convolution_norm("image", 3, before, 3)
    for index, width in enumerate(widths):
        if index % 2:
            x = write_reduction(writer, x, before, width)
        else:
            x = write_cell(writer, CELL, x, before, width)
        before = width
    logits = writer.classifier(writer.node("Relu", writer.norm(x, before)), before, classes)
    return writer.model(logits, name=SPACE.name, size=size or SPACE.size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The canonical widths from the column ``channels``."""
    return ":".join(map(str, parse(column(row, "channels"))))


def sample(generator: random.Random) -> str:
    """Draw one of eight widths for each cell."""
    return ":".join(str(generator.choice(WIDTHS)) for _ in range(CELLS))


def express(genes: Genes) -> str:
    """The widths of the cells."""
    return ":".join(str(WIDTHS[gene]) for gene in genes)


SPACE = Space(
    name="nats_size",
    title="NATS-Bench size space",
    source="Dong et al., NATS-Bench: Benchmarking NAS Algorithms for Topology and Size, TPAMI 2021",
    describe=describe,
    build=build,
    accuracies={
        "CIFAR-10": "cifar10_acc",
        "CIFAR-100": "cifar100_acc",
        "ImageNet16-120": "imagenet16_acc",
    },
    sample=sample,
    size=32,
    batch=16,
    classes=10,
    genome=Genome(alleles=(len(WIDTHS),) * CELLS, express=express, sizes=tuple(range(CELLS))),
)
