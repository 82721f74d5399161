"""NAS-Bench-Macro: eight blocks, each the identity or an inverted residual of one of two sizes."""

from __future__ import annotations

import random
from collections.abc import Mapping

import onnx

from intrain_onnx.bench.spaces.base import Genes, Genome, Space, bad, column
from intrain_onnx.bench.writer import Writer

STEM = 32
STAGES = (2, 3, 3)
HEAD = 1280
BLOCKS = {"1": (3, 3), "2": (5, 6)}
"""Kernel size and expansion of the inverted residuals, by digit."""
CHOICES = ("0", "1", "2")


def parse(description: str) -> str:
    """Validate the eight digits, one per block."""
    if len(description) != sum(STAGES) or not set(description) <= set(CHOICES):
        raise bad(description, "NAS-Bench-Macro", "it takes eight digits of 0, 1, 2")
    return description


def write_block(writer: Writer, choice: str, x: str, inputs: int, outputs: int, stride: int) -> str:
    """One block; if the shape changes, the identity becomes a 1x1 convolution and others have no shortcut."""
    changes = stride > 1 or inputs != outputs
    if choice == "0":
        return writer.convolution_norm(x, inputs, outputs, 1, stride) if changes else x
    kernel, expansion = BLOCKS[choice]
    hidden = inputs * expansion
    wide = writer.node("Relu", writer.convolution_norm(x, inputs, hidden, 1))
    deep = writer.node("Relu", writer.convolution_norm(wide, hidden, hidden, kernel, stride, groups=hidden))
    made = writer.convolution_norm(deep, hidden, outputs, 1)
    return made if changes else writer.node("Add", made, x)


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network of eight digits; the first block of a stage has stride 2 and doubles the channels."""
    choices, writer = iter(parse(description)), Writer(fold)
    classes, width = classes or SPACE.classes, STEM
    x = writer.node("Relu", writer.convolution_norm("image", 3, width, 3))
    for blocks in STAGES:
        x = write_block(writer, next(choices), x, width, 2 * width, 2)
        width *= 2
        for _ in range(blocks - 1):
            x = write_block(writer, next(choices), x, width, width, 1)
    x = writer.node("Relu", writer.convolution_norm(x, width, HEAD, 1))
    logits = writer.classifier(x, HEAD, classes)
    return writer.model(logits, name=SPACE.name, size=size or SPACE.size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The digits from the column ``arch``."""
    return parse(column(row, "arch"))


def sample(generator: random.Random) -> str:
    """Draw one of three blocks at each position."""
    return "".join(generator.choices(CHOICES, k=sum(STAGES)))


def express(genes: Genes) -> str:
    """The digits of the blocks."""
    return "".join(CHOICES[gene] for gene in genes)


SPACE = Space(
    name="macro",
    title="NAS-Bench-Macro",
    source="Su et al., Prioritized Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021",
    describe=describe,
    build=build,
    accuracies={"CIFAR-10": "mean_acc"},
    sample=sample,
    size=32,
    batch=16,
    classes=10,
    genome=Genome(alleles=(len(CHOICES),) * sum(STAGES), express=express),
)
