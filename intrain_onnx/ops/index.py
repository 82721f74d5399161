"""Gathering, scattering and selecting by index."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import on_int64, positions

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@op("Gather", 1, 11, 13)
def gather(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Entries of one axis, which is replaced by the axes of the indices."""
    axis = axis + data.dim() if axis < 0 else axis
    if indices.dim() == 0 and indices.device.type == "cpu":  # a view, whose gradient needs no scatter
        return data.select(axis, int(indices))
    picked = positions(indices, data.shape[axis])
    if picked.dim() == 1:
        return data.index_select(axis, picked)
    if picked.dim() == 0:
        return data.index_select(axis, picked).squeeze(axis)
    shape = data.shape[:axis] + picked.shape + data.shape[axis + 1 :]
    return data.index_select(axis, picked.reshape(-1)).reshape(shape)


@op("GatherElements", 11, 13)
def gather_elements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """``out[i] = data[i]``, with the index on ``axis`` replaced by ``indices[i]``."""
    return torch.gather(data, axis, positions(indices, data.shape[axis]))


@op("GatherND", 11, 12, 13)
def gather_nd(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Slices of the data at the index tuples in the last axis of ``indices``, after the batch axes."""
    batch, depth = math.prod(data.shape[:batch_dims]), indices.shape[-1]
    lines = data.reshape(batch, *data.shape[batch_dims:])
    rows = indices.reshape(batch, math.prod(indices.shape[batch_dims:-1]), depth)
    which = torch.arange(batch, device=data.device).unsqueeze(1).expand(rows.shape[:2])
    index = (which, *(positions(rows[..., i], lines.shape[1 + i]) for i in range(depth)))
    return lines[index].reshape(indices.shape[:-1] + data.shape[batch_dims + depth :])


@op("Scatter", 9)
@op("ScatterElements", 11, 13)
def scatter_elements(data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    """A copy with ``out[i] = updates[i]``, the index on ``axis`` replaced by ``indices[i]``."""
    return data.scatter(axis, positions(indices, data.shape[axis]), updates)


@op("ScatterElements", 16, 18)
@on_int64
def scatter_elements_reduced(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    """ScatterElements with a reduction: none, add, mul, max or min."""
    if reduction == "none":
        return scatter_elements(data, indices, updates, axis=axis)
    places = positions(indices, data.shape[axis])
    return data.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction], include_self=True)


@op("ScatterND", 11, 13)
@on_int64
def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """A copy with updates at the index tuples in the last axis of ``indices``."""
    slices, places, values = _slices(data, indices, updates)
    return slices.index_put((places,), values).reshape(data.shape)


@op("ScatterND", 16, 18)
@on_int64
def scatter_nd_reduced(data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """ScatterND with a reduction: none, add, mul, max or min."""
    if reduction == "none":
        return scatter_nd(data, indices, updates)
    slices, places, values = _slices(data, indices, updates)
    if reduction == "add":
        return slices.index_add(0, places, values).reshape(data.shape)
    places = places.reshape([-1] + [1] * (values.dim() - 1)).expand_as(values)
    return slices.scatter_reduce(0, places, values, _REDUCTIONS[reduction], include_self=True).reshape(
        data.shape
    )


def _slices(data: Tensor, indices: Tensor, updates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The data flattened to (slices, ...), the slice index of each update, and the updates flattened."""
    depth = indices.shape[-1]
    tail = data.shape[depth:]
    places = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for i in range(depth):
        places = places * data.shape[i] + positions(indices[..., i], data.shape[i])
    slices = data.reshape(math.prod(data.shape[:depth]), *tail)
    return slices, places.reshape(-1), updates.reshape(places.numel(), *tail)


@op("TensorScatter", 24)
def tensor_scatter(
    past_cache: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Tensor:
    """KV cache update: each batch entry's update at its start position; ``mode`` may be circular."""
    axis = axis + past_cache.dim() if axis < 0 else axis
    batch, size = past_cache.shape[0], past_cache.shape[axis]
    starts = torch.zeros(batch, dtype=torch.int64, device=past_cache.device)
    starts = starts if write_indices is None else write_indices.to(torch.int64)
    places = starts.unsqueeze(1) + torch.arange(update.shape[axis], device=past_cache.device)
    places = places % size if mode == "circular" else places
    shape = [batch if i == 0 else places.shape[1] if i == axis else 1 for i in range(update.dim())]
    return past_cache.scatter(axis, places.reshape(shape).expand_as(update), update)


@op("ReverseSequence", 10, 28)
def reverse_sequence(x: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """Reverse the first ``sequence_lens`` steps of each batch entry."""
    time = torch.arange(x.shape[time_axis], device=x.device).unsqueeze(0)
    lengths = sequence_lens.to(torch.int64).unsqueeze(1)
    source = torch.where(time < lengths, lengths - 1 - time, time)  # (batch, time)
    source = source if batch_axis < time_axis else source.T
    shape = [n if i in (batch_axis, time_axis) else 1 for i, n in enumerate(x.shape)]
    return torch.gather(x, time_axis, source.reshape(shape).expand_as(x))


@op("Compress", 9, 11, 28)
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """The entries of an axis (of the flattened tensor without one) where the condition holds."""
    kept = torch.nonzero(condition).reshape(-1)
    return x.reshape(-1).index_select(0, kept) if axis is None else x.index_select(axis, kept)


@op("NonZero", 9, 13)
def non_zero(x: Tensor) -> Tensor:
    """Indices of the nonzero elements: (rank, count)."""
    return torch.nonzero(x != 0).T.contiguous()
