"""Type of what the tests know of a search space."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from intrain_onnx.bench.spaces import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What the tests know of a search space.

    Attributes:
        twin: the network in torch, of a description, a size and a number of classes; None if it is exported.
        size: of images or sequences, small enough for a test; the networks take any.
        channels: of images; None where words are read.
        others: logits beside those of the classes.
        columns: of a table, which describe an architecture.
        cells: of those columns, of a description; None if it is their values with spaces between them.
        degenerate: descriptions of the least, of the widest, and of what samples seldom are.
        light: what is built of the architectures that are drawn; the others differ in size alone.
        bad: descriptions of nothing.
    """

    twin: Callable[[str, int, int], nn.Module] | None = None
    size: int = 32
    channels: int | None = 3
    others: int = 0
    columns: Sequence[str]
    cells: Callable[[str], list[str]] | None = None
    degenerate: Sequence[str]
    light: Callable[[str], bool] = bool
    bad: Sequence[str]

    def architectures(self, space: Space, count: int) -> list[str]:
        """The degenerate ones, and as many light ones as asked for."""
        generator = random.Random(5)
        drawn = filter(self.light, (space.draw(generator) for _ in itertools.count()))
        return [*self.degenerate, *itertools.islice(drawn, count)]

    def samples(self, count: int, size: int, classes: int) -> Tensor:
        """Images bright enough to reach the limit of a ReLU6, or words."""
        if self.channels is None:
            return torch.randint(classes, (count, size))
        return 10 * torch.randn(count, self.channels, size, size)

    def row(self, description: str) -> list[str]:
        """The cells of a table that have the description."""
        if self.cells:
            return self.cells(description)
        return description.split(" ", len(self.columns) - 1)
