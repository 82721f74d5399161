"""Participation ratio and gradient statistics, from moments and of single tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intrain_onnx.measure.statistics.moments import (
    Moments,
    gradient_moments,
    leaves_pairs_out,
    second_moments,
)
from intrain_onnx.measure.trace import GradientStatistics, Participation


def participation_ratio(x: Tensor, samples: int = 1) -> Participation:
    """Participation ratio of the covariance of the rows of ``x``: (sum of eigenvalues)^2 / sum of squares.

    Formula: PR(S) = (tr S)^2 / tr(S^2) = exp(order-2 Renyi entropy of the normalised spectrum). No
    eigenvalues are needed: with X the centred data, tr(S^2) is proportional to ||X^T X||_F^2 = ||X X^T||_F^2
    (see `second_moments`).

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
    (numbers,) = second_moments(x[None], samples).tolist()
    return participation(Moments(*numbers), rows, channels, samples, torch.finfo(x.dtype).eps)


def participation(moments: Moments, rows: int, channels: int, samples: int, eps: float) -> Participation:
    """Participation ratio from the moments of a matrix (see `participation_ratio`).

    Args:
        moments: of it.
        rows: of it, at least two.
        channels: of it.
        samples: the same as for the moments.
        eps: machine epsilon of the matrix.

    Raises:
        ValueError: a value of the matrix is not finite.
    """
    trace, square = moments.trace, moments.square
    if not (math.isfinite(trace) and math.isfinite(square) and math.isfinite(moments.mean)):
        raise ValueError("the activations are not all finite")
    deviation = math.sqrt(trace / (rows * channels)) * moments.scale
    if deviation <= 4 * eps * moments.mean or square == 0.0:
        return Participation(None, None)
    ratio = min(max(trace**2 / square, 1.0), float(min(rows - 1, channels)))
    error = moments.square_error / square
    if leaves_pairs_out(samples, rows, channels):
        return Participation(ratio, _over_samples(moments, channels, samples), error)
    return Participation(ratio, _corrected(trace, square, rows - 1, channels), error)


def _over_samples(moments: Moments, channels: int, samples: int) -> float:
    """Corrected ratio of rows of which only those of different samples are independent.

    The square of a covariance is a mean over pairs of rows of squared inner products. Pairs within a sample
    (the same row, or neighbours in an image) make it too large when there are few samples; the U-statistic
    leaves them out. What is left of the bias is that of the common mean, of the order of 1 / samples.
    """
    square = (moments.square - moments.within) / (1 - 1 / samples)
    return min(max(moments.trace**2 / square, 1.0), float(channels)) if square > 0 else float(channels)


def _corrected(trace: float, trace_of_square: float, freedom: int, channels: int) -> float | None:
    squared_trace = (freedom + 1) * trace**2 - 2 * trace_of_square
    square = freedom * trace_of_square - trace**2
    if freedom < 2 or square <= 0:
        return None
    return min(max(squared_trace / square, 1.0), float(channels))


def standardised_ratio(x: Tensor) -> float | None:
    """Participation ratio of the correlation matrix of the columns of ``x``; None if no column varies.

    Unlike that of the covariance, it is invariant to the scale of a channel, which the weights of the next
    layer can undo. Formula: C^2 / sum of squared correlations, C the number of columns that vary.

    Args:
        x: (rows, channels), floating point.

    Raises:
        ValueError: a value is not finite.
    """
    (numbers,) = second_moments(x[None], covariance=False, correlation=True).tolist()
    return standardised(Moments(*numbers), len(x))


def standardised(moments: Moments, rows: int) -> float | None:
    """The same from the moments of a matrix of so many rows.

    Raises:
        ValueError: a value of the matrix is not finite.
    """
    if not (math.isfinite(moments.trace) and math.isfinite(moments.mean)):
        raise ValueError("the activations are not all finite")
    if not moments.varying:
        return None
    most = min(rows - 1, moments.varying)
    return min(max(moments.varying**2 / moments.correlated, 1.0), float(most))


def gradient_statistics(gradient: Tensor) -> GradientStatistics:
    """Standard deviation and largest magnitude of a gradient; not finite if the gradient is not."""
    ((std, largest),) = gradient_moments(gradient.reshape(1, -1)).tolist()
    return GradientStatistics(std, largest, gradient.numel())
