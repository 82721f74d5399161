"""com.microsoft operators on quantised values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops import rnn_cells
from intrain_onnx.ops.contrib import MICROSOFT
from intrain_onnx.ops.pool import average_pool
from intrain_onnx.ops.quantize import (
    by_row,
    dequantize_linear,
    dynamic_quantize_linear,
    exact,
    quantize_linear,
    requantize,
    straight_through,
)
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.rnn_cells import Cell
from intrain_onnx.ops.window import Ints


def _quantize(y: Tensor, scale: Tensor, zero: Tensor | None, like: Tensor) -> Tensor:
    """Quantise to the type of the zero point, or of ``like``."""
    return quantize_linear(y, scale, zero, output_dtype=like.dtype)


@op("QLinearAdd", 1, domain=MICROSOFT)
def qlinear_add(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None,
    c_scale: Tensor,
    c_zero_point: Tensor | None = None,
) -> Tensor:
    """The sum, requantised."""
    y = dequantize_linear(a, a_scale, a_zero_point) + dequantize_linear(b, b_scale, b_zero_point)
    return _quantize(y, c_scale, c_zero_point, a)


@op("QLinearMul", 1, domain=MICROSOFT)
def qlinear_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None,
    c_scale: Tensor,
    c_zero_point: Tensor | None = None,
) -> Tensor:
    """The product, requantised."""
    y = dequantize_linear(a, a_scale, a_zero_point) * dequantize_linear(b, b_scale, b_zero_point)
    return _quantize(y, c_scale, c_zero_point, a)


@op("QLinearSigmoid", 1, domain=MICROSOFT)
def qlinear_sigmoid(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
) -> Tensor:
    """The logistic function, requantised."""
    return _quantize(torch.sigmoid(dequantize_linear(x, x_scale, x_zero_point)), y_scale, y_zero_point, x)


@op("QLinearLeakyRelu", 1, domain=MICROSOFT)
def qlinear_leaky_relu(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 0.01,
) -> Tensor:
    """LeakyRelu, requantised."""
    y = functional.leaky_relu(dequantize_linear(x, x_scale, x_zero_point), alpha)
    return _quantize(y, y_scale, y_zero_point, x)


@op("QLinearSoftmax", 1, domain=MICROSOFT)
def qlinear_softmax(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    opset: int,
    axis: int = -1,
) -> Tensor:
    """Softmax, requantised; before opset 13 over the flattened axes from ``axis`` on."""
    values = dequantize_linear(x, x_scale, x_zero_point)
    if opset < 13:
        start = axis % x.dim()
        y = torch.softmax(values.flatten(start), start).reshape(x.shape)
    else:
        y = torch.softmax(values, axis)
    return _quantize(y, y_scale, y_zero_point, x)


@op("QLinearAveragePool", 1, domain=MICROSOFT)
def qlinear_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """The mean of each window, requantised."""
    values = dequantize_linear(x, x_scale, x_zero_point)
    y = average_pool(
        values.movedim(-1, 1) if channels_last else values,
        kernel_shape=kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        pads=pads,
        strides=strides,
    )
    return _quantize(y.movedim(1, -1) if channels_last else y, y_scale, y_zero_point, x)


@op("QLinearGlobalAveragePool", 1, domain=MICROSOFT)
def qlinear_global_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    channels_last: int = 0,
) -> Tensor:
    """The mean of each channel, requantised."""
    axes = list(range(1, x.dim() - 1)) if channels_last else list(range(2, x.dim()))
    y = dequantize_linear(x, x_scale, x_zero_point).mean(axes, keepdim=True)
    return _quantize(y, y_scale, y_zero_point, x)


@op("QLinearConcat", 1, domain=MICROSOFT)
def qlinear_concat(y_scale: Tensor, y_zero_point: Tensor, *inputs: Tensor, axis: int) -> Tensor:
    """Concatenation of (values, scale, zero point) triples, requantised."""
    parts = [dequantize_linear(*inputs[i : i + 3]) for i in range(0, len(inputs), 3)]
    return _quantize(torch.cat(parts, axis), y_scale, y_zero_point, inputs[0])


@op("QLinearWhere", 1, domain=MICROSOFT)
def qlinear_where(
    condition: Tensor,
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    z_scale: Tensor,
    z_zero_point: Tensor,
) -> Tensor:
    """Where on two quantised tensors, requantised."""
    chosen = torch.where(
        condition, dequantize_linear(x, x_scale, x_zero_point), dequantize_linear(y, y_scale, y_zero_point)
    )
    return _quantize(chosen, z_scale, z_zero_point, x)


@op("QGemm", 1, domain=MICROSOFT)
def qgemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803 - ONNX's name
) -> Tensor:
    """Gemm of quantised values with an int32 bias; float output without an output scale."""
    left = exact(a.T if transA else a, a_zero_point)
    weight = b.T if transB else b
    total = torch.matmul(left, exact(weight, b_zero_point))
    total = total if c is None else total + c.double()
    scale = alpha * a_scale * b_scale
    if y_scale is None:
        return (total * scale).to(a_scale.dtype)
    return requantize(
        total, scale / y_scale, y_zero_point, a.dtype if y_zero_point is None else y_zero_point.dtype
    )


def fake_dynamic(x: Tensor) -> Tensor:
    """Fake quantisation by DynamicQuantizeLinear, with the straight-through gradient estimator."""
    with torch.no_grad():
        y = dequantize_linear(*dynamic_quantize_linear(x, n_outputs=3))
    return straight_through(x, y)


@op("DynamicQuantizeMatMul", 1, domain=MICROSOFT)
def dynamic_quantize_matmul(
    a: Tensor, b: Tensor, b_scale: Tensor, b_zero_point: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """The product of dynamically quantised values with a quantised weight."""
    y = torch.matmul(fake_dynamic(a), dequantize_linear(b, b_scale, b_zero_point, axis=-1))
    return y if bias is None else y + bias


@op("MatMulIntegerToFloat", 1, domain=MICROSOFT)
def matmul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The exact product of quantised matrices, dequantised."""
    total = torch.matmul(exact(a, by_row(a_zero_point)), exact(b, b_zero_point))
    row_scale = by_row(a_scale)
    assert row_scale is not None
    y = (total * (row_scale * b_scale)).to(a_scale.dtype)
    return y if bias is None else y + bias


