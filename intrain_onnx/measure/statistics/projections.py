"""An unbiased estimate of tr(S^2) from random projections of the rows, with its standard error.

With random signs r and s drawn apart, E[(r^T X X^T s)^2] = ||X X^T||_F^2: the mean over pairs of projected
rows is unbiased (Kong and Valiant, Spectrum estimation from samples, Annals of Statistics 2017, signs for
samples). The rows of each sample are projected apart, so that pairs of rows within a sample can be told from
the others. The standard error is that of the jackknife over the projections.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import torch
from torch import Tensor

from intrain_onnx.runtime.random_streams import generator_for

_FEWEST: Final = 4
"""Projections of a sample with which the jackknife still tells something."""


class Estimate(NamedTuple):
    """Of a sum of squares, each (1,), float64.

    Attributes:
        square: ||X X^T||_F^2.
        within: the part of it within the samples.
        error: standard error of ``square``.
    """

    square: Tensor
    within: Tensor
    error: Tensor


@dataclass(eq=False)
class Projections:
    """Random signs for matrices of any size, the same for those with as many rows and samples.

    Attributes:
        count: projected rows of a matrix, over all samples.
        seed: of the signs.
    """

    count: int
    seed: int
    _signs: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def of_sample(self, samples: int) -> int:
        """Projections of each sample."""
        return max(self.count // samples, _FEWEST)

    def cost(self, rows: int, channels: int, samples: int) -> int:
        """Multiplications of an estimate."""
        each = self.of_sample(samples)
        return rows * channels * each + (each * samples) ** 2 * channels

    def of(self, x: Tensor, samples: int) -> Tensor:
        """A matrix, (rows, channels), projected: (samples, projections of each, channels)."""
        parts = x.reshape(samples, -1, x.shape[1])
        key = samples, parts.shape[1]
        if key not in self._signs:
            generator = generator_for(self.seed, f"projections.{samples}.{parts.shape[1]}")
            shape = samples, self.of_sample(samples), parts.shape[1]
            self._signs[key] = torch.randint(0, 2, shape, generator=generator).mul_(2).sub_(1).to(x)
        return torch.bmm(self._signs[key].to(x), parts)


def estimate(projected: Tensor) -> Estimate:
    """||X X^T||_F^2 from what ``Projections.of`` gives, or that with the channels scaled."""
    samples, each, channels = projected.shape
    flat = projected.reshape(-1, channels)
    squares = (flat @ flat.T).double().square_().reshape(samples, each, samples, each)
    own = torch.diagonal(squares, dim1=0, dim2=2).sum(2)
    other = squares.sum((0, 2)) - own
    own = own - torch.diag(own.diagonal())  # a projection is not independent of itself
    within = own.sum() / (each * (each - 1))
    # Each projection in turn is left out, in all samples.
    own_left = (own.sum() - 2 * own.sum(1)) / ((each - 1) * (each - 2))
    other_left = (other.sum() - other.sum(0) - other.sum(1) + other.diagonal()) / (each - 1) ** 2
    left = own_left + other_left
    error = ((each - 1) / each * (left - left.mean()).square().sum()).sqrt()
    return Estimate(*(x.reshape(1) for x in (within + other.sum() / each**2, within, error)))
