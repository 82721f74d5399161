"""GPT-2-like decoders of LiteTransformerSearch, which differ in width, depth, and per layer in heads and MLP.

Words have adaptive embeddings: the rarer a cluster of words, the fewer channels its table has, and a linear
map brings them to the width. The head is the adaptive softmax, tied to those tables. Its output has the
logits of all its softmaxes side by side: the frequent words and one logit for each other cluster, then the
words of each cluster. Counts are the published ones for all 50,264 words.

By default there are 2,000 words, and clusters in the same proportions: a batch holds some hundred tokens, so
more words add nothing that could be measured, and the head would take most of the time. The constant factor
of the embeddings is left out: it makes up for a small initial scale, which a score does not draw.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column, compact, fields, is_count
from intrain_onnx.bench.token_writer import TokenWriter
from intrain_onnx.errors import SettingsError

WORDS = 50264
CUTOFFS = (19997, 39997)
LONGEST = 192
COLUMNS = ("d_model", "d_embed", "div_val", "n_head", "d_inner")
WIDTHS = (64, 128, 256, 512)
DEPTHS = range(2, 17)
HEADS = (2, 4, 8)
HIDDEN = (512, 2048)
EMBEDDINGS = (128, 256, 512)
DIVISORS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture of the space.

    Attributes:
        width: channels of a token.
        embedding: channels of the embedding of a frequent word.
        divisor: ratio of the channels of a cluster's embedding to those of the next.
        heads: number of heads of each layer.
        hidden: hidden channels of the MLP of each layer.
    """

    width: int
    embedding: int
    divisor: int
    heads: Sequence[int]
    hidden: Sequence[int]

    def __str__(self) -> str:
        values = (self.width, self.embedding, self.divisor, self.heads, self.hidden)
        return compact(dict(zip(COLUMNS, values, strict=True)))


