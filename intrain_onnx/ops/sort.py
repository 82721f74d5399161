"""Arg max and min, top k, distinct values, cumulative sums and products."""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import UNSIGNED, on_int64


@op("ArgMax", 1, 11)
def arg_max(data: Tensor, *, axis: int = 0, keepdims: int = 1) -> Tensor:
    """Index of the first maximum along an axis."""
    return torch.argmax(_comparable(data), axis, bool(keepdims))


@op("ArgMin", 1, 11)
def arg_min(data: Tensor, *, axis: int = 0, keepdims: int = 1) -> Tensor:
    """Index of the first minimum along an axis."""
    return torch.argmin(_comparable(data), axis, bool(keepdims))


@op("ArgMax", 12, 13)
def arg_max_either(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Index of the first or last maximum along an axis."""
    if not select_last_index:
        return arg_max(data, axis=axis, keepdims=keepdims)
    return data.shape[axis] - 1 - arg_max(_comparable(data).flip(axis), axis=axis, keepdims=keepdims)


@op("ArgMin", 12, 13)
def arg_min_either(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Index of the first or last minimum along an axis."""
    if not select_last_index:
        return arg_min(data, axis=axis, keepdims=keepdims)
    return data.shape[axis] - 1 - arg_min(_comparable(data).flip(axis), axis=axis, keepdims=keepdims)


def _comparable(data: Tensor) -> Tensor:
    return data.to(torch.int64) if data.dtype in UNSIGNED else data


@op("TopK", 11, 24)
def top_k(
    x: Tensor, k: Tensor, *, n_outputs: int, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    """The k largest or smallest along an axis and their indices; stable for equal values."""
    count = int(k.reshape(-1)[0])
    if not 0 <= count <= x.shape[axis]:
        raise IndexError(f"k = {count} does not fit an axis of {x.shape[axis]}")
    values, indices = torch.sort(_comparable(x), dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, count).to(x.dtype), indices.narrow(axis, 0, count)


@op("TopK", 10)
def top_k_largest(x: Tensor, k: Tensor, *, n_outputs: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest along an axis."""
    return top_k(x, k, n_outputs=n_outputs, axis=axis)


@op("TopK", 1)
def top_k_attribute(x: Tensor, *, n_outputs: int, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest along an axis, k being an attribute."""
    return top_k(x, torch.tensor(k), n_outputs=n_outputs, axis=axis)


@op("Unique", 11, 28)
def unique(
    x: Tensor, *, n_outputs: int, axis: int | None = None, sorted: int = 1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distinct values (or slices of an axis), the first index, the inverse and the count of each."""
    source = x.reshape(-1) if axis is None else x
    along = 0 if axis is None else axis
    _, inverse, counts = torch.unique(_comparable(source), return_inverse=True, return_counts=True, dim=along)
    places = torch.arange(inverse.numel(), device=x.device)
    first = torch.full_like(counts, inverse.numel()).scatter_reduce(0, inverse, places, "amin")
    if not sorted:
        order = torch.argsort(first)
        rank = torch.argsort(order)
        first, counts, inverse = first[order], counts[order], rank[inverse]
    return source.index_select(along, first), first, inverse, counts


@on_int64
def _cumulative(x: Tensor, axis: Tensor, exclusive: int, reverse: int, start: int) -> Tensor:
    """Cumulative sum (start 0) or product (start 1) along an axis."""
    along = int(axis.item())
    x = x.flip(along) if reverse else x
    if exclusive:
        first = torch.full_like(x.narrow(along, 0, min(1, x.shape[along])), start)
        x = torch.cat([first, x.narrow(along, 0, max(x.shape[along] - 1, 0))], along)
    total = torch.cumprod(x, along, dtype=x.dtype) if start else torch.cumsum(x, along, dtype=x.dtype)
    return total.flip(along) if reverse else total


@op("CumSum", 11, 14)
def cum_sum(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Cumulative sum along an axis, without the current element if ``exclusive``."""
    return _cumulative(x, axis, exclusive, reverse, 0)


@op("CumProd", 26)
def cum_prod(x: Tensor, axis: Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Cumulative product along an axis, without the current element if ``exclusive``."""
    return _cumulative(x, axis, exclusive, reverse, 1)
