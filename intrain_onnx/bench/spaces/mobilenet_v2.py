"""The MobileNetV2 space: stages of inverted residuals that differ in kernel, expansion, width and depth.

Descriptions read ``32 k3e1c16n1s1 k5e6c24n2s2 1280``: the width of the stem, the stages (kernel, expansion,
channels, number of blocks, stride of the first one), the width of the head.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column, is_count
from intrain_onnx.bench.writer import Writer

KERNELS = (3, 5, 7)
EXPANSIONS = (1, 2, 4, 6)
WIDTHS = (16, 24, 32, 64, 96, 160, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
STAGE = re.compile(r"k([357])e([1246])c([1-9]\d{0,3})n([1-9]\d?)s([12])")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of equal blocks; the first one has the stride."""

    kernel: int
    expansion: int
    channels: int
    blocks: int
    stride: int

    def __str__(self) -> str:
        return "k{}e{}c{}n{}s{}".format(*astuple(self))


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
    stages = [Stage(*map(int, match.groups())) for match in matches if match]
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


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network; its stem has stride 2."""
    network, writer = parse(description), Writer(fold)
    classes, width = classes or SPACE.classes, network.stem
    x = activated(writer, "image", 3, width, 3, 2)
    for stage in network.stages:
        for block in range(stage.blocks):
            x = write_block(writer, x, stage, width, 1 if block else stage.stride)
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


SPACE = Space(
    name="mobilenet_v2",
    title="MobileNetV2 space",
    source=(
        "blocks of Sandler et al., MobileNetV2, CVPR 2018; "
        "kernels and expansions of Li et al., ZiCo, ICLR 2023"
    ),
    describe=describe,
    build=build,
    accuracies={"ImageNet": "imagenet_test"},
    sample=sample,
    size=64,
    batch=16,
    classes=1000,
)
