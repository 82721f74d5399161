"""Quantisation, and layers that compute on quantised values.

Forward results are exactly ONNX's: integers are accumulated without rounding (in float64, which holds them
up to 2**53), and rescaled in float32 with ties to even, as onnxruntime does. Integer tensors carry no
gradient: DequantizeLinear passes its own to the float that was quantised (straight-through estimator).
"""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.ops import narrow
from intrain_onnx.ops.conv import conv
from intrain_onnx.ops.narrow import decode, encode
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.window import Ints

_RANGES: dict[torch.dtype | None, tuple[int, int]] = {
    narrow.UINT2: (0, 3),
    narrow.INT2: (-2, 1),
    narrow.UINT4: (0, 15),
    narrow.INT4: (-8, 7),
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.uint16: (0, 65535),
    torch.int16: (-32768, 32767),
}


@op("QuantizeLinear", 10, 13, 19, 21, 23, 24, 25, 28)
def quantize_linear(
    x: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: torch.dtype | None = None,
    precision: torch.dtype | None = None,
    saturate: int = 1,
) -> Tensor:
    """saturate(round(x / scale) + zero point), per tensor, axis or block."""
    target = y_zero_point.dtype if y_zero_point is not None else output_dtype or torch.uint8
    ratio = _ratio(x, y_scale, axis, block_size, precision)
    zero = _spread_zero(y_zero_point, x, axis, block_size)
    if target not in _RANGES:
        return encode(ratio if zero is None else ratio + zero, target, saturate=bool(saturate))
    return encode(_saturate(torch.round(ratio), zero, target), target)


def _ratio(x: Tensor, scale: Tensor, axis: int, block_size: int, precision: torch.dtype | None) -> Tensor:
    dtype = precision or scale.dtype
    return x.to(dtype) / spread(scale, x, axis, block_size).to(dtype)


def _saturate(steps: Tensor, zero: Tensor | None, target: torch.dtype) -> Tensor:
    low, high = _RANGES[target]
    return (steps if zero is None else steps.float() + zero).clamp(low, high)


def _spread_zero(zero: Tensor | None, x: Tensor, axis: int, block_size: int) -> Tensor | None:
    return None if zero is None else spread(decode(zero), x, axis, block_size).float()


def spread(values: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Scales or zero points per tensor, axis or block, shaped to broadcast with x."""
    if values.numel() == 1:
        return values.reshape(())
    if block_size:
        return values.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    return values.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


@op("DequantizeLinear", 10, 13, 19, 21, 23, 24, 25, 28)
def dequantize_linear(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    carrier: Tensor | None = None,
    output_dtype: torch.dtype | None = None,
) -> Tensor:
    """(x - zero point) * scale, per tensor, axis or block; the gradient passes to ``carrier``."""
    values = decode(x)
    if x_zero_point is not None and not values.is_floating_point():
        values = values.int() - spread(decode(x_zero_point), x, axis, block_size).int()
    scale = spread(x_scale, x, axis, block_size)
    wide = torch.promote_types(scale.dtype, torch.float32)
    y = (values.to(wide) * scale).to(output_dtype or x_scale.dtype)
    return _carry(y, carrier, scale)


def _carry(y: Tensor, carrier: Tensor | None, step: Tensor) -> Tensor:
    """``y``, with a straight-through gradient to ``carrier`` where quantisation did not saturate."""
    if carrier is None or not carrier.requires_grad:
        return y
    inside = (carrier - y).detach().abs() <= step.detach()
    return straight_through(torch.where(inside, carrier, 0.0), y)


def straight_through(carrier: Tensor, value: Tensor) -> Tensor:
    """Straight-through estimator: ``value`` forward; backward its gradient also goes to ``carrier``."""
    return value + (carrier - carrier.detach())


@op("DynamicQuantizeLinear", 11)
def dynamic_quantize_linear(x: Tensor, *, n_outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise to uint8, with scale and zero point from the range of the data, extended to contain 0."""
    x = x.detach()
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = torch.where(high == low, 1.0, high - low) / 255
    zero = torch.round((-low / scale).clamp(0, 255))
    y = (torch.round(x / scale) + zero).clamp(0, 255)
    return y.to(torch.uint8), scale, zero.to(torch.uint8)


def exact(x: Tensor, zero: Tensor | None) -> Tensor:
    """Integers minus their zero point, in float64."""
    values = decode(x).double()
    return values if zero is None else values - decode(zero).double()


def by_row(values: Tensor | None) -> Tensor | None:
    """Per-row values of a matrix, with an axis for its columns."""
    return values.unsqueeze(-1) if values is not None and values.dim() == 1 and values.numel() > 1 else values


def by_output_channel(values: Tensor | None, rank: int) -> Tensor | None:
    """Per-output-channel values, with the other axes of a kernel of this rank."""
    if values is None or values.numel() == 1:
        return None if values is None else values.reshape(())
    return values.reshape([-1] + [1] * (rank - 1))


def requantize(total: Tensor, scale: Tensor, zero: Tensor | None, target: torch.dtype) -> Tensor:
    """Requantise exact sums as onnxruntime does: scale in float32, round ties to even, add the zero point."""
    steps = torch.round(total.float() * scale.float())
    return encode(_saturate(steps, None if zero is None else decode(zero).float(), target), target)


@op("MatMulInteger", 10)
def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    """The exact product as int32; zero points per tensor, per row of a, per column of b."""
    return torch.matmul(exact(a, by_row(a_zero_point)), exact(b, b_zero_point)).to(torch.int32)


@op("QLinearMatMul", 10, 21)
def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    """The product of two quantised matrices, requantised."""
    total = torch.matmul(exact(a, by_row(a_zero_point)), exact(b, b_zero_point))
    row_scale = by_row(a_scale)
    assert row_scale is not None
    return requantize(total, row_scale * b_scale / y_scale, y_zero_point, y_zero_point.dtype)


@op("ConvInteger", 10)
def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The exact convolution as int32."""
    y = conv(
        exact(x, x_zero_point),
        exact(w, by_output_channel(w_zero_point, w.dim())),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    return y.round().to(torch.int32)


@op("QLinearConv", 10)
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Convolution of quantised values with an int32 bias, requantised."""
    total = conv(
        exact(x, x_zero_point),
        exact(w, by_output_channel(w_zero_point, w.dim())),
        None if b is None else b.double(),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    ).round()
    scale = by_output_channel(x_scale * w_scale / y_scale, w.dim() - 1)
    assert scale is not None
    return requantize(total, scale, y_zero_point, y_zero_point.dtype)
