"""ResNet and ResNeXt of NDS on ImageNet: stages of residual blocks that differ in depth, width and groups.

Descriptions are those of the published table, JSON such as
``{"block_type":"res_bottleneck_block","bot_muls":[1.0,0.5],"ds":[1,4],"num_gs":[1,2],"ss":[8,1],"ws":[64,96]}``:
depths, strides and widths of the stem and of each stage, and for bottlenecks the ratio of the inner width and
the number of groups.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column, compact, fields, is_count, is_ratio
from intrain_onnx.bench.writer import Writer
from intrain_onnx.errors import SettingsError

NAME = "the ResNets of NDS"
BASIC, BOTTLENECK = "res_basic_block", "res_bottleneck_block"
LISTS = ("ds", "ss", "ws", "bot_muls", "num_gs")
"""Keys that hold an entry for the stem and one per stage; basic blocks leave the last two empty."""
POOLED, DEEP = 4, 8
"""Strides of the stems: a 7x7 convolution and max pooling, or three 3x3 convolutions."""
MOST_WEIGHTS = 6e6
"""About as many as the largest network of the table has."""
RATES, MOST_DECAY = (10**-2.2, 10**-0.8), 10**-3.3
"""The learning rates and the weight decay that do not decide how well a network learns."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Equal blocks, of which the first one has the stride; or the stem.

    Attributes:
        ratio: of the inner to the outer width of bottlenecks; None for basic blocks.
        groups: of the 3x3 convolution of bottlenecks.
    """

    depth: int
    stride: int
    width: int
    ratio: float | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        counts = {"depth": 99, "stride": DEEP, "width": 9999, "groups": 9999}
        for name, most in counts.items():
            if not is_count(getattr(self, name), most):
                raise ValueError(f"{name} {getattr(self, name)} is no whole number from 1 to {most}")
        if self.ratio is not None and not is_ratio(self.ratio):
            raise ValueError("ratios of widths are in (0, 16]")
        if self.inner < 1 or self.inner % self.groups:
            raise ValueError("groups divide the inner width")

    @property
    def inner(self) -> int:
        """Channels between the convolutions of a block."""
        return self.width if self.ratio is None else round(self.width * self.ratio)

    @property
    def weights(self) -> int:
        """Weights of its blocks, but for projections."""
        if self.ratio is None:
            return self.depth * 18 * self.width**2
        return self.depth * self.inner * (2 * self.width + 9 * self.inner // self.groups)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The stem and the stages after it."""

    stem: Stage
    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        stem = self.stem
        if stem.stride not in (POOLED, DEEP) or stem.width % 2:
            raise ValueError("the stem has stride 4 or 8 and an even width")
        if (stem.depth, stem.inner, stem.groups) != (1, stem.width, 1):
            raise ValueError("the stem has depth 1, ratio 1 and one group")
        if not self.stages or any(stage.stride > 2 for stage in self.stages):
            raise ValueError("there are stages, of stride 1 or 2")

    @property
    def bottleneck(self) -> bool:
        """Whether its blocks are bottlenecks."""
        return self.stem.ratio is not None

    def __str__(self) -> str:
        columns = map(list, zip(*map(astuple, (self.stem, *self.stages)), strict=True))
        values = dict(zip(LISTS, columns, strict=True))
        if self.bottleneck:
            values["bot_muls"] = list(map(float, values["bot_muls"]))
        else:
            values |= {"bot_muls": [], "num_gs": []}
        kind = {"block_type": BOTTLENECK if self.bottleneck else BASIC}
        return compact(kind | dict(sorted(values.items())))


def parse(description: str) -> Architecture:
    """Parse a description."""
    values = fields(description, NAME)
    try:
        stages = [Stage(*row) for row in rows(values)]
        return Architecture(stages[0], stages[1:])
    except ValueError as error:
        raise bad(description, NAME, str(error)) from error


def rows(values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
    """The lists of a description, transposed: what the stem and each stage has.

    Raises:
        ValueError: it lacks a list or has one too many, or they differ in length.
    """
    used = {BASIC: LISTS[:3], BOTTLENECK: LISTS}.get(str(values.get("block_type")))
    if used is None or set(values) - {"block_type", *LISTS}:
        raise ValueError(f"it has block_type, {BASIC} or {BOTTLENECK}, and {', '.join(LISTS)}")
    lists = [values.get(key) for key in used]
    lengths = {len(entries) if isinstance(entries, list) and None not in entries else 0 for entries in lists}
    if any(values.get(key) for key in LISTS[len(used) :]) or len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"these blocks take {', '.join(used)}, with one entry for the stem and one per stage"
        )
    return list(zip(*lists, strict=True))


