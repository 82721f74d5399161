"""The numbers: pure functions of tensors. Nothing here knows of ONNX or of a graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intrain_onnx.trace import GradientStatistics, Participation


def participation_ratio(x: Tensor) -> Participation:
    """Participation ratio of the covariance of the rows of ``x``: (sum of eigenvalues)^2 / sum of squares.

    Formula: PR(S) = (tr S)^2 / tr(S^2) = exp(order-2 Renyi entropy of the normalised spectrum). No
    eigenvalues are needed: with X the centred data, tr(S^2) is proportional to ||X^T X||_F^2 = ||X X^T||_F^2,
    and the smaller of the two products is formed. Cost: rows * channels * min(rows, channels)
    multiplications and one centred copy. Products in the dtype of x, sums in float64.

    Unchanged by shifts, rotations and uniform scaling of the channels. Biased low: isotropic data of n rows
    in C channels give about n * C / (n + C). ``corrected`` divides that out for independent Gaussian rows
    (Srivastava 2005, unbiased estimates of tr S and tr S^2); rows that are pixels of one image are
    not independent, and it then corrects too little.

    Args:
        x: (rows, channels), floating point.

    Raises:
        ValueError: fewer than two rows, no channels, or a value that is not finite.
    """
    rows, channels = x.shape
    if rows < 2 or channels < 1:
        raise ValueError(f"a covariance needs at least two rows and one channel, got {tuple(x.shape)}")
    centred = x - x.mean(0)
    largest = centred.abs().amax().item()
    if not math.isfinite(largest):
        raise ValueError("the activations are not all finite")
    noise = torch.finfo(x.dtype).eps * x.abs().amax().item() * 4
    if largest <= noise:
        return Participation(None, None)
    if not 1e-6 < largest < 1e6:  # the products below would leave the range of float32
        centred /= largest
    trace = _square_sum(centred)
    product = centred.T @ centred if rows >= channels else centred @ centred.T
    trace_of_square = _square_sum(product)
    ratio = min(max(trace**2 / trace_of_square, 1.0), float(min(rows - 1, channels)))
    return Participation(ratio, _corrected(trace, trace_of_square, rows - 1, channels))


def _corrected(trace: float, trace_of_square: float, freedom: int, channels: int) -> float | None:
    squared_trace = (freedom + 1) * trace**2 - 2 * trace_of_square
    square = freedom * trace_of_square - trace**2
    if freedom < 2 or square <= 0:
        return None
    return min(max(squared_trace / square, 1.0), float(channels))


def _square_sum(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64).item() ** 2)


def gradient_statistics(gradient: Tensor) -> GradientStatistics:
    """Statistics that the health of a gradient is made from; not finite where the gradient is not.

    Cost: two passes over the gradient, no copy of it.
    """
    low, high = torch.aminmax(gradient)
    largest = torch.maximum(low.abs(), high.abs()).double().item()
    if not math.isfinite(largest):
        return GradientStatistics(math.nan, largest)
    if largest and not 1e-15 < largest < 1e15:  # squares would leave the range of float32
        return GradientStatistics((gradient / largest).std(correction=0).double().item() * largest, largest)
    return GradientStatistics(gradient.std(correction=0).double().item(), largest)
