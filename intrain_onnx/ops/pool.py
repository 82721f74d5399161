"""Pooling over sliding windows and over whole images, and its inverse."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.window import Ints, Window, pad, window

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVG_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@op("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    n_outputs: int,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    storage_order: int = 0,
    strides: Ints | None = None,
) -> tuple[Tensor, ...]:
    """The maximum of each window, and its index in the flattened input."""
    win = window(x, kernel_shape, strides, dilations, pads, auto_pad)
    real = x if x.is_floating_point() else x.float()
    function = _MAX_POOL[len(win.kernel)]
    if n_outputs == 1 and _torch_pads(win):
        y = function(real, win.kernel, win.strides, win.begin, win.dilations, bool(ceil_mode))
        return (y.to(x.dtype),)
    padded = _pad_for_ceil(real, win, ceil_mode, -math.inf)
    y, index = function(padded, win.kernel, win.strides, 0, win.dilations, return_indices=True)
    return y.to(x.dtype), _input_index(index, list(padded.shape[2:]), x, win.begin, storage_order)


def _torch_pads(win: Window) -> bool:
    """Whether torch's pooling supports the padding: symmetric, and at most half a kernel."""
    return win.symmetric and all(2 * p <= k for p, k in zip(win.begin, win.kernel, strict=True))


def _ceil_extra(x: Tensor, win: Window) -> list[int]:
    """Elements beyond the padding that the last window of each axis covers with ``ceil_mode``.

    A window that would begin in the padding at the end is omitted.
    """
    extra = []
    for size, begin, end, stride, extent in zip(
        x.shape[2:], win.begin, win.end, win.strides, win.extents, strict=True
    ):
        count = math.ceil((size + begin + end - extent) / stride) + 1
        if (count - 1) * stride >= size + begin:
            count -= 1
        extra.append(max((count - 1) * stride + extent - (size + begin + end), 0))
    return extra


def _pad_for_ceil(x: Tensor, win: Window, ceil_mode: int, value: float) -> Tensor:
    extra = _ceil_extra(x, win) if ceil_mode else [0] * len(win.end)
    return pad(x, win.begin, [e + v for e, v in zip(win.end, extra, strict=True)], value)


def _input_index(index: Tensor, padded: list[int], x: Tensor, begin: list[int], storage_order: int) -> Tensor:
    """Map indices in a padded channel to indices in the flattened input."""
    positions = []
    for size, offset in zip(reversed(padded), reversed(begin), strict=True):
        positions.append(index % size - offset)
        index = index // size
    sizes = list(x.shape[2:])
    if storage_order:
        sizes.reverse()
    else:
        positions.reverse()
    flat = positions[0]
    for position, size in zip(positions[1:], sizes[1:], strict=True):
        flat = flat * size + position
    channels = torch.arange(x.shape[0] * x.shape[1], device=x.device) * math.prod(sizes)
    return flat + channels.reshape(*x.shape[:2], *[1] * len(sizes))


@op("AveragePool", 1, 7, 10, 11, 19, 22)
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The mean of each window; elements that ``ceil_mode`` adds beyond the padding do not count."""
    win = window(x, kernel_shape, strides, dilations, pads, auto_pad)
    if _torch_pads(win) and set(win.dilations) == {1}:
        return _AVG_POOL[len(win.kernel)](
            x, win.kernel, win.strides, win.begin, bool(ceil_mode), bool(count_include_pad)
        )
    total = _window_sum(_pad_for_ceil(x, win, ceil_mode, 0.0), win)
    counted = x.new_ones(1, 1, *x.shape[2:])
    if count_include_pad:
        counted = pad(counted, win.begin, win.end, 1.0)
        extra = _ceil_extra(x, win) if ceil_mode else [0] * len(win.end)
        counted = pad(counted, [0] * len(extra), extra)
    else:
        counted = _pad_for_ceil(counted, win, ceil_mode, 0.0)
    return total / _window_sum(counted, win)


def _window_sum(x: Tensor, win: Window) -> Tensor:
    if set(win.dilations) == {1}:
        return _AVG_POOL[len(win.kernel)](x, win.kernel, win.strides) * math.prod(win.kernel)
    flat = x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])
    ones = x.new_ones(1, 1, *win.kernel)
    y = _CONV[len(win.kernel)](flat, ones, None, win.strides, 0, win.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


@op("LpPool", 1, 2, 11, 18, 22)
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    p: int = 2,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The p-norm of each window; the gradient of a window of zeros is 0."""
    win = window(x, kernel_shape, strides, dilations, pads, auto_pad)
    total = _window_sum(_pad_for_ceil(x.abs() ** p, win, ceil_mode, 0.0), win)
    zero = total <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, total) ** (1.0 / p))


