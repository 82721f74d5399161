"""Decoders of the OpenLM grid, which differ in width, depth and heads.

Pre-norm decoders with rotary positions, LayerNorms without offset, of queries and keys too, a SwiGLU MLP and
no biases. A head has the whole part of width / heads channels, and the MLP 8/3 of the width, rounded up to a
multiple of 256. Where nothing is rounded, the matrices of the layers have 12 l d^2 parameters, which the
table gives for every row.

By default there are 2,000 of the 50,432 words: a batch holds some hundred tokens, so more words add nothing
that could be measured, and the head, which is not tied, would take most of the time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column, compact, fields, is_count
from intrain_onnx.bench.token_writer import TokenWriter

MULTIPLE = 256
WIDTHS = (96, 192, 288, 320, 512, 576, 640, 768, 1024)
DEPTHS = (4, 8, 12, 16, 24)
HEADS = (4, 8, 12, 16)


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture of the space.

    Attributes:
        width: channels of a token.
        layers: number of layers.
        heads: number of heads.
    """

    width: int
    layers: int
    heads: int

    def __str__(self) -> str:
        return compact({"d": self.width, "l": self.layers, "h": self.heads})

    @property
    def dimension(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Hidden channels of the MLP."""
        return -(-int(8 * self.width / 3) // MULTIPLE) * MULTIPLE


def parse(description: str) -> Architecture:
    """Parse JSON with the keys ``d`` (width), ``l`` (layers) and ``h`` (heads)."""
    values = fields(description, "OpenLM")
    width: Any = values.get("d")
    layers: Any = values.get("l")
    heads: Any = values.get("h")
    if not is_count(width, 16384) or not is_count(layers, 200) or not is_count(heads, 1024):
        raise bad(description, "OpenLM", "d, l and h are whole numbers")
    found = Architecture(width, layers, heads)
    if not found.dimension or found.dimension % 2:
        raise bad(description, "OpenLM", "a head needs an even number of channels to turn")
    return found


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The decoder; it has no BatchNorm to fold."""
    network, writer = parse(description), TokenWriter(fold)
    size, classes, width = size or SPACE.size, classes or SPACE.classes, network.width
    x = writer.embedding(writer.weight(classes, width), "tokens")
    turn, hide = writer.rotary(size, network.dimension), writer.causal(size)
    for _ in range(network.layers):
        mixed = write_attention(writer, writer.layer_norm(x, width, bias=False), network, turn, hide)
        x = writer.node("Add", x, mixed)
        x = writer.node("Add", x, write_mlp(writer, writer.layer_norm(x, width, bias=False), network))
    logits = writer.linear(writer.layer_norm(x, width, bias=False), width, classes, bias=False)
    return writer.language_model(logits, name=SPACE.name, size=size, classes=classes)


def write_attention(
    writer: TokenWriter,
    x: str,
    network: Architecture,
    turn: Callable[[str], str],
    hide: Callable[[str], str],
) -> str:
    """Causal attention with normalised, rotated queries and keys."""
    inner, heads = network.heads * network.dimension, network.heads
    fused = writer.linear(x, network.width, 3 * inner, bias=False)
    parts = [writer.part(fused, i * inner, (i + 1) * inner, 2) for i in range(3)]
    parts[:2] = (writer.layer_norm(part, inner, bias=False) for part in parts[:2])
    shape = writer.integers(0, 0, heads, network.dimension)
    queries, keys, values = (
        writer.node("Transpose", writer.node("Reshape", part, shape), perm=[0, 2, 1, 3]) for part in parts
    )
    joined = writer.attend(turn(queries), turn(keys), values, heads, network.dimension, hide)
    return writer.linear(joined, inner, network.width, bias=False)


def write_mlp(writer: TokenWriter, x: str, network: Architecture) -> str:
    """SwiGLU: a linear map, gated by the SiLU of another."""
    gate, inner = (writer.linear(x, network.width, network.hidden, bias=False) for _ in range(2))
    bent = writer.node("Mul", gate, writer.node("Sigmoid", gate))
    return writer.linear(writer.node("Mul", bent, inner), network.hidden, network.width, bias=False)


def describe(row: Mapping[str, str]) -> str:
    """The canonical JSON from the columns ``d``, ``l`` and ``h``."""
    return str(parse("{" + ",".join(f'"{name}":{column(row, name)}' for name in "dlh") + "}"))


def sample(generator: random.Random) -> str:
    """Draw a cell of the grid whose heads divide the width."""
    width = generator.choice(WIDTHS)
    heads = generator.choice([heads for heads in HEADS if width % (2 * heads) == 0])
    return str(Architecture(width, generator.choice(DEPTHS), heads))


SPACE = Space(
    name="openlm",
    title="OpenLM grid",
    source="Gadre et al., Language Models Scale Reliably with Over-training and on Downstream Tasks, 2024",
    describe=describe,
    build=build,
    accuracies={"OpenLM": "loss"},
    losses=frozenset({"OpenLM"}),
    sample=sample,
    size=32,
    batch=8,
    classes=2000,
)
