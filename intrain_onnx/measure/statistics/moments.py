"""Moments of activations and gradients as tensors on their device: nothing here waits for a result.

Every function takes a batch of matrices or vectors of one shape, so that many small ones cost one call. On
the CPU, where a look at a number costs nothing, matrices in the usual range take a shorter way.
"""

from __future__ import annotations

import itertools
import math
from typing import Final, NamedTuple

import torch
from torch import Tensor

from intrain_onnx.measure.statistics.projections import Projections, estimate

_RUN: Final = 4096
"""Elements summed in float32 before the partial sums are added in float64: relative error below 1e-6."""

_AMPLE: Final = 16
"""Rows for each channel from which on the bias of the ratio is below some percent."""

_PANEL: Final = 64
"""Fewest columns of a panel for which a matrix product is still efficient."""

_PANELS: Final = 4
"""Most panels of a symmetric product: 4 leave out 6 of its 16 blocks; finer ones cost more than they save."""

_SQUARABLE: Final = (1e-15, 1e15)
"""Largest magnitudes between which squares stay within float32."""

SYMMETRIC: Final = 0.7
"""Cost of a symmetric product over that of another one."""

_GAIN: Final = 0.25
"""Of the cost of the exact products: with more, an estimate is hardly faster, since its own are thin."""


class Moments(NamedTuple):
    """Of one centred matrix X of n rows, each number divided by the power of ``scale`` that it holds.

    Attributes:
        trace: ||X||_F^2.
        square: ||X^T X||_F^2; 0, as the next three, if it was not asked for.
        within: the sum of the same over the parts that the rows consist of.
        correlated: ||X^T X||_F^2 with the columns scaled to unit length.
        varying: columns that vary by more than round-off.
        mean: largest magnitude of a column's mean, not scaled.
        scale: what X was divided by.
        square_error: standard error of ``square``; 0 where that is exact.
        correlated_error: that of ``correlated``.
    """

    trace: float
    square: float
    within: float
    correlated: float
    varying: float
    mean: float
    scale: float
    square_error: float = 0.0
    correlated_error: float = 0.0


class _Wanted(NamedTuple):
    covariance: bool
    correlation: bool
    samples: int
    projections: Projections | None


def _is_looked_at(x: Tensor) -> bool:
    """Whether a number of a tensor can be had without waiting for a device."""
    return not x.is_cuda


def leaves_pairs_out(samples: int, rows: int, channels: int) -> bool:
    """Whether pairs of rows within a sample are many enough among all pairs to be left out."""
    return 1 < samples < rows < _AMPLE * channels and rows % samples == 0