@op("GlobalAveragePool", 1, 22)
def global_average_pool(x: Tensor) -> Tensor:
    """The mean of each channel."""
    return x.mean(_spatial(x), keepdim=True)


@op("GlobalMaxPool", 1, 22)
def global_max_pool(x: Tensor) -> Tensor:
    """The maximum of each channel."""
    return x.amax(_spatial(x), keepdim=True)


@op("GlobalLpPool", 1, 2, 22)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """The p-norm of each channel."""
    y: Tensor = torch.linalg.vector_norm(x, p, _spatial(x), keepdim=True)
    return y


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


@op("MaxUnpool", 9, 11, 22)
def max_unpool(
    x: Tensor,
    index: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: Ints,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Scatter each value to its MaxPool index, zeros elsewhere; a larger ``output_shape`` pads the end."""
    win = window(x, kernel_shape, strides, None, pads, "NOTSET")
    natural = [
        (n - 1) * s + k - b - e
        for n, s, k, b, e in zip(x.shape[2:], win.strides, win.kernel, win.begin, win.end, strict=True)
    ]
    shape = [*x.shape[:2], *natural]
    check_elements(shape)
    y = x.new_zeros(math.prod(shape)).scatter(0, index.reshape(-1).long(), x.reshape(-1)).reshape(shape)
    if output_shape is None:
        return y
    wanted = [int(v) for v in output_shape.tolist()]
    check_elements(wanted)
    return pad(y, [0] * len(natural), [w - n for w, n in zip(wanted[2:], natural, strict=True)])


@op("MaxRoiPool", 1, 22)
def max_roi_pool(x: Tensor, rois: Tensor, *, pooled_shape: Ints, spatial_scale: float = 1.0) -> Tensor:
    """The largest value in each cell of a grid over each region (batch, x1, y1, x2, y2); 0 if it is empty."""
    outputs = []
    corners = rois[:, 1:] * spatial_scale
    corners = torch.copysign(torch.floor(corners.abs() + 0.5), corners)  # halves away from zero
    for batch, (left, top, right, bottom) in zip(rois[:, 0].tolist(), corners.int().tolist(), strict=True):
        rows = _bins(top, bottom, pooled_shape[0], x.shape[2])
        columns = _bins(left, right, pooled_shape[1], x.shape[3])
        outputs.append(_grid_max(x[int(batch)], rows, columns))
    return torch.stack(outputs) if outputs else x.new_zeros(0, x.shape[1], *pooled_shape)


def _bins(first: int, last: int, count: int, size: int) -> list[tuple[int, int]]:
    width = max(last - first + 1, 1) / count
    ends = [(math.floor(i * width), math.ceil((i + 1) * width)) for i in range(count)]
    return [(min(max(a + first, 0), size), min(max(b + first, 0), size)) for a, b in ends]


def _grid_max(image: Tensor, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> Tensor:
    empty = image.new_zeros(image.shape[0])
    cells = [
        image[:, a:b, c:d].amax((1, 2)) if b > a and d > c else empty for a, b in rows for c, d in columns
    ]
    return torch.stack(cells, 1).reshape(-1, len(rows), len(columns))
