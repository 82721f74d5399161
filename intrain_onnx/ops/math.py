"""Element-wise arithmetic."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import UNSIGNED, on_int64

op("Acos", 7, 22)(torch.acos)
op("Acosh", 9, 22)(torch.acosh)
op("Asin", 7, 22)(torch.asin)
op("Asinh", 9, 22)(torch.asinh)
op("Atan", 7, 22)(torch.atan)
op("Atanh", 9, 22)(torch.atanh)
op("Ceil", 6, 13)(torch.ceil)
op("Cos", 7, 22)(torch.cos)
op("Cosh", 9, 22)(torch.cosh)
op("Exp", 6, 13)(torch.exp)
op("Floor", 6, 13)(torch.floor)
op("Log", 6, 13)(torch.log)
op("Neg", 6, 13)(torch.neg)
op("Reciprocal", 6, 13)(torch.reciprocal)
op("Round", 11, 22)(torch.round)
op("Sin", 7, 22)(torch.sin)
op("Sinh", 9, 22)(torch.sinh)
op("Sqrt", 6, 13)(torch.sqrt)
op("Tan", 7, 22)(torch.tan)


@op("Abs", 6, 13)
@on_int64
def absolute(x: Tensor) -> Tensor:
    """|x|."""
    return torch.abs(x)


@op("Sign", 9, 13)
@on_int64
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return torch.sign(x)


@op("Erf", 9, 13)
def erf(x: Tensor) -> Tensor:
    """The error function; of integers, rounded towards zero."""
    return torch.erf(x) if x.is_floating_point() else torch.erf(x.double()).to(x.dtype)


@op("Add", 7, 13, 14)
def add(a: Tensor, b: Tensor) -> Tensor:
    """``a + b`` with numpy broadcasting."""
    return a + b if a.dtype not in UNSIGNED else (a.to(torch.int64) + b.to(torch.int64)).to(a.dtype)


@op("Sub", 7, 13, 14)
def subtract(a: Tensor, b: Tensor) -> Tensor:
    """``a - b`` with numpy broadcasting."""
    return a - b if a.dtype not in UNSIGNED else (a.to(torch.int64) - b.to(torch.int64)).to(a.dtype)


@op("Mul", 7, 13, 14)
def multiply(a: Tensor, b: Tensor) -> Tensor:
    """``a * b`` with numpy broadcasting."""
    return a * b if a.dtype not in UNSIGNED else (a.to(torch.int64) * b.to(torch.int64)).to(a.dtype)


@op("Div", 7, 13, 14)
def divide(a: Tensor, b: Tensor) -> Tensor:
    """``a / b`` with numpy broadcasting; integers round towards zero."""
    return a / b if a.is_floating_point() or a.is_complex() else _divide_integers(a, b)


@on_int64
def _divide_integers(a: Tensor, b: Tensor) -> Tensor:
    """``a / b`` towards zero; the smallest integer over -1, which ends the process in torch, is itself."""
    _require_divisor(b)
    if not a.dtype.is_signed:
        return torch.div(a, b, rounding_mode="trunc")
    negates = b == -1
    return torch.where(negates, -a, torch.div(a, torch.where(negates, 1, b), rounding_mode="trunc"))


def _require_divisor(b: Tensor) -> None:
    if bool((b == 0).any()):
        raise ZeroDivisionError("an integer is divided by zero")


@op("Pow", 7, 12, 13, 15)
def power(x: Tensor, y: Tensor) -> Tensor:
    """``x ** y`` in the type of x; a constant scalar exponent takes torch's fast paths (square, root)."""
    if not x.is_floating_point():
        return _integer_power(x, y)
    if y.dim() == 0 and y.device.type == "cpu" and not y.requires_grad:
        return torch.pow(x, y.item())
    return torch.pow(x, y.to(x.dtype))


def _integer_power(x: Tensor, y: Tensor) -> Tensor:
    wide = torch.float64 if y.is_floating_point() else torch.int64
    return torch.pow(x.to(wide), y.to(wide)).to(x.dtype)


