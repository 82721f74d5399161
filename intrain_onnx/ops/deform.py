"""Deformable convolution."""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.window import Ints, Window, window


@op("DeformConv", 19, 22)
def deform_conv(
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    offset_group: int = 1,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """2-D convolution whose taps are moved by ``offset`` and weighted by ``mask``."""
    if x.dim() != 4:
        raise UnsupportedError(f"only 2-D deformable convolution can run, not on shape {tuple(x.shape)}")
    win = window(x, w.shape[2:], strides, dilations, pads, "NOTSET")
    n, channels = x.shape[:2]
    taps, (rows, columns) = w.shape[2] * w.shape[3], offset.shape[2:]
    row, column = _sampling_points(offset.reshape(n * offset_group, taps, 2, rows, columns), win)
    images = x.reshape(n * offset_group, channels // offset_group, *x.shape[2:])
    samples = bilinear(images, row.flatten(1), column.flatten(1))
    samples = samples.reshape(n, offset_group, channels // offset_group, taps, rows * columns)
    if mask is not None:
        samples = samples * mask.reshape(n, offset_group, 1, taps, rows * columns)
    samples = samples.reshape(n, group, channels // group * taps, rows * columns)
    kernels = w.reshape(group, w.shape[0] // group, -1)
    y = torch.matmul(kernels, samples).reshape(n, w.shape[0], rows, columns)
    return y if b is None else y + b.reshape(-1, 1, 1)


def _sampling_points(offset: Tensor, win: Window) -> list[Tensor]:
    """Row and column that each tap of each output samples, in pixels."""
    points = []
    for axis in (0, 1):
        tap = torch.arange(win.kernel[axis], device=offset.device) * win.dilations[axis]
        tap = tap.repeat_interleave(win.kernel[1]) if axis == 0 else tap.repeat(win.kernel[0])
        start = (
            torch.arange(offset.shape[3 + axis], device=offset.device) * win.strides[axis] - win.begin[axis]
        )
        start = start[:, None] if axis == 0 else start[None, :]
        points.append(offset[:, :, axis] + (tap[:, None, None] + start))
    return points


def bilinear(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Bilinear interpolation of (m, channels, height, width) at (m, points) places, with zero padding.

    Coordinates are pixels: grid_sample's, in [-1, 1], lose digits on large images.
    """
    height, width = images.shape[2:]
    flat = images.flatten(2)
    top, left = row.detach().floor(), column.detach().floor()
    below, right = row - top, column - left
    total = flat.new_zeros(*flat.shape[:2], row.shape[1])
    for y, y_weight in ((top, 1 - below), (top + 1, below)):
        for x, x_weight in ((left, 1 - right), (left + 1, right)):
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long()
            values = flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1))
            total = total + values * (y_weight * x_weight * inside)[:, None]
    return total
