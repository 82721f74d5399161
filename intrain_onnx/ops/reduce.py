"""Reductions: their axes are an input in newer versions, an attribute in older ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import UNSIGNED, from_front, ints

Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _reduced(
    function: Reduction, data: Tensor, axes: Tensor | list[int] | None, keepdims: int, noop: int = 0
) -> Tensor:
    """Reduce the given axes; without any, all of them, or none where ``noop``.

    ``function`` gets float64 or int64 for integers, and its result is cast back.
    """
    chosen = [] if axes is None else from_front(ints(axes), data.dim())
    if not chosen and not noop:
        chosen = list(range(data.dim()))
    if not chosen:  # an empty list of axes means all of them to torch
        return _reduced(function, data.unsqueeze(0), [0], 0)
    return function(data, chosen, bool(keepdims)).to(data.dtype)


def _real(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.double()


def _computable(x: Tensor) -> Tensor:
    return x.to(torch.int64) if x.dtype in UNSIGNED else x


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _computable(x).sum(axes, keep)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _real(x).mean(axes, keep)


def _sum_absolute(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _computable(x).abs().sum(axes, keep)


def _sum_square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _computable(x).square().sum(axes, keep)


def _norm(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(_real(x), 2, axes, keep)
    return norm


def _log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return _real(x).sum(axes, keep).log()


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(_real(x), axes, keep)


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = _computable(x).prod(axis, keepdim=keep)
    return x


def _largest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if any(x.shape[axis] == 0 for axis in axes):
        return _empty_extreme(x, axes, keep, largest=True)
    return torch.amax(_computable(x), axes, keep)


def _smallest(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    if any(x.shape[axis] == 0 for axis in axes):
        return _empty_extreme(x, axes, keep, largest=False)
    return torch.amin(_computable(x), axes, keep)


def _empty_extreme(x: Tensor, axes: list[int], keep: bool, *, largest: bool) -> Tensor:
    """The identity element of max or min, the result of a reduction over no elements."""
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
    if x.is_floating_point():
        return torch.full(shape, -math.inf if largest else math.inf, dtype=x.dtype, device=x.device)
    if x.dtype == torch.bool:
        return torch.full(shape, not largest, dtype=x.dtype, device=x.device)
    bounds = torch.iinfo(x.dtype)
    wide = torch.full(shape, bounds.min if largest else bounds.max, dtype=torch.int64, device=x.device)
    return wide.to(x.dtype)


@op("ReduceL1", 18)
def reduce_l1(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Sum of absolute values."""
    return _reduced(_sum_absolute, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceL1", 1, 11, 13)
def reduce_l1_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Sum of absolute values."""
    return _reduced(_sum_absolute, data, axes, keepdims)


@op("ReduceL2", 18)
def reduce_l2(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Root of the sum of squares."""
    return _reduced(_norm, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceL2", 1, 11, 13)
def reduce_l2_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Root of the sum of squares."""
    return _reduced(_norm, data, axes, keepdims)


@op("ReduceLogSum", 18, 28)
def reduce_log_sum(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Logarithm of the sum."""
    return _reduced(_log_sum, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceLogSum", 1, 11, 13)
def reduce_log_sum_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Logarithm of the sum."""
    return _reduced(_log_sum, data, axes, keepdims)


@op("ReduceLogSumExp", 18, 28)
def reduce_log_sum_exp(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Logarithm of the sum of exponentials."""
    return _reduced(_log_sum_exp, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceLogSumExp", 1, 11, 13)
def reduce_log_sum_exp_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Logarithm of the sum of exponentials."""
    return _reduced(_log_sum_exp, data, axes, keepdims)


@op("ReduceMax", 18, 20)
def reduce_max(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """The largest."""
    return _reduced(_largest, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceMax", 1, 11, 12, 13)
def reduce_max_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """The largest."""
    return _reduced(_largest, data, axes, keepdims)


@op("ReduceMean", 18)
def reduce_mean(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Arithmetic mean."""
    return _reduced(_mean, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceMean", 1, 11, 13)
def reduce_mean_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Arithmetic mean."""
    return _reduced(_mean, data, axes, keepdims)


@op("ReduceMin", 18, 20)
def reduce_min(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """The smallest."""
    return _reduced(_smallest, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceMin", 1, 11, 12, 13)
def reduce_min_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """The smallest."""
    return _reduced(_smallest, data, axes, keepdims)


@op("ReduceProd", 18)
def reduce_prod(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Product."""
    return _reduced(_product, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceProd", 1, 11, 13)
def reduce_prod_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Product."""
    return _reduced(_product, data, axes, keepdims)


@op("ReduceSum", 13)
def reduce_sum(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Sum."""
    return _reduced(_sum, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceSum", 1, 11)
def reduce_sum_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Sum."""
    return _reduced(_sum, data, axes, keepdims)


@op("ReduceSumSquare", 18)
def reduce_sum_square(
    data: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Sum of squares."""
    return _reduced(_sum_square, data, axes, keepdims, noop_with_empty_axes)


@op("ReduceSumSquare", 1, 11, 13)
def reduce_sum_square_attribute(data: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Sum of squares."""
    return _reduced(_sum_square, data, axes, keepdims)
