"""PiT: vision transformers of three stages with pooling by depthwise convolutions between them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column, common, compact, fields, is_count, is_ratio
from intrain_onnx.bench.writer import Writer
from intrain_onnx.errors import SettingsError

PATCH = 16
STRIDE = 8
STAGES = 3
DIMENSIONS = (16, 24, 32, 40)
RATIOS = (2, 4, 6, 8)
HEADS = (2, 4, 8)
DEPTHS = ((1, 2, 3), (4, 6, 8), (2, 4, 6))


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture of the space.

    Attributes:
        dimension: channels per head.
        ratio: MLP ratio, hidden width over width.
        heads: number of heads of each stage.
        depth: number of layers of each stage.
    """

    dimension: int
    ratio: float
    heads: Sequence[int]
    depth: Sequence[int]

    def __str__(self) -> str:
        names = ("base_dim", "mlp_ratio", "num_heads", "depth")
        values = (self.dimension, self.ratio, self.heads, self.depth)
        return compact(dict(zip(names, values, strict=True)))

    def pools(self) -> bool:
        """Whether each stage's heads are a multiple of the previous stage's: depthwise pooling needs it."""
        return all(after % before == 0 for before, after in zip(self.heads, self.heads[1:], strict=False))


def parse(description: str) -> Architecture:
    """Parse JSON with the keys ``base_dim``, ``mlp_ratio``, ``num_heads`` and ``depth``.

    The keys of published code are accepted too: ``layer_num``, and a ``base_dim`` per stage.
    """
    values = fields(description, "PiT")
    dimension, ratio = common(values.get("base_dim")), common(values.get("mlp_ratio"))
    heads: Any = values.get("num_heads")
    depth: Any = values.get("depth", values.get("layer_num"))
    if not is_count(dimension, 1024) or not is_ratio(ratio):
        raise bad(description, "PiT", "base_dim is a whole number, mlp_ratio a positive one")
    for name, entries in (("num_heads", heads), ("depth", depth)):
        whole = isinstance(entries, list) and len(entries) == STAGES
        if not whole or not all(is_count(entry, 64) for entry in entries):
            raise bad(description, "PiT", f"{name} has a whole number for each of three stages")
    found = Architecture(dimension, float(ratio), heads, depth)
    if not found.pools():
        raise bad(description, "PiT", "the heads of a stage are no multiple of those before it")
    return found


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The pooling transformer; it has no BatchNorm to fold."""
    network, writer = parse(description), Writer(fold)
    size, classes = size or SPACE.size, classes or SPACE.classes
    if size < PATCH:
        raise SettingsError(f"images of {size} pixels hold no patch of {PATCH}")
    widths = [network.dimension * heads for heads in network.heads]
    side = (size - PATCH) // STRIDE + 1
    x = writer.convolution("image", 3, widths[0], PATCH, STRIDE, padding=0, bias=True)
    x = writer.node("Add", x, writer.weight(1, widths[0], side, side))
    token = writer.class_token(x, widths[0])
    for stage, width in enumerate(widths):
        if stage:
            x, token = write_pooling(writer, x, token, widths[stage - 1], width)
            side = (side + 1) // 2
        x = writer.node("Concat", token, writer.tokens(x, width), axis=1)
        for _ in range(network.depth[stage]):
            x = writer.encoder(x, width, network.heads[stage], network.dimension, int(width * network.ratio))
        token = writer.part(x, 0, 1, 1)
        if stage < STAGES - 1:
            x = write_map(writer, x, width, side)
    first = writer.pick(writer.layer_norm(token, widths[-1]), 0, axis=1)
    logits = writer.linear(first, widths[-1], classes, tokens=False)
    return writer.model(logits, name=SPACE.name, size=size, classes=classes)


def write_pooling(writer: Writer, x: str, token: str, inputs: int, outputs: int) -> tuple[str, str]:
    """Pooling between stages: a depthwise convolution of the map, a linear layer for the class token."""
    pooled = writer.convolution(x, inputs, outputs, 3, 2, groups=inputs, bias=True)
    return pooled, writer.linear(token, inputs, outputs)


def write_map(writer: Writer, x: str, width: int, side: int) -> str:
    """The tokens after the class token, reshaped to a feature map."""
    patches = writer.node("Transpose", writer.part(x, 1, 2**63 - 1, 1), perm=[0, 2, 1])
    return writer.node("Reshape", patches, writer.integers(0, width, side, side))


def describe(row: Mapping[str, str]) -> str:
    """The canonical JSON from the column ``arch``."""
    return str(parse(column(row, "arch")))


def sample(generator: random.Random) -> str:
    """Draw from the ranges of Auto-Prox until `Architecture.pools` holds."""
    while True:
        heads = generator.choices(HEADS, k=STAGES)
        depth = [generator.choice(choices) for choices in DEPTHS]
        ratio = float(generator.choice(RATIOS))
        drawn = Architecture(generator.choice(DIMENSIONS), ratio, heads, depth)
        if drawn.pools():
            return str(drawn)


SPACE = Space(
    name="pit",
    title="PiT",
    source=(
        "Heo et al., Rethinking Spatial Dimensions of Vision Transformers, ICCV 2021; "
        "ranges of Wei et al., Auto-Prox, AAAI 2024"
    ),
    describe=describe,
    build=build,
    accuracies={
        "CIFAR-100": "cifar100_test",
        "Flowers-102": "flowers_test",
        "Chaoyang": "chaoyang_test",
        "ImageNet": "imagenet_test",
    },
    sample=sample,
    size=64,
    batch=16,
    classes=100,
)
