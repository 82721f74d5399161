"""Resize and Upsample as separable resampling: an index vector or a weight matrix for each axis.

That is exact in every mode. Torch's interpolation is used if it computes exactly the same, as it is cheaper.
What depends on sizes alone is computed and memoised with numpy, independent of device and autograd mode.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import from_front, ints

Array = np.ndarray[Any, Any]

_LINEAR = {"bilinear": "linear", "trilinear": "linear"}
_TORCH_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@dataclass(frozen=True, slots=True)
class Sampling:
    """The interpolation of an axis; the fields are Resize's attributes."""

    mode: str = "nearest"
    transform: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis before and after: sizes, scale, and the region of interest (as fractions of the size)."""

    size: int
    target: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)


@op("Resize", 18, 19)
def resize(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Resample some axes, by scales or by sizes."""
    where = list(range(x.dim())) if axes is None else from_front(axes, x.dim())
    lengths = [x.shape[axis] for axis in where]
    if sizes is not None and sizes.numel():
        plan = _by_sizes(lengths, ints(sizes), keep_aspect_ratio_policy)
    elif scales is None:
        raise ValueError("neither scales nor sizes are given")
    else:
        plan = _by_scales(lengths, scales.tolist())
    if coordinate_transformation_mode == "tf_crop_and_resize" and roi is not None:
        bounds: list[float] = roi.tolist()
        plan = [
            Axis(a.size, a.target, a.scale, (start, end))
            for a, start, end in zip(plan, bounds[: len(plan)], bounds[len(plan) :], strict=True)
        ]
    sampling = Sampling(
        _LINEAR.get(mode, mode),
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
    )
    return _resample(x, dict(zip(where, plan, strict=True)), sampling, extrapolation_value)


