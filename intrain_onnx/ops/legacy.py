"""Opset-6 versions, for the models of ONNX's test suite: broadcasting was an attribute then."""

from __future__ import annotations

from torch import Tensor

from intrain_onnx.ops.activation import prelu
from intrain_onnx.ops.linear import gemm
from intrain_onnx.ops.math import add, divide, multiply, power, subtract
from intrain_onnx.ops.norm import batch_normalization_7
from intrain_onnx.ops.registry import op


def _aligned(a: Tensor, b: Tensor, axis: int | None) -> Tensor:
    """The second operand with its axes aligned at ``axis`` of the first, followed by axes of size 1."""
    if axis is None:
        return b
    before = axis + a.dim() if axis < 0 else axis
    return b.reshape(*b.shape, *[1] * (a.dim() - before - b.dim()))


@op("Add", 6)
def add_6(a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """``a + b``."""
    return add(a, _aligned(a, b, axis))


@op("Sub", 6)
def subtract_6(a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """``a - b``."""
    return subtract(a, _aligned(a, b, axis))


@op("Mul", 6)
def multiply_6(a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """``a * b``."""
    return multiply(a, _aligned(a, b, axis))


@op("Div", 6)
def divide_6(a: Tensor, b: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """``a / b``."""
    return divide(a, _aligned(a, b, axis))


@op("Pow", 1)
def power_1(x: Tensor, y: Tensor, *, axis: int | None = None, broadcast: int = 0) -> Tensor:
    """``x ** y``."""
    return power(x, _aligned(x, y, axis))


@op("PRelu", 6)
def prelu_6(x: Tensor, slope: Tensor) -> Tensor:
    """PRelu with one slope, or one for each channel."""
    return prelu(x, slope.reshape([-1] + [1] * (x.dim() - 2)) if slope.numel() > 1 else slope)


@op("Gemm", 6)
def gemm_6(
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,
    transA: int = 0,  # noqa: N803  (ONNX's name)
    transB: int = 0,  # noqa: N803  (ONNX's name)
) -> Tensor:
    """``alpha * A' B' + beta * C``."""
    return gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)


@op("BatchNormalization", 6)
def batch_normalization_6(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    n_outputs: int,
    epsilon: float = 1e-5,
    is_test: int = 0,
    momentum: float = 0.9,
    spatial: int = 1,
) -> tuple[Tensor, ...]:
    """BatchNormalization with an attribute for inference mode, ``is_test``."""
    return batch_normalization_7(
        x,
        scale,
        bias,
        mean,
        var,
        n_outputs=1 if is_test else n_outputs,
        epsilon=epsilon,
        momentum=momentum,
        spatial=spatial,
    )
