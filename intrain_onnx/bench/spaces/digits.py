"""Plain and residual networks of many depths, with their initial weights, for scikit-learn's digits.

Whether one trains is decided by its depth, its shortcuts, its normalisation and the scale of its weights.
So the weights are part of the network, and `checkpoint` is the protocol that sees them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column, compact, fields, is_count, is_ratio
from intrain_onnx.bench.writer import Writer

DEPTHS = (6, 8, 14, 20, 26, 32, 44, 56)
WIDTHS = (8, 12, 16, 24, 32)
GAINS = (1.0, 1.0, 1.0, 0.25, 0.5, 2.0)
"""Standard deviations of the initial weights over those of Kaiming; half of the networks have the usual."""
STAGES = 3
NAMES = ("depth", "width", "gain", "residual", "norm")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of the space.

    Attributes:
        depth: layers with weights, shortcuts apart: a stem, blocks of two convolutions, a classifier.
        width: channels of the first stage; the second and the third have twice and four times as many.
        gain: standard deviation of the initial weights, over Kaiming's sqrt(2 / fan-in).
        residual: blocks have shortcuts.
        norm: convolutions are followed by BatchNorm.
    """

    depth: int
    width: int
    gain: float
    residual: bool
    norm: bool

    def __str__(self) -> str:
        return compact(dict(zip(NAMES, astuple(self), strict=True)))

    def blocks(self) -> list[tuple[int, int, int]]:
        """Input channels, output channels and stride of each block; stages differ by one block at most."""
        count = (self.depth - 2) // 2
        widths = [self.width << (STAGES * block // count) for block in range(count)]
        before = [self.width, *widths]
        return [(a, b, 1 if a == b else 2) for a, b in zip(before, widths, strict=False)]


def parse(description: str) -> Architecture:
    """Parse JSON with the keys ``depth``, ``width``, ``residual``, ``norm`` and ``gain``."""
    values = fields(description, "digits")
    depth: Any = values.get("depth")
    width: Any = values.get("width")
    gain: Any = values.get("gain")
    flags: list[Any] = [values.get(name) for name in NAMES[3:]]
    if not (is_count(depth, 1000) and is_count(width, 1024) and is_ratio(gain)):
        raise bad(description, "digits", "depth and width are whole numbers, gain a positive one")
    if depth < 4 or depth % 2:
        raise bad(description, "digits", "depth is even and at least 4")
    if not all(isinstance(flag, bool) for flag in flags):
        raise bad(description, "digits", "residual and norm are true or false")
    return Architecture(depth, width, float(gain), *flags)


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network with its initial weights, which the description alone decides."""
    network, size, classes = parse(description), size or SPACE.size, classes or SPACE.classes
    writer = Writer(fold, initial=np.random.default_rng(0), gain=network.gain)

    def convolution(x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        made = writer.convolution(x, inputs, outputs, kernel, stride, bias=not network.norm)
        return writer.norm(made, outputs) if network.norm else made

    x = writer.node("Relu", convolution("image", 1, network.width, 3))
    for inputs, outputs, stride in network.blocks():
        made = convolution(x, inputs, outputs, 3, stride)
        made = convolution(writer.node("Relu", made), outputs, outputs, 3)
        if network.residual:
            made = writer.node("Add", made, x if stride == 1 else convolution(x, inputs, outputs, 1, stride))
        x, last = writer.node("Relu", made), outputs
    logits = writer.classifier(x, last, classes)
    return writer.model(logits, name=SPACE.name, size=size, classes=classes, channels=1)


def describe(row: Mapping[str, str]) -> str:
    """The canonical JSON from the column ``arch``."""
    return str(parse(column(row, "arch")))


def sample(generator: random.Random) -> str:
    """Draw each property for itself."""
    flags = (generator.random() < 0.5, generator.random() < 0.5)
    depth, width, gain = generator.choice(DEPTHS), generator.choice(WIDTHS), generator.choice(GAINS)
    return str(Architecture(depth, width, gain, *flags))


def family(description: str) -> str:
    """Plain or residual."""
    return "residual" if parse(description).residual else "plain"


SPACE = Space(
    name="digits",
    title="Plain and residual networks on digits",
    source="trained for this project by benchmarks/train_digits.py",
    describe=describe,
    build=build,
    accuracies={"digits": "accuracy"},
    sample=sample,
    family=family,
    size=8,
    batch=64,
    classes=10,
)
