"""Shape, layout and concatenation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import from_front, ints, on_int64


@op("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(x: object) -> object:
    """The input itself: a tensor, a sequence or an optional."""
    return x


@op("Shape", 1, 13, 15, 19, 21, 23, 24, 25)
def shape(data: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The sizes of the axes from ``start`` to before ``end``, as int64."""
    return torch.tensor(data.shape[start:end], dtype=torch.int64, device=data.device)


@op("Size", 1, 13, 19, 21, 23, 24, 25)
def size(data: Tensor) -> Tensor:
    """The number of elements, as an int64 scalar."""
    return torch.tensor(data.numel(), dtype=torch.int64, device=data.device)


@op("Reshape", 5, 13, 14, 19, 21, 23, 24, 25)
def reshape(data: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """Another shape for the same elements; a size of 0 copies the input's unless ``allowzero``."""
    sizes: list[int] = shape.tolist()
    if not allowzero and 0 in sizes:
        sizes = [data.shape[i] if s == 0 else s for i, s in enumerate(sizes)]
    return data.reshape(sizes)


@op("Transpose", 1, 13, 21, 23, 24, 25)
def transpose(data: Tensor, *, perm: list[int] | None = None) -> Tensor:
    """The axes in the order of ``perm``; reversed without it."""
    return data.permute(tuple(range(data.dim() - 1, -1, -1)) if perm is None else perm)


@op("Flatten", 1, 9, 11, 13, 21, 23, 24, 25)
def flatten(data: Tensor, *, axis: int = 1) -> Tensor:
    """A matrix: the axes before ``axis`` become its rows, the others its columns."""
    axis = axis + data.dim() if axis < 0 else axis
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


@op("Squeeze", 13, 21, 23, 24, 25)
def squeeze(data: Tensor, axes: Tensor | None = None) -> Tensor:
    """Remove axes of size 1: those named, or all."""
    return data.squeeze() if axes is None else data.squeeze(ints(axes))


@op("Squeeze", 1, 11)
def squeeze_attribute(data: Tensor, *, axes: list[int] | None = None) -> Tensor:
    """Squeeze whose axes are an attribute."""
    return data.squeeze() if axes is None else data.squeeze(tuple(axes))


@op("Unsqueeze", 13, 21, 23, 24, 25)
def unsqueeze(data: Tensor, axes: Tensor) -> Tensor:
    """Insert axes of size 1, counted in the result."""
    return unsqueeze_attribute(data, axes=ints(axes))


@op("Unsqueeze", 1, 11)
def unsqueeze_attribute(data: Tensor, *, axes: list[int]) -> Tensor:
    """Unsqueeze whose axes are an attribute."""
    for axis in sorted(from_front(axes, data.dim() + len(axes))):
        data = data.unsqueeze(axis)
    return data


@op("Concat", 4, 11, 13)
def concat(*inputs: Tensor, axis: int) -> Tensor:
    """Concatenate the inputs along an axis."""
    return torch.cat(inputs, axis)


@op("Split", 13)
def split(data: Tensor, split: Tensor | None = None, *, n_outputs: int, axis: int = 0) -> tuple[Tensor, ...]:
    """Parts along an axis: of the given sizes, or equal ones."""
    return split_attribute(data, split=None if split is None else ints(split), axis=axis, n_outputs=n_outputs)


@op("Split", 2, 11)
def split_attribute(
    data: Tensor, *, n_outputs: int, axis: int = 0, split: list[int] | None = None
) -> tuple[Tensor, ...]:
    """Split whose sizes are an attribute."""
    return torch.split(data, data.shape[axis] // n_outputs if split is None else list(split), axis)


@op("Split", 18)
def split_uneven(
    data: Tensor,
    split: Tensor | None = None,
    *,
    n_outputs: int,
    axis: int = 0,
    num_outputs: int | None = None,
) -> tuple[Tensor, ...]:
    """Split whose last part may be smaller than the others."""
    if split is not None:
        return torch.split(data, ints(split), axis)
    count, total = num_outputs or n_outputs, data.shape[axis]
    part = -(-total // count)
    return torch.split(data, [min(part, max(total - i * part, 0)) for i in range(count)], axis)


@op("Slice", 10, 11, 13)
def slice_(
    data: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Every ``step``-th element from start to before end, backwards for a negative step."""
    begin, stop = ints(starts), ints(ends)
    where = list(range(len(begin))) if axes is None else ints(axes)
    step = [1] * len(begin) if steps is None else ints(steps)
    for axis, one in zip(where, zip(begin, stop, step, strict=True), strict=True):
        data = _slice_axis(data, axis, slice(*one))
    return data


@op("Slice", 1)
def slice_attribute(
    data: Tensor, *, starts: list[int], ends: list[int], axes: list[int] | None = None
) -> Tensor:
    """Slice whose bounds are attributes."""
    where = range(len(starts)) if axes is None else axes
    for axis, start, end in zip(where, starts, ends, strict=True):
        data = _slice_axis(data, axis, slice(start, end))
    return data


def _slice_axis(data: Tensor, axis: int, one: slice) -> Tensor:
    size = data.shape[axis]
    start, stop, step = one.indices(size)
    if step < 0:
        if size == 0:
            return data
        start = max(start, 0)  # ONNX clamps a start before the first element, Python does not
        return data.index_select(axis, torch.arange(start, min(stop, start), step, device=data.device))
    index: list[slice] = [slice(None)] * data.dim()
    index[axis] = slice(start, max(start, stop), step)
    return data[tuple(index)]


@op("Expand", 8, 13)
def expand(data: Tensor, shape: Tensor) -> Tensor:
    """The input broadcast with a shape, bidirectionally."""
    sizes: torch.Size = torch.broadcast_shapes(data.shape, ints(shape))
    check_elements(sizes)
    return data.expand(sizes)


@op("Tile", 6, 13)
def tile(data: Tensor, repeats: Tensor) -> Tensor:
    """The input repeated along every axis."""
    counts = ints(repeats)
    check_elements(n * count for n, count in zip(data.shape, counts, strict=True))
    return data.repeat(counts)


@op("DepthToSpace", 1, 11, 13, 28)
def depth_to_space(data: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Rearrange channels into spatial blocks of ``blocksize`` squared elements."""
    if mode == "CRD":
        return F.pixel_shuffle(data, blocksize)
    n, channels, height, width = data.shape
    depth = channels // blocksize**2
    blocks = data.reshape(n, blocksize, blocksize, depth, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, depth, height * blocksize, width * blocksize)


@op("SpaceToDepth", 1, 13, 28)
def space_to_depth(data: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Rearrange spatial blocks of ``blocksize`` squared elements into channels."""
    if mode == "CRD":
        return F.pixel_unshuffle(data, blocksize)
    n, depth, height, width = data.shape
    rows, columns = height // blocksize, width // blocksize
    blocks = data.reshape(n, depth, rows, blocksize, columns, blocksize).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, depth * blocksize**2, rows, columns)


@op("Trilu", 14)
@on_int64
def trilu(x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """The triangle of each matrix on one side of its k-th diagonal, the rest 0."""
    diagonal = 0 if k is None else int(k.item())
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)
