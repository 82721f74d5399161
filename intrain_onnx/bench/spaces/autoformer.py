"""AutoFormer: vision transformers that differ in width and depth, and per layer in heads and MLP ratio.

A head has 64 channels at any token width, as in the supernets of the paper. In the subnets of Auto-Prox,
which call the width ``hidden_dim``, heads divide the width instead. Both average the patch tokens. The
paper's relative position tables of attention are left out.
"""

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
HEAD = 64
WIDTHS = (192, 216, 240)
DEPTHS = (12, 13, 14)
RATIOS = (3.5, 4.0)
HEADS = (3, 4)


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture of the space.

    Attributes:
        width: channels of a token.
        shared: heads divide the width; else each has 64 channels.
        ratios: MLP ratio (hidden width over width) of each layer.
        heads: number of heads of each layer.
    """

    width: int
    shared: bool
    ratios: Sequence[float]
    heads: Sequence[int]

    def __str__(self) -> str:
        name = "hidden_dim" if self.shared else "embed_dim"
        return compact(
            {name: self.width, "depth": len(self.heads), "mlp_ratio": self.ratios, "num_heads": self.heads}
        )


def parse(description: str) -> Architecture:
    """Parse JSON with the keys ``embed_dim``, ``depth``, ``mlp_ratio`` and ``num_heads``.

    The last two have an entry per layer. Published code names them ``hidden_dim`` (see above) and
    ``layer_num``, and may repeat the width per layer.
    """
    values = fields(description, "AutoFormer")
    shared = "hidden_dim" in values
    width = common(values.get("hidden_dim", values.get("embed_dim")))
    depth: Any = values.get("depth", values.get("layer_num"))
    ratios: Any = values.get("mlp_ratio")
    heads: Any = values.get("num_heads")
    if not is_count(width, 4096) or not is_count(depth, 100):
        raise bad(description, "AutoFormer", "embed_dim and depth are whole numbers")
    for name, entries in (("mlp_ratio", ratios), ("num_heads", heads)):
        if not isinstance(entries, list) or len(entries) < depth:
            raise bad(description, "AutoFormer", f"{name} has an entry for each layer")
    if not all(map(is_ratio, ratios)) or not all(is_count(count, 64) for count in heads):
        raise bad(description, "AutoFormer", "ratios and numbers of heads are positive")
    if shared and any(width % count for count in heads[:depth]):
        raise bad(description, "AutoFormer", "hidden_dim is no multiple of the number of heads")
    return Architecture(width, shared, [float(ratio) for ratio in ratios[:depth]], heads[:depth])


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The vision transformer; it has no BatchNorm to fold."""
    network, writer = parse(description), Writer(fold)
    size, classes, width = size or SPACE.size, classes or SPACE.classes, network.width
    if size < PATCH:
        raise SettingsError(f"images of {size} pixels hold no patch of {PATCH}")
    x = writer.convolution("image", 3, width, PATCH, PATCH, padding=0, bias=True)
    x = writer.tokens(x, width)
    x = writer.node("Concat", writer.class_token(x, width), x, axis=1)
    x = writer.node("Add", x, writer.weight(1, (size // PATCH) ** 2 + 1, width))
    for ratio, heads in zip(network.ratios, network.heads, strict=True):
        x = writer.encoder(x, width, heads, width // heads if network.shared else HEAD, int(width * ratio))
    patches = writer.part(writer.layer_norm(x, width), 1, 2**63 - 1, 1)
    mean = writer.node("ReduceMean", patches, axes=[1], keepdims=0)
    logits = writer.linear(mean, width, classes, tokens=False)
    return writer.model(logits, name=SPACE.name, size=size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The canonical JSON from the column ``arch``."""
    return str(parse(column(row, "arch")))


def sample(generator: random.Random) -> str:
    """Draw from the ranges of the tiny supernet."""
    depth = generator.choice(DEPTHS)
    ratios, heads = generator.choices(RATIOS, k=depth), generator.choices(HEADS, k=depth)
    return str(Architecture(generator.choice(WIDTHS), False, ratios, heads))


SPACE = Space(
    name="autoformer",
    title="AutoFormer",
    source="Chen et al., AutoFormer: Searching Transformers for Visual Recognition, ICCV 2021",
    describe=describe,
    build=build,
    accuracies={
        "ImageNet": "imagenet_test",
        "CIFAR-100": "cifar100_test",
        "Flowers-102": "flowers_test",
        "Chaoyang": "chaoyang_test",
    },
    sample=sample,
    size=64,
    batch=16,
    classes=100,
)