def exact_cost(rows: int, channels: int, samples: int) -> float:
    """Multiplications of a matrix's exact ``square`` and ``within``."""
    whole = rows * channels * min(rows, channels) * SYMMETRIC
    if leaves_pairs_out(samples, rows, channels):
        whole += rows * channels * min(rows // samples, channels)
    return whole


def is_estimated(projections: Projections | None, rows: int, channels: int, samples: int) -> bool:
    """Whether an estimate costs much less than the exact products."""
    return (
        projections is not None
        and projections.cost(rows, channels, samples) < exact_cost(rows, channels, samples) * _GAIN
    )


def second_moments(
    x: Tensor,
    samples: int = 1,
    *,
    covariance: bool = True,
    correlation: bool = False,
    mean: Tensor | None = None,
    own: bool = False,
    panels: list[Tensor] | None = None,
    projections: Projections | None = None,
) -> Tensor:
    """The :class:`Moments` of each matrix, computed in its dtype, with sums in float64.

    The smaller of X^T X and X X^T is formed. Cost: rows * channels * min(rows, channels) multiplications,
    five eighths of which are made for at least 256 columns, and one centred copy.

    Args:
        x: (matrices, rows, channels), floating point, at least one row and channel.
        samples: parts of equal length that the rows consist of, in order.
        covariance: compute ``square`` and ``within``.
        correlation: compute ``correlated`` and ``varying``.
        mean: (matrices, 1, channels), what was subtracted from ``x``; None if nothing was.
        own: ``x`` may be overwritten.
        panels: those of X^T X, if they are there, to be overwritten; of one matrix with many rows.
        projections: estimate ``square``, ``within`` and ``correlated`` of one matrix by them.

    Returns:
        (matrices, 7), or with projections (1, 9), float64; not finite where an element is not.
    """
    centred = x
    if mean is None:
        mean = x.mean(1, keepdim=True)
        centred = x.sub_(mean) if own else x - mean
    if projections is None and not leaves_pairs_out(samples, x.shape[1], x.shape[2]):
        samples = 1
    scale = torch.ones_like(mean[:, :, :1])
    if not _is_looked_at(x) and panels is None:
        centred, scale = _scaled(centred, None)
    wanted = _Wanted(covariance, correlation, samples, projections)
    found = _products(centred, mean, scale, wanted, panels)
    if _is_looked_at(x):
        level = found[:, 0] / centred[0].numel()
        usual = (level > 1e-12) & (level < 1e9)  # fourth powers are summed, in float32
        if not bool(usual.all()):
            centred, scale = _scaled(centred, usual)
            found = _products(centred, mean, scale, wanted)
    largest = mean.abs().amax((1, 2))
    rest = torch.stack([largest, scale[:, 0, 0]], 1).double()
    return torch.cat([found[:, :5], rest, found[:, 5:]], 1)


def _scaled(centred: Tensor, usual: Tensor | None) -> tuple[Tensor, Tensor]:
    """Matrices divided by their largest magnitude, but for the usual ones and those of zeros."""
    largest = centred.abs().amax((1, 2), keepdim=True)
    keep = largest == 0
    if usual is not None:
        keep |= usual[:, None, None]
    scale = torch.where(keep, torch.ones_like(largest), largest)
    return centred / scale, scale


def _products(
    centred: Tensor,
    mean: Tensor,
    scale: Tensor,
    wanted: _Wanted,
    panels: list[Tensor] | None = None,
) -> Tensor:
    """(matrices, 5): the first five of the moments; of an estimate (1, 7), with the errors."""
    if wanted.projections is not None:
        return _estimated(centred, mean / scale, wanted, wanted.projections)
    count, rows, channels = centred.shape
    zero = torch.zeros(count, dtype=torch.float64, device=centred.device)
    square = within = correlated = varying = zero
    if rows >= channels:
        panels = panels or _panels(centred)
        columns = torch.cat([p.diagonal(dim1=1, dim2=2) for p in panels], 1)
        if wanted.covariance:
            square = _symmetric_square_sum(panels)
        if wanted.correlation:
            inverse = _inverse_lengths(columns, mean / scale, rows)
            correlated = _symmetric_square_sum(_between_units(panels, inverse))
            varying = (inverse > 0).sum(1, dtype=torch.float64)
    else:
        columns = torch.linalg.vector_norm(centred, dim=1).square_()
        if wanted.covariance:
            square = _symmetric_square_sum(_panels(centred.transpose(1, 2)))
        if wanted.correlation:
            inverse = _inverse_lengths(columns, mean / scale, rows)
            units = (centred * inverse[:, None]).transpose(1, 2)
            correlated = _symmetric_square_sum(_panels(units))
            varying = (inverse > 0).sum(1, dtype=torch.float64)
    if wanted.covariance and wanted.samples > 1:
        within = _square_within(centred, wanted.samples)
    return torch.stack([columns.sum(1, dtype=torch.float64), square, within, correlated, varying], 1)


def _estimated(centred: Tensor, mean: Tensor, wanted: _Wanted, projections: Projections) -> Tensor:
    """(1, 7): the first five of the moments, and the standard errors."""
    columns = torch.linalg.vector_norm(centred, dim=1).square_()
    projected = projections.of(centred[0], wanted.samples)
    zero = torch.zeros(1, dtype=torch.float64, device=centred.device)
    square, within, error = estimate(projected) if wanted.covariance else (zero, zero, zero)
    correlated = varying = correlated_error = zero
    if wanted.correlation:
        inverse = _inverse_lengths(columns, mean, centred.shape[1])
        correlated, _, correlated_error = estimate(projected * inverse)
        varying = (inverse > 0).sum(1, dtype=torch.float64)
    trace = columns.sum(1, dtype=torch.float64)
    return torch.stack([trace, square, within, correlated, varying, error, correlated_error], 1)


def _panels(x: Tensor) -> list[Tensor]:
    """x^T x, (matrices, columns, columns), as panels of rows from the diagonal to the right."""
    columns = x.shape[2]
    count = (
        1 if not _is_looked_at(x) else min(max(columns // _PANEL, 1), _PANELS)
    )  # there, calls are what costs
    starts = [columns * i // count for i in range(count + 1)]
    wide = x.transpose(1, 2)
    pairs = ((wide[:, a:b], x[:, :, a:]) for a, b in itertools.pairwise(starts))
    if len(x) == 1:
        return [torch.mm(left[0], right[0])[None] for left, right in pairs]
    return [torch.bmm(left, right) for left, right in pairs]


def panels_of(x: Tensor) -> list[Tensor]:
    """x^T x of one matrix as panels, each (1, columns of the panel, columns from it on)."""
    return _panels(x[None])


def full(panels: list[Tensor]) -> Tensor:
    """The symmetric matrix of panels, (columns, columns)."""
    found = panels[0].new_empty(panels[0].shape[2], panels[0].shape[2])
    start = 0
    for panel in panels:
        stop = start + panel.shape[1]
        found[start:stop, start:] = panel[0]
        found[start:, start:stop] = panel[0].T
        start = stop
    return found


def _symmetric_square_sum(panels: list[Tensor]) -> Tensor:
    """The sum of squares of a symmetric matrix given as panels."""
    if len(panels) == 1:
        return square_sum(panels[0])
    total = 2 * square_sum(panels[0]) - square_sum(panels[0][:, :, : panels[0].shape[1]])
    for panel in panels[1:]:
        total += 2 * square_sum(panel) - square_sum(panel[:, :, : panel.shape[1]])
    return total


def _between_units(panels: list[Tensor], inverse: Tensor) -> list[Tensor]:
    """Panels of inner products of columns scaled by ``inverse``, in place."""
    scaled, start = [], 0
    for panel in panels:
        stop = start + panel.shape[1]
        scaled.append(panel.mul_(inverse[:, start:stop, None]).mul_(inverse[:, None, start:]))
        start = stop
    return scaled


def _inverse_lengths(squares: Tensor, mean: Tensor, rows: int) -> Tensor:
    """1 / length of each column; 0 for those that vary by no more than round-off."""
    noise = 16 * torch.finfo(squares.dtype).eps * mean[:, 0].abs()
    deviation = (squares / rows).sqrt()
    varies = (deviation > noise) & (squares > torch.finfo(squares.dtype).tiny)
    return torch.where(varies, squares.rsqrt(), torch.zeros_like(squares))


def _square_within(centred: Tensor, samples: int) -> Tensor:
    """The sum over the samples of ||X_s^T X_s||_F^2."""
    count, rows, channels = centred.shape
    parts = centred.reshape(count * samples, rows // samples, channels)
    if parts.shape[1] < channels:
        parts = parts.transpose(1, 2)
    products = torch.bmm(parts.transpose(1, 2), parts)
    return square_sum(products).reshape(count, samples).sum(1)


def square_sum(x: Tensor) -> Tensor:
    """(matrices,): sums of squares in the dtype of x over runs of elements, in float64 over the runs."""
    flat = x.reshape(len(x), -1)
    if not _is_looked_at(x):
        wide: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
        return wide.square_()
    whole = flat.shape[1] // _RUN * _RUN
    total: Tensor = torch.linalg.vector_norm(flat[:, whole:], dim=1).double().square_()
    if whole:
        runs = torch.linalg.vector_norm(flat[:, :whole].reshape(len(x), -1, _RUN), dim=2)
        total += runs.double().square_().sum(1)
    return total


def as_rows(x: Tensor, channel_axes: tuple[int, ...]) -> Tensor:
    """Reshape an activation to (rows, channels): the channel axes last, all others flattened."""
    axes = [a % x.dim() for a in channel_axes]
    order = [a for a in range(x.dim()) if a not in axes]
    channels = math.prod(x.shape[a] for a in axes)
    if order == list(range(x.dim() - len(axes))):
        return x.reshape(-1, channels)
    # Channels outermost in memory, so that the copy and sums over rows access contiguous memory.
    return x.permute(*axes, *order).reshape(channels, -1).T


def gradient_moments(gradients: Tensor) -> Tensor:
    """Population standard deviation and largest magnitude of each gradient.

    On the CPU the mean is subtracted first only where it is large beside the deviation. Cost there: three
    passes over the gradient, no copy of it.

    Args:
        gradients: (gradients, elements), floating point, at least one element.

    Returns:
        (gradients, 2), float64; not finite where an element is not.
    """
    size = gradients.shape[1]
    low, high = torch.aminmax(gradients) if len(gradients) == 1 else torch.aminmax(gradients, dim=1)
    largest = torch.maximum(-low, high).reshape(-1)
    least, most = _SQUARABLE
    fits = (largest > least) & (largest < most)
    scale = torch.where(fits | (largest == 0), torch.ones_like(largest), largest)
    if not _is_looked_at(gradients):
        std = torch.std(gradients / scale[:, None], dim=1, correction=0)
        return torch.stack([std.double() * scale, largest.double()], 1)
    if not bool(fits.all()):
        gradients = gradients / scale[:, None]
    mean = gradients.mean(1)
    square = mean.double().square()
    variance = square_sum(gradients) / size - square
    if not bool((variance >= 100 * square).all()):
        variance = square_sum(gradients - mean[:, None]) / size
    std = variance.clamp(min=0).sqrt() * scale
    return torch.stack([std, largest.double()], 1)
