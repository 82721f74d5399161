"""Participation ratio and gradient statistics: pure functions of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intrain_onnx.measure.trace import GradientStatistics, Participation

_RUN = 4096
"""Elements summed in float32 before the partial sums are added in float64: relative error below 1e-6."""

_AMPLE = 16
"""Rows for each channel from which on the bias of the ratio is below some percent."""

_BLOCK = 64
"""Fewest columns of a block for which a matrix product is still efficient."""


def participation_ratio(x: Tensor, samples: int = 1) -> Participation:
    """Participation ratio of the covariance of the rows of ``x``: (sum of eigenvalues)^2 / sum of squares.

    Formula: PR(S) = (tr S)^2 / tr(S^2) = exp(order-2 Renyi entropy of the normalised spectrum). No
    eigenvalues are needed: with X the centred data, tr(S^2) is proportional to ||X^T X||_F^2 = ||X X^T||_F^2,
    and the smaller of the two products is formed. Cost: rows * channels * min(rows, channels)
    multiplications and one centred copy. Products in the dtype of x, sums in float64.

    Unchanged by shifts, rotations and uniform scaling of the channels. Biased low: isotropic data of n rows
    in C channels give about n * C / (n + C). ``corrected`` divides that out: see `_over_samples` for few rows
    of several samples. Otherwise for independent Gaussian rows (Srivastava 2005, unbiased estimates of tr S
    and tr S^2); rows of one image are not independent, and it then corrects too little.

    Args:
        x: (rows, channels), floating point.
        samples: independent parts of equal length that the rows consist of, in order; 1 if that is unknown.

    Raises:
        ValueError: fewer than two rows, no channels, or a value that is not finite.
    """
    rows, channels = x.shape
    if rows < 2 or channels < 1:
        raise ValueError(f"a covariance needs at least two rows and one channel, got {tuple(x.shape)}")
    mean = x.mean(0)
    centred = x - mean
    trace = _square_sum(centred)
    if not 1e-12 < trace / x.numel() < 1e9:  # fourth powers are summed below, in float32
        largest = centred.abs().amax().item()
        if not math.isfinite(largest):
            raise ValueError("the activations are not all finite")
        if largest > 0:
            centred /= largest
            mean = mean / largest
            trace = _square_sum(centred)
    noise = 4 * torch.finfo(x.dtype).eps * mean.abs().amax().item()
    if math.sqrt(trace / x.numel()) <= noise or trace == 0.0:
        return Participation(None, None)
    trace_of_square = _gram_square_sum(centred if rows >= channels else centred.T)
    ratio = min(max(trace**2 / trace_of_square, 1.0), float(min(rows - 1, channels)))
    if 1 < samples < rows < _AMPLE * channels and rows % samples == 0:
        return Participation(ratio, _over_samples(centred, trace, trace_of_square, samples))
    return Participation(ratio, _corrected(trace, trace_of_square, rows - 1, channels))


def _over_samples(centred: Tensor, trace: float, trace_of_square: float, samples: int) -> float:
    """Corrected ratio of rows of which only those of different samples are independent.

    The square of a covariance is a mean over pairs of rows of squared inner products. Pairs within a sample
    (the same row, or neighbours in an image) make it too large when there are few samples; the U-statistic
    leaves them out. What is left of the bias is that of the common mean, of the order of 1 / samples.
    """
    channels = centred.shape[1]
    parts = centred.reshape(samples, -1, channels)
    wide = parts.shape[1] < channels
    within = math.fsum(_gram_square_sum(part.T if wide else part) for part in parts)
    square = (trace_of_square - within) / (1 - 1 / samples)
    return min(max(trace**2 / square, 1.0), float(channels)) if square > 0 else float(channels)


def standardised_ratio(x: Tensor) -> float | None:
    """Participation ratio of the correlation matrix of the columns of ``x``; None if no column varies.

    Formula: C^2 / sum of squared correlations, C the number of columns that vary. Computed from ``x^T x`` if
    all means are below 10 standard deviations, which is accurate enough; else from `unit_variance`.

    Args:
        x: (rows, channels), floating point.

    Raises:
        ValueError: see `participation_ratio`.
    """
    rows, channels = x.shape
    if rows >= channels:
        mean = x.mean(0)
        covariance = (x.T @ x).div_(rows).addr_(mean, mean, alpha=-1)
        variance = covariance.diagonal()
        limit = torch.maximum(mean.square() * 0.01, torch.full_like(mean, 1e-12))
        if bool(((variance > limit) & (variance < 1e12)).all()):
            weights = variance.double().reciprocal()
            total = (weights @ covariance.square_().double() @ weights).item()
            return min(max(channels**2 / total, 1.0), float(min(rows - 1, channels)))
    scaled = unit_variance(x)
    return participation_ratio(scaled).ratio if scaled.shape[1] else None


def unit_variance(x: Tensor) -> Tensor:
    """Standardise the channels of ``x`` to zero mean and unit variance; constant ones are dropped.

    The participation ratio of the result is that of the correlation matrix: unlike that of the covariance, it
    is invariant to the scale of a channel, which the weights of the next layer can undo.

    Args:
        x: (rows, channels), floating point.

    Returns:
        (rows, channels that vary), centred.
    """
    variance, mean = torch.var_mean(x, 0, correction=0)
    std = variance.sqrt_()
    eps = torch.finfo(x.dtype).eps
    if not bool(((std > 1e-15) & (std < 1e15) & (std > 16 * eps * mean.abs())).all()):
        return _unit_variance_of_extremes(x, mean, 16 * eps)
    return (x - mean).div_(std)


def _unit_variance_of_extremes(x: Tensor, mean: Tensor, noise: float) -> Tensor:
    """The same for constant channels, and for those whose squares overflow or underflow."""
    centred = x - mean
    largest = centred.abs().amax(0)
    varies = largest > noise * mean.abs()
    centred = centred[:, varies] / largest[varies]
    return centred / centred.square().mean(0).sqrt()


def _corrected(trace: float, trace_of_square: float, freedom: int, channels: int) -> float | None:
    squared_trace = (freedom + 1) * trace**2 - 2 * trace_of_square
    square = freedom * trace_of_square - trace**2
    if freedom < 2 or square <= 0:
        return None
    return min(max(squared_trace / square, 1.0), float(channels))


def _gram_square_sum(x: Tensor) -> float:
    """||x^T x||_F^2 for a matrix with at least as many rows as columns.

    The product is symmetric: three of its four blocks are computed. Finer blocks cost more than they save.
    """
    if x.shape[1] < 2 * _BLOCK:
        return _square_sum(x.T @ x)
    left, right = x.tensor_split(2, dim=1)
    return _square_sum(left.T @ left) + 2 * _square_sum(left.T @ right) + _square_sum(right.T @ right)


def _square_sum(x: Tensor) -> float:
    """Sum of squares: blocks of 4,096 elements in the dtype of x, their sums in float64."""
    flat = x.T.reshape(-1) if x.dim() == 2 and x.stride(0) < x.stride(1) else x.reshape(-1)
    whole = flat.numel() // _RUN * _RUN
    total = 0.0
    if whole:
        runs = torch.linalg.vector_norm(flat[:whole].view(-1, _RUN), dim=1)
        total = torch.linalg.vector_norm(runs, dtype=torch.float64).item() ** 2
    if whole < flat.numel():
        total += torch.linalg.vector_norm(flat[whole:]).item() ** 2
    return total


def gradient_statistics(gradient: Tensor) -> GradientStatistics:
    """Standard deviation and largest magnitude of a gradient; not finite if the gradient is not.

    Cost: two passes over the gradient, no copy of it.
    """
    size = gradient.numel()
    low, high = torch.aminmax(gradient)
    largest = max(abs(low.item()), abs(high.item()))
    if not math.isfinite(largest):
        return GradientStatistics(math.nan, largest, size)
    if not 1e-15 < largest < 1e15:  # squares would leave the range of float32
        scale = largest or 1.0
        return GradientStatistics(_std(gradient / scale) * scale, largest, size)
    return GradientStatistics(_std(gradient), largest, size)


def _std(x: Tensor) -> float:
    """Population standard deviation; the two-pass formula, with a centred copy, only for large means."""
    mean = x.mean().item()
    variance = _square_sum(x) / x.numel() - mean**2
    if variance < 100 * mean**2:
        variance = _square_sum(x - x.mean()) / x.numel()
    return math.sqrt(max(variance, 0.0))