@op("Mod", 10, 13, 28)
@on_int64
def modulo(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """Remainder with the sign of the divisor, or with that of the dividend where ``fmod`` is 1."""
    if not b.is_floating_point():
        _require_divisor(b)
    if fmod:
        return torch.fmod(a, b)
    remainder = torch.remainder(a, b)
    if not a.is_floating_point():
        return remainder
    return torch.where(remainder == 0, torch.copysign(remainder, b), remainder)


@op("Max", 6, 8, 12, 13)
@on_int64
def maximum(*data: Tensor) -> Tensor:
    """Element-wise maximum, propagating NaN; with a constant number it has the gradient of ``clip``."""
    if len(data) == 2 and data[1].dim() <= data[0].dim() and (low := _constant(data[1])) is not None:
        return torch.clamp(data[0], min=low)
    return functools.reduce(torch.maximum, data)


@op("Min", 6, 8, 12, 13)
@on_int64
def minimum(*data: Tensor) -> Tensor:
    """Element-wise minimum, propagating NaN; with a constant number it has the gradient of ``clip``."""
    if len(data) == 2 and data[1].dim() <= data[0].dim() and (high := _constant(data[1])) is not None:
        return torch.clamp(data[0], max=high)
    return functools.reduce(torch.minimum, data)


@op("Sum", 6, 8, 13)
def add_all(*data: Tensor) -> Tensor:
    """Element-wise sum of the inputs."""
    return functools.reduce(torch.add, data)


@op("Mean", 6, 8, 13)
def mean(*data: Tensor) -> Tensor:
    """Element-wise mean of the inputs."""
    return functools.reduce(torch.add, data) / len(data)


@op("Clip", 6)
def clip_attribute(
    x: Tensor, *, min: float = -3.4028234663852886e38, max: float = 3.4028234663852886e38
) -> Tensor:
    """``x`` limited to [min, max], which are attributes."""
    return _clip(x, min, max)


@op("Clip", 11, 12, 13)
@on_int64
def clip(x: Tensor, min: Tensor | None = None, max: Tensor | None = None) -> Tensor:
    """``x`` limited to [min, max]; max where max < min.

    Constant bounds are passed as numbers: the gradient at a bound is then 0, as of ReLU and ReLU6 in every
    framework; between tensors torch would split it in halves.
    """
    low, high = _constant(min), _constant(max)
    if (low is None) == (min is None) and (high is None) == (max is None):
        return _clip(x, low, high)
    return torch.clamp(x, min, max)


def _clip(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is None and high is None:
        return x
    if x.is_floating_point() and low is not None and high is not None and low <= high:
        return functional.hardtanh(x, low, high)  # several times as fast as clamp on a CPU
    return torch.clamp(x, low, high)


def _constant(bound: Tensor | None) -> float | None:
    """The number that a bound holds; None for a trained or non-scalar one."""
    if bound is None or bound.numel() != 1 or bound.requires_grad:
        return None
    return bound.item()


@op("Einsum", 12, 28)
@on_int64
def einsum(*inputs: Tensor, equation: str) -> Tensor:
    """Sum of products by the Einstein convention."""
    plain = equation.replace(" ", "")
    _check_einsum(plain, inputs)
    return torch.einsum(plain, *inputs)


def _check_einsum(equation: str, inputs: Sequence[Tensor]) -> None:
    """Refuse an output of named axes that is too large; torch says what is wrong with any other equation."""
    terms, arrow, output = equation.partition("->")
    operands = zip(terms.split(","), inputs, strict=False)
    sizes = {name: size for term, x in operands for name, size in zip(term, x.shape, strict=False)}
    if arrow and all(name in sizes for name in output):
        check_elements(sizes[name] for name in output)


@op("Det", 11, 22)
def determinant(x: Tensor) -> Tensor:
    """Determinant of square matrices."""
    return torch.det(x)