@op("Resize", 11, 13)
def resize_all(
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Resize that names every axis."""
    return resize(
        x,
        roi,
        scales,
        sizes,
        coordinate_transformation_mode=coordinate_transformation_mode,
        cubic_coeff_a=cubic_coeff_a,
        exclude_outside=exclude_outside,
        extrapolation_value=extrapolation_value,
        mode=mode,
        nearest_mode=nearest_mode,
    )


@op("Resize", 10)
@op("Upsample", 9, 10)
def resize_corner(x: Tensor, scales: Tensor, *, mode: str = "nearest") -> Tensor:
    """Resize by scales with asymmetric coordinates: x / scale."""
    return upsample_attribute(x, scales=scales.tolist(), mode=mode)


@op("Upsample", 7)
def upsample_attribute(x: Tensor, *, scales: list[float], mode: str = "nearest") -> Tensor:
    """Upsample whose scales are an attribute."""
    plan = _by_scales(list(x.shape), scales)
    return _resample(x, dict(enumerate(plan)), Sampling(_LINEAR.get(mode, mode), "asymmetric", "simple"), 0.0)


def _by_scales(lengths: list[int], scales: Sequence[float]) -> list[Axis]:
    targets = (torch.tensor(scales) * torch.tensor(lengths, dtype=torch.float32)).to(torch.int64).tolist()
    return [Axis(*triple) for triple in zip(lengths, targets, scales, strict=True)]


def _by_sizes(lengths: list[int], sizes: list[int], policy: str) -> list[Axis]:
    ratios = [target / size for target, size in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return [Axis(*triple) for triple in zip(lengths, sizes, ratios, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [Axis(size, int(scale * size + 0.5), scale) for size in lengths]


def _resample(x: Tensor, axes: dict[int, Axis], sampling: Sampling, extrapolation: float) -> Tensor:
    check_elements(axes[i].target if i in axes else n for i, n in enumerate(x.shape))
    crop = sampling.transform == "tf_crop_and_resize"
    axes = {i: a for i, a in axes.items() if crop or a.target != a.size or a.scale != 1}
    native = _torch_mode(x, axes, sampling)
    if native is not None:
        size = [axes[i].target if i in axes else x.shape[i] for i in range(2, x.dim())]
        corners = sampling.transform == "align_corners" if sampling.mode != "nearest" else None
        return F.interpolate(x, size, mode=native, align_corners=corners)
    y = x if x.is_floating_point() or sampling.mode == "nearest" else x.double()
    for i, axis in axes.items():
        y = _resample_axis(y, i, axis, sampling)
    if crop:
        y = _extrapolate(y, axes, extrapolation)
    return y if y.dtype == x.dtype else _saturate(y, x.dtype)


def _resample_axis(y: Tensor, i: int, axis: Axis, sampling: Sampling) -> Tensor:
    if sampling.mode == "nearest":
        return y.index_select(i, torch.from_numpy(_nearest(axis, sampling)).to(y.device))
    weights = torch.from_numpy(_weights(axis, sampling)).to(y.device, y.dtype)
    return torch.matmul(y.movedim(i, -1), weights.T).movedim(-1, i)


def _extrapolate(y: Tensor, axes: dict[int, Axis], value: float) -> Tensor:
    for i, axis in axes.items():
        position = _coordinates(axis, "tf_crop_and_resize")
        outside = torch.from_numpy((position < 0) | (position > axis.size - 1))
        y = torch.where(outside.to(y.device).reshape([-1] + [1] * (y.dim() - 1 - i)), value, y).to(y.dtype)
    return y


def _saturate(y: Tensor, dtype: torch.dtype) -> Tensor:
    bounds = torch.iinfo(dtype)
    return y.round().clamp(bounds.min, bounds.max).to(dtype)


def _torch_mode(x: Tensor, axes: dict[int, Axis], sampling: Sampling) -> str | None:
    """The mode of ``F.interpolate`` that computes exactly this; None if there is none."""
    if not (axes and min(axes) >= 2 and 3 <= x.dim() <= 5 and x.is_floating_point() and x.numel()):
        return None
    if sampling.mode == "nearest":
        return "nearest" if all(_repeats(axis, sampling) for axis in axes.values()) else None
    if sampling.antialias or sampling.exclude_outside or sampling.transform not in _TORCH_TRANSFORMS:
        return None
    if any(a.target < 2 or a.size * a.scale != a.target for a in axes.values()):
        return None
    if sampling.mode == "linear":
        return _TORCH_LINEAR[x.dim()]
    return "bicubic" if x.dim() == 4 and sampling.cubic_a == -0.75 else None


_TORCH_TRANSFORMS = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners"}


def _repeats(axis: Axis, sampling: Sampling) -> bool:
    """Whether every element is repeated the same number of times."""
    if axis.target % axis.size:
        return False
    times = np.repeat(np.arange(axis.size), axis.target // axis.size)
    return np.array_equal(_nearest(axis, sampling), times)


def _coordinates(axis: Axis, transform: str) -> Array:
    """Coordinate on the input axis of each output position, by ``coordinate_transformation_mode``."""
    place = np.arange(axis.target, dtype=np.float64)
    last, length = axis.size - 1, axis.size * axis.scale
    if transform == "asymmetric":
        return place / axis.scale
    if transform == "align_corners":
        return place * (last / (length - 1)) if length != 1 else place * 0
    if transform == "pytorch_half_pixel" and axis.target == 1:
        return place
    if transform == "tf_half_pixel_for_nn":
        return (place + 0.5) / axis.scale
    if transform == "tf_crop_and_resize":
        start, end = axis.roi
        if axis.target == 1:
            return place + (start + end) / 2 * last
        return start * last + place * ((end - start) * last / (axis.target - 1))
    offset = axis.size / 2 * (1 - axis.target / length) if transform == "half_pixel_symmetric" else 0.0
    return offset + (place + 0.5) / axis.scale - 0.5


@functools.lru_cache(maxsize=64)
def _nearest(axis: Axis, sampling: Sampling) -> Array:
    """(target,) indices of the nearest elements."""
    position = _coordinates(axis, sampling.transform)
    rule = sampling.nearest
    if rule == "simple":  # Resize-10 and Upsample, as onnxruntime reads them
        rule = "ceil" if axis.scale < 1 else "floor"
    if rule.startswith("round"):
        nearest = np.ceil(position - 0.5) if rule == "round_prefer_floor" else np.floor(position + 0.5)
    else:
        nearest = np.ceil(position) if rule == "ceil" else np.floor(position)
    return nearest.astype(np.int64).clip(0, axis.size - 1)


@functools.lru_cache(maxsize=64)
def _weights(axis: Axis, sampling: Sampling) -> Array:
    """(target, size) interpolation matrix in float64; a row holds the weights of the input elements."""
    check_elements([axis.target, axis.size])
    position = _coordinates(axis, sampling.transform)[:, None]
    stretch = min(axis.scale, 1.0) if sampling.antialias else 1.0
    reach = math.ceil((1 if sampling.mode == "linear" else 2) / stretch) + 1
    taps = np.floor(position) + np.arange(-reach, reach + 2)
    distance = np.abs((taps - position) * stretch)
    kernel = (1 - distance).clip(0) if sampling.mode == "linear" else _cubic(distance, sampling.cubic_a)
    if sampling.exclude_outside:
        kernel = np.where((taps < 0) | (taps > axis.size - 1), 0.0, kernel)
    if sampling.exclude_outside or sampling.antialias:
        kernel = kernel / kernel.sum(1, keepdims=True)
    weights = np.zeros((axis.target, axis.size))
    rows = np.broadcast_to(np.arange(axis.target)[:, None], taps.shape)
    np.add.at(weights, (rows, taps.clip(0, axis.size - 1).astype(np.int64)), kernel)
    return weights


def _cubic(distance: Array, a: float) -> Array:
    """Keys' cubic convolution kernel."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
