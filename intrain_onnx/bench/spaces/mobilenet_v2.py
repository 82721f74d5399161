"""The MobileNetV2 space: stages of inverted residuals that differ in kernel, expansion, width and depth.

Descriptions read ``32 k3e1c16n1s1 k5e6c24n2s2 1280``: the width of the stem, the stages (kernel, expansion,
channels, number of blocks, stride of the first one), the width of the head.

A stage with a bottleneck, ``k3e6b8c32n1s2``, is one of the super-blocks that searches under a budget walk
(ZenNAS, ZiCo, AZ-NAS): n pairs of inverted residuals, to the bottleneck and from it, each with a shortcut,
by a 1x1 convolution where the shape changes, and a ReLU behind the sum. The genome has these alone: a stem,
four of them of stride 2, at most 14 pairs, and a head of 2048.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from intrain_onnx.bench.spaces.base import Genes, Genome, Space, bad, column, is_count
from intrain_onnx.bench.writer import Writer

KERNELS = (3, 5, 7)
EXPANSIONS = (1, 2, 4, 6)
WIDTHS = (16, 24, 32, 64, 96, 160, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
STAGE = re.compile(r"k([357])e([1246])(?:b([1-9]\d{0,3}))?c([1-9]\d{0,3})n([1-9]\d?)s([12])")

HEAD = 2048
STEP = 8
"""Widths of a search are multiples of it."""
WIDEST = 1024
SUPER_BLOCKS = 4
MOST_PAIRS = 10
MOST_PAIRS_IN_ALL = 14
FACTORS = (2.5, 2.0, 1.5, 1.25, 1.0, 1 / 1.25, 1 / 1.5, 1 / 2.0, 1 / 2.5)
"""Of a width, in a mutation."""
SHIFTS = (-2, -1, 0, 1, 2)
"""Of a number of pairs."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of equal blocks, or pairs of them where it has a bottleneck; the first one has the stride."""

    kernel: int
    expansion: int
    bottleneck: int
    channels: int
    blocks: int
    stride: int

    def __str__(self) -> str:
        bottleneck = f"b{self.bottleneck}" if self.bottleneck else ""
        return f"k{self.kernel}e{self.expansion}{bottleneck}c{self.channels}n{self.blocks}s{self.stride}"


@dataclass(frozen=True, slots=True)
class Architecture:
    """Widths of the stem and the head, and the stages between them."""

    stem: int
    stages: Sequence[Stage]
    head: int

    def __str__(self) -> str:
        return " ".join(map(str, (self.stem, *self.stages, self.head)))


def parse(description: str) -> Architecture:
    """Parse a description."""
    stem, *parts, head = description.split() if len(description.split()) > 2 else ["", "", ""]
    matches = [STAGE.fullmatch(part) for part in parts]
    stages = [Stage(*(int(group or 0) for group in match.groups())) for match in matches if match]
    if len(stages) < len(parts):
        raise bad(description, "the MobileNetV2 space", "it reads 32 k3e1c16n1s1 k5e6c24n2s2 1280")
    if not all(width.isascii() and width.isdigit() and is_count(int(width), 9999) for width in (stem, head)):
        raise bad(
            description, "the MobileNetV2 space", "the widths of the stem and the head are whole numbers"
        )
    return Architecture(int(stem), stages, int(head))


def activated(
    writer: Writer, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1
) -> str:
    """Convolution, BatchNorm, ReLU6."""
    x = writer.convolution_norm(x, inputs, outputs, kernel, stride, groups=groups)
    return writer.node("Clip", x, writer.number(0.0), writer.number(6.0))


def write_block(writer: Writer, x: str, stage: Stage, inputs: int, stride: int) -> str:
    """One inverted residual block; with a residual connection if the shape is unchanged."""
    hidden = inputs * stage.expansion
    wide = activated(writer, x, inputs, hidden, 1) if stage.expansion > 1 else x
    deep = activated(writer, wide, hidden, hidden, stage.kernel, stride, groups=hidden)
    made = writer.convolution_norm(deep, hidden, stage.channels, 1)
    return writer.node("Add", x, made) if stride == 1 and inputs == stage.channels else made


def write_pair(writer: Writer, x: str, stage: Stage, inputs: int, stride: int, *, first: bool) -> str:
    """Two inverted residuals of a super-block; the first shortcut of all is a convolution in any case."""
    inner, outer = stage.bottleneck, stage.channels
    x = write_residual(
        writer, x, (inputs, inner * stage.expansion, inner), stage.kernel, stride, project=first
    )
    return write_residual(writer, x, (inner, outer * stage.expansion, outer), stage.kernel, 1)


def write_residual(
    writer: Writer, x: str, widths: tuple[int, int, int], kernel: int, stride: int, *, project: bool = False
) -> str:
    """1x1, depthwise and 1x1 convolution beside a shortcut, and a ReLU behind their sum."""
    inputs, hidden, outputs = widths
    wide = writer.node("Relu", writer.convolution_norm(x, inputs, hidden, 1))
    deep = writer.node("Relu", writer.convolution_norm(wide, hidden, hidden, kernel, stride, groups=hidden))
    made = writer.convolution_norm(deep, hidden, outputs, 1)
    changes = project or stride > 1 or inputs != outputs
    short = writer.convolution_norm(x, inputs, outputs, 1, stride) if changes else x
    return writer.node("Relu", writer.node("Add", made, short))


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network; its stem has stride 2."""
    network, writer = parse(description), Writer(fold)
    classes, width = classes or SPACE.classes, network.stem
    x = activated(writer, "image", 3, width, 3, 2)
    for stage in network.stages:
        for block in range(stage.blocks):
            stride = 1 if block else stage.stride
            if stage.bottleneck:
                x = write_pair(writer, x, stage, width, stride, first=not block)
            else:
                x = write_block(writer, x, stage, width, stride)
            width = stage.channels
    x = activated(writer, x, width, network.head, 1)
    logits = writer.classifier(x, network.head, classes)
    return writer.model(logits, name=SPACE.name, size=size or SPACE.size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The canonical description from the column ``arch``."""
    return str(parse(column(row, "arch")))


