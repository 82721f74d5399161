"""Padding and centred cropping."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.narrow import decode, encode
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import from_front, ints


@op("Pad", 18, 19, 21, 23, 24, 25)
def pad(
    data: Tensor,
    pads: Tensor,
    constant_value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Pad axes at both ends; negative pads crop."""
    where = list(range(data.dim())) if axes is None else from_front(axes, data.dim())
    return pad_axes(
        data, where, ints(pads), mode, 0 if constant_value is None else decode(constant_value).item()
    )


@op("Pad", 11, 13)
def pad_all(
    data: Tensor, pads: Tensor, constant_value: Tensor | None = None, *, mode: str = "constant"
) -> Tensor:
    """Pad that names every axis."""
    return pad(data, pads, constant_value, mode=mode)


@op("Pad", 2)
def pad_attribute(data: Tensor, *, pads: list[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad whose amounts are attributes."""
    return pad_axes(data, list(range(data.dim())), list(pads), mode, value)


def pad_axes(data: Tensor, axes: list[int], pads: list[int], mode: str, value: float) -> Tensor:
    """Pad the given axes (counted from the front) by ``pads``: the begins, then the ends."""
    before = dict(zip(axes, pads[: len(axes)], strict=True))
    after = dict(zip(axes, pads[len(axes) :], strict=True))
    check_elements(n + before.get(i, 0) + after.get(i, 0) for i, n in enumerate(data.shape))
    wide = decode(data)
    if wide is not data:
        return encode(pad_axes(wide, axes, pads, mode, value), data.dtype)
    if mode == "constant":
        amounts = [p for i in reversed(range(data.dim())) for p in (before.get(i, 0), after.get(i, 0))]
        return _pad_constant(data, amounts, value)
    for axis in axes:
        if before[axis] or after[axis]:
            source = _source(data.shape[axis], before[axis], after[axis], mode, data.device)
            data = data.index_select(axis, source)
    return data


def _pad_constant(data: Tensor, amounts: list[int], value: float) -> Tensor:
    if not any(amounts):
        return data
    if data.dtype == torch.bool:
        return F.pad(data.to(torch.uint8), amounts, value=int(value)).to(torch.bool)
    return F.pad(data, amounts, value=value)


def _source(size: int, before: int, after: int, mode: str, device: torch.device) -> Tensor:
    """Source index of each padded position."""
    position = torch.arange(-before, size + after, device=device)
    if mode == "edge":
        return position.clamp(0, size - 1)
    if mode == "wrap":
        return position % size
    period = max(2 * (size - 1), 1)
    position = position % period
    return torch.where(position >= size, period - position, position)


@op("CenterCropPad", 18)
def center_crop_pad(data: Tensor, shape: Tensor, *, axes: list[int] | None = None) -> Tensor:
    """Crop or zero-pad axes about their middle to the given sizes."""
    where = list(range(data.dim())) if axes is None else from_front(axes, data.dim())
    missing = [target - data.shape[axis] for axis, target in zip(where, ints(shape), strict=True)]
    begins = [m // 2 if m > 0 else -(-m // 2) for m in missing]
    return pad_axes(
        data, where, begins + [m - b for m, b in zip(missing, begins, strict=True)], "constant", 0
    )