def write_stem(writer: Writer, stem: Stage) -> str:
    """A 7x7 convolution of stride 2 and max pooling, or three 3x3 convolutions of stride 2."""
    if stem.stride == POOLED:
        x = writer.node("Relu", writer.convolution_norm("image", 3, stem.width, 7, 2))
        return writer.node("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    x, before = "image", 3
    for width in (stem.width // 2, stem.width, stem.width):
        x = writer.node("Relu", writer.convolution_norm(x, before, width, 3, 2))
        before = width
    return x


def write_block(writer: Writer, x: str, stage: Stage, inputs: int, stride: int) -> str:
    """One residual block, with a 1x1 convolution as its shortcut if the shape changes."""
    inner, outputs = stage.inner, stage.width
    short = x
    if stride > 1 or inputs != outputs:
        short = writer.convolution_norm(x, inputs, outputs, 1, stride)
    if stage.ratio is None:
        x = writer.node("Relu", writer.convolution_norm(x, inputs, inner, 3, stride))
        x = writer.convolution_norm(x, inner, outputs, 3)
    else:
        x = writer.node("Relu", writer.convolution_norm(x, inputs, inner, 1))
        x = writer.node("Relu", writer.convolution_norm(x, inner, inner, 3, stride, groups=stage.groups))
        x = writer.convolution_norm(x, inner, outputs, 1)
    return writer.node("Relu", writer.node("Add", short, x))


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network."""
    network, writer = parse(description), Writer(fold)
    classes, width = classes or SPACE.classes, network.stem.width
    x = write_stem(writer, network.stem)
    for stage in network.stages:
        for block in range(stage.depth):
            x = write_block(writer, x, stage, width, 1 if block else stage.stride)
            width = stage.width
    logits = writer.classifier(x, width, classes)
    return writer.model(logits, name=SPACE.name, size=size or SPACE.size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The canonical description from the column ``net_json``."""
    return str(parse(column(row, "net_json")))


def keep(row: Mapping[str, str]) -> bool:
    """Whether ``base_lr`` and ``wd``, which NDS drew at random for its ResNets, let the network learn."""
    try:
        rate, decay = (float(column(row, name)) for name in ("base_lr", "wd"))
    except ValueError as error:
        raise SettingsError(f"columns 'base_lr' and 'wd' hold numbers: {error}") from error
    return RATES[0] < rate < RATES[1] and decay < MOST_DECAY


def family(description: str) -> str:
    """ResNet has basic blocks and ResNeXt bottlenecks."""
    return "ResNeXt" if parse(description).bottleneck else "ResNet"


def sample(generator: random.Random) -> str:
    """Draw a ResNet of four stages or a ResNeXt of three, with no more weights than those of the table."""
    draw = generator.choice((draw_resnet, draw_resnext))
    network = draw(generator)
    while sum(stage.weights for stage in network.stages) > MOST_WEIGHTS:
        network = draw(generator)
    return str(network)


def draw_resnet(generator: random.Random) -> Architecture:
    """Draw from the depths and widths of the table."""
    stem = Stage(1, POOLED, generator.choice((16, 32, 64)))
    stages = [
        Stage(
            generator.choice((1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)),
            stride,
            generator.choice((16, 32, 48, 64, 96, 128, 192, 256, 384, 512)),
        )
        for stride in (1, 2, 2, 2)
    ]
    return Architecture(stem, stages)


def draw_resnext(generator: random.Random) -> Architecture:
    """Draw from the depths, widths, ratios and groups of the table."""
    stages = [
        Stage(
            generator.choice((1, 2, 4, 8, 16)),
            stride,
            generator.choice((16, 32, 64, 128, 256)),
            generator.choice((0.25, 0.5, 1.0)),
            generator.choice((1, 2, 4)),
        )
        for stride in (1, 2, 2)
    ]
    return Architecture(Stage(1, DEEP, 64, 1.0), stages)


SPACE = Space(
    name="nds_resnet",
    title="NDS ResNet and ResNeXt",
    source="Radosavovic et al., On Network Design Spaces for Visual Recognition, ICCV 2019",
    describe=describe,
    build=build,
    accuracies={"ImageNet": "final_top1"},
    sample=sample,
    keep=keep,
    family=family,
    size=64,
    batch=8,
    classes=1000,
)