def sample(generator: random.Random) -> str:
    """Draw seven stages with the strides of MobileNetV2 and widths scaled from its own."""
    stages = [
        Stage(
            generator.choice(KERNELS),
            generator.choice(EXPANSIONS),
            0,
            scaled(width, generator),
            generator.randint(1, 4),
            stride,
        )
        for width, stride in zip(WIDTHS, STRIDES, strict=True)
    ]
    return str(Architecture(scaled(32, generator), stages, scaled(1280, generator)))


def scaled(width: int, generator: random.Random) -> int:
    """A width times a random factor of ``SCALES``, rounded to a multiple of 8."""
    return max(8, round(width * generator.choice(SCALES) / 8) * 8)


def express(genes: Genes) -> str:
    """The architecture of the width of the stem, and five genes a super-block, see `of_super_block`.

    Raises:
        SettingsError: it has over 14 pairs.
    """
    stages = [of_super_block(genes[start : start + 5]) for start in range(1, len(genes), 5)]
    description = str(Architecture(STEP * (genes[0] + 1), stages, HEAD))
    if sum(stage.blocks for stage in stages) > MOST_PAIRS_IN_ALL:
        raise bad(description, "the MobileNetV2 space", f"it has over {MOST_PAIRS_IN_ALL} pairs of blocks")
    return description


def of_super_block(genes: Sequence[int]) -> Stage:
    """Kernel, expansion, bottleneck, channels and number of pairs."""
    kernel, expansion, bottleneck, channels, pairs = genes
    return Stage(
        KERNELS[kernel], EXPANSIONS[expansion], STEP * (bottleneck + 1), STEP * (channels + 1), pairs + 1, 2
    )


def mutate(genes: Genes, generator: random.Random) -> Genes:
    """Change the stem's width, or all five genes of a super-block, by the ranges of AZ-NAS."""
    block = generator.randrange(SUPER_BLOCKS + 1)
    if not block:
        return (rescaled(genes[0], generator), *genes[1:])
    start = 5 * block - 4
    _, _, bottleneck, channels, pairs = genes[start : start + 5]
    changed = (
        generator.randrange(len(KERNELS)),
        generator.randrange(len(EXPANSIONS)),
        rescaled(bottleneck, generator),
        rescaled(channels, generator),
        min(max(pairs + generator.choice(SHIFTS), 0), MOST_PAIRS - 1),
    )
    return (*genes[:start], *changed, *genes[start + 5 :])


def rescaled(gene: int, generator: random.Random) -> int:
    """The gene of a width times a factor of ``FACTORS``, in whole steps of 8."""
    return min(max(round((gene + 1) * generator.choice(FACTORS)), 1), WIDEST // STEP) - 1


def cross(one: Genes, other: Genes, generator: random.Random) -> Genes:
    """Each super-block, and the stem, of one of two parents."""
    starts = (0, *range(1, len(one), 5))
    ends = (*starts[1:], len(one))
    parts = (generator.choice((one, other))[a:b] for a, b in zip(starts, ends, strict=True))
    return tuple(gene for part in parts for gene in part)


def genes_of(network: Architecture) -> Genes:
    """The inverse of `express`, of what it can give."""
    genes = [network.stem // STEP - 1]
    for s in network.stages:
        widths = (s.bottleneck // STEP - 1, s.channels // STEP - 1)
        genes += [KERNELS.index(s.kernel), EXPANSIONS.index(s.expansion), *widths, s.blocks - 1]
    return tuple(genes)


START = "8 k3e6b8c32n1s2 k3e6b32c48n1s2 k3e6b48c96n1s2 k3e6b96c128n1s2 2048"
"""From which the searches of ZenNAS, ZiCo and AZ-NAS begin."""

_WIDTHS = WIDEST // STEP
GENOME = Genome(
    alleles=(
        _WIDTHS,
        *(len(KERNELS), len(EXPANSIONS), _WIDTHS, _WIDTHS, MOST_PAIRS) * SUPER_BLOCKS,
    ),
    express=express,
    mutate=mutate,
    cross=cross,
    start=genes_of(parse(START)),
    sizes=(0, *(5 * block + place for block in range(SUPER_BLOCKS) for place in (3, 4))),
)

SPACE = Space(
    name="mobilenet_v2",
    title="MobileNetV2 space",
    source=(
        "blocks of Sandler et al., MobileNetV2, CVPR 2018; "
        "kernels and expansions of Li et al., ZiCo, ICLR 2023; "
        "super-blocks of Lin et al., Zen-NAS, ICCV 2021"
    ),
    describe=describe,
    build=build,
    accuracies={"ImageNet": "imagenet_test"},
    sample=sample,
    size=64,
    batch=16,
    classes=1000,
    genome=GENOME,
    counted_at=224,
)