@op("MatMulNBits", 1, domain=MICROSOFT)
def matmul_nbits(
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,  # noqa: N803 - ONNX's name
    N: int,  # noqa: N803 - ONNX's name
    block_size: int,
    accuracy_level: int = 0,
    bits: int = 4,
) -> Tensor:
    """The product with a weight of N rows of K packed 2-, 4- or 8-bit values, scaled per block."""
    if g_idx is not None:
        raise UnsupportedError("MatMulNBits with a group index (g_idx), which onnxruntime deprecated")
    blocks = -(-K // block_size)
    values = _unpack(b.reshape(N, blocks, -1), bits).to(scales.dtype)
    scales = scales.reshape(N, blocks, 1)
    zero: Tensor | float = 2.0 ** (bits - 1)
    if zero_points is not None and zero_points.dtype == torch.uint8:
        zero = _unpack(zero_points.reshape(N, -1), bits)[:, :blocks].to(scales.dtype).unsqueeze(-1)
    elif zero_points is not None:
        zero = zero_points.reshape(N, blocks, 1)
    weight = ((values - zero) * scales).flatten(1)[:, :K]
    return functional.linear(a, weight.to(a.dtype), bias)


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """Unpack the numbers in the bytes of the last axis, low bits first."""
    if bits not in (2, 4, 8):
        raise UnsupportedError(f"weights of {bits} bits: 2, 4 and 8 can be unpacked")
    shifts = torch.arange(0, 8, bits, device=packed.device)
    numbers: Tensor = (packed.int().unsqueeze(-1) >> shifts) & (2**bits - 1)
    return numbers.flatten(-2)


@dataclass(frozen=True, slots=True)
class _QuantisedCell(Cell):
    """A cell that dynamically quantises its state before the product at each step, as onnxruntime does."""

    def recur(self, h: Tensor) -> Tensor:
        return functional.linear(fake_dynamic(h), self.recurrent, self.bias)


@op("DynamicQuantizeLSTM", 1, domain=MICROSOFT)
def dynamic_quantize_lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    sequence_lens: Tensor | None,
    initial_h: Tensor | None,
    initial_c: Tensor | None,
    p: Tensor | None,
    w_scale: Tensor,
    w_zero_point: Tensor,
    r_scale: Tensor,
    r_zero_point: Tensor,
    *,
    n_outputs: int,
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
) -> tuple[Tensor, ...]:
    """LSTM with 8-bit weights (directions, input, gates), whose input and state are dynamically quantised."""
    w, r = (_direction_weights(*parts) for parts in ((w, w_scale, w_zero_point), (r, r_scale, r_zero_point)))
    functions = rnn_cells.activations(
        activations or ["sigmoid", "tanh", "tanh"] * w.shape[0], activation_alpha, activation_beta
    )
    values = fake_dynamic(x)
    zeros = x.new_zeros(w.shape[0], x.shape[1], r.shape[2])
    h, c = (zeros if s is None else s for s in (initial_h, initial_c))
    outputs, last = [], []
    for d in range(w.shape[0]):
        w_bias, r_bias = (None, None) if b is None else b[d].chunk(2)
        cell = _QuantisedCell(r[d], r_bias, functions[3 * d : 3 * d + 3], clip or None)
        step = partial(rnn_cells.lstm_step, cell, None if p is None else p[d], bool(input_forget))
        gates = functional.linear(values, w[d], w_bias)
        y, state = rnn_cells.run(step, gates, (h[d], c[d]), sequence_lens, direction == "reverse" or d == 1)
        outputs.append(y)
        last.append(state)
    return torch.stack(outputs, 1), *(torch.stack(s) for s in zip(*last, strict=True))


def _direction_weights(w: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Float weights in ONNX's layout; scales per direction, or per direction and gate row."""
    scale, zero = scale.reshape(scale.shape[0], 1, -1), zero.reshape(zero.shape[0], 1, -1)
    return ((w.to(scale.dtype) - zero.to(scale.dtype)) * scale).transpose(1, 2)