def parse(description: str) -> Architecture:
    """Parse JSON with the keys ``d_model``, ``d_embed``, ``div_val``, ``n_head`` and ``d_inner``.

    The last two have an entry per layer.
    """
    values = fields(description, "GPT-2")
    width: Any = values.get("d_model")
    embedding: Any = values.get("d_embed")
    divisor: Any = values.get("div_val")
    heads: Any = values.get("n_head")
    hidden: Any = values.get("d_inner")
    for count in (width, embedding, divisor):
        if not is_count(count, 16384):
            raise bad(description, "GPT-2", "d_model, d_embed and div_val are whole numbers")
    for name, entries in (("n_head", heads), ("d_inner", hidden)):
        if not isinstance(entries, list) or not entries or not all(is_count(e, 65536) for e in entries):
            raise bad(description, "GPT-2", f"{name} has a whole number for each layer")
    if len(heads) != len(hidden) or len(heads) > 200:
        raise bad(description, "GPT-2", "n_head and d_inner have an entry for each of up to 200 layers")
    if any(width % count for count in heads):
        raise bad(description, "GPT-2", "d_model is no multiple of a number of heads")
    if embedding < divisor ** len(CUTOFFS):
        raise bad(description, "GPT-2", "d_embed leaves no channels for rare words")
    return Architecture(width, embedding, divisor, heads, hidden)


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The decoder; it has no BatchNorm to fold. Its table of positions has 192 rows at any size."""
    network, writer = parse(description), TokenWriter(fold)
    size, classes, width = size or SPACE.size, classes or SPACE.classes, network.width
    if size > LONGEST:
        raise SettingsError(f"{size} tokens are more than the {LONGEST} that the space has positions for")
    if classes < len(CUTOFFS) + 1:
        raise SettingsError(f"{classes} words do not fill {len(CUTOFFS) + 1} clusters")
    words = Words.write(writer, network, classes)
    x = words.embed("tokens")
    positions = writer.constant(np.arange(size))
    x = writer.node("Add", x, writer.embedding(writer.weight(LONGEST, width), positions))
    hide = writer.causal(size)
    for heads, hidden in zip(network.heads, network.hidden, strict=True):
        x = write_block(writer, x, width, heads, hidden, hide)
    logits = words.logits(writer.layer_norm(x, width))
    return writer.language_model(logits, name=SPACE.name, size=size, classes=classes + len(CUTOFFS))


def write_block(
    writer: TokenWriter, x: str, width: int, heads: int, hidden: int, hide: Callable[[str], str]
) -> str:
    """A pre-norm block: causal attention and a two-layer MLP, each with a residual connection."""
    mixed = writer.attention(writer.layer_norm(x, width), width, heads, width // heads, hide=hide)
    x = writer.node("Add", x, mixed)
    inner = writer.tanh_gelu(writer.linear(writer.layer_norm(x, width), width, hidden))
    return writer.node("Add", x, writer.linear(inner, hidden, width))


@dataclass(frozen=True, slots=True)
class Words:
    """Tables of the clusters of words and their linear maps, which the head shares.

    Attributes:
        writer: writes the nodes.
        network: the architecture.
        ends: first word of each cluster, and the number of words.
        tables: (words, channels) of each cluster, or one of all words if all have equal channels.
        maps: (channels, width) for each table; empty if the one table has the width already.
    """

    writer: TokenWriter
    network: Architecture
    ends: Sequence[int]
    tables: Sequence[str]
    maps: Sequence[str]

    @classmethod
    def write(cls, writer: TokenWriter, network: Architecture, words: int) -> Words:
        """Clusters in the proportions of the full vocabulary, each with at least one word."""
        inner = [max(round(cutoff * words / WORDS), i) for i, cutoff in enumerate(CUTOFFS, 1)]
        ends = [0, *inner, words]
        channels = [network.embedding // network.divisor**i for i in range(len(ends) - 1)]
        sizes = [end - start for start, end in itertools.pairwise(ends)]
        if network.divisor == 1:
            channels, sizes = channels[:1], [words]
        tables = [writer.weight(n, c) for n, c in zip(sizes, channels, strict=True)]
        mapped = network.divisor > 1 or network.embedding != network.width
        maps = [writer.weight(c, network.width) for c in channels] if mapped else []
        return cls(writer, network, ends, tables, maps)

    def embed(self, words: str) -> str:
        """Embeddings of words at the width. Each table is asked for every word; its own answer is taken."""
        writer = self.writer
        if self.network.divisor == 1:
            found = writer.embedding(self.tables[0], words)
            return writer.node("MatMul", found, self.maps[0]) if self.maps else found
        place = writer.node("Unsqueeze", words, writer.integers(-1))
        embedded = ""
        for table, mapped, (start, end) in zip(
            self.tables, self.maps, itertools.pairwise(self.ends), strict=True
        ):
            rows = writer.constant(np.clip(np.arange(self.ends[-1]) - start, 0, end - start - 1))
            found = writer.embedding(table, writer.embedding(rows, words))
            found = writer.node("MatMul", found, mapped)
            later = writer.node("GreaterOrEqual", place, writer.integers(start))
            embedded = writer.node("Where", later, found, embedded) if embedded else found
        return embedded

    def logits(self, x: str) -> str:
        """Logits of all softmaxes, (batch, tokens, words + clusters but the first)."""
        writer, width, embedding = self.writer, self.network.width, self.network.embedding
        own = writer.node("MatMul", x, writer.weight(width, embedding)) if self.maps else x
        parts = [self.cluster(own, 0), writer.linear(own, embedding, len(CUTOFFS))]
        for index in range(1, len(self.ends) - 1):
            mapped = self.maps[index % len(self.maps)] if self.maps else None
            parts.append(self.cluster(writer.tied(x, mapped) if mapped else x, index))
        return writer.node("Concat", *parts, axis=-1)

    def cluster(self, x: str, index: int) -> str:
        """Logits of the words of a cluster."""
        writer, start, end = self.writer, self.ends[index], self.ends[index + 1]
        table = (
            writer.part(self.tables[0], start, end, 0) if self.network.divisor == 1 else self.tables[index]
        )
        return writer.node("Add", writer.tied(x, table), writer.weight(end - start))


def describe(row: Mapping[str, str]) -> str:
    """The canonical JSON from the columns of the configuration."""
    cells = {name: column(row, f"cfg.{name}") for name in COLUMNS}
    return str(parse("{" + ",".join(f'"{name}":{cell}' for name, cell in cells.items()) + "}"))


def sample(generator: random.Random) -> str:
    """Draw from the ranges of the table."""
    depth = generator.choice(DEPTHS)
    return str(
        Architecture(
            generator.choice(WIDTHS),
            generator.choice(EMBEDDINGS),
            generator.choice(DIVISORS),
            generator.choices(HEADS, k=depth),
            [generator.randint(*HIDDEN) for _ in range(depth)],
        )
    )


SPACE = Space(
    name="gpt2",
    title="LiteTransformerSearch",
    source="Javaheripi et al., LiteTransformerSearch, NeurIPS 2022",
    describe=describe,
    build=build,
    accuracies={"WikiText-103": "perplexity"},
    losses=frozenset({"WikiText-103"}),
    sample=sample,
    size=32,
    batch=8,
    classes=2000,
)
