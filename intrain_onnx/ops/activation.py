"""Activation functions and the softmax family."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from intrain_onnx.ops.registry import op

op("Sigmoid", 6, 13)(torch.sigmoid)
op("Tanh", 6, 13)(torch.tanh)


@op("Relu", 6, 13, 14)
def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return torch.relu(x)


@op("LeakyRelu", 6, 16)
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """``x``, times alpha where x is negative."""
    return F.leaky_relu(x, alpha)


@op("PRelu", 9, 16)
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """``x``, times slope where x is negative."""
    return torch.where(x < 0, x * slope, x)


@op("PRelu", 7)
def prelu_channels(x: Tensor, slope: Tensor) -> Tensor:
    """PRelu whose slope may be a vector of channels, as exporters of old opsets write it."""
    per_channel = slope.dim() == 1 and x.dim() > 2 and slope.shape[0] == x.shape[1] != x.shape[-1]
    return prelu(x, slope.reshape([-1] + [1] * (x.dim() - 2)) if per_channel else slope)


@op("ThresholdedRelu", 10, 22)
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x`` where x > alpha, else 0."""
    return torch.where(x > alpha, x, 0)


@op("Elu", 6, 22)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x``, or alpha * (exp(x) - 1) where x is negative."""
    return F.elu(x, alpha)


@op("Celu", 12, 28)
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))``."""
    return F.celu(x, alpha)


@op("Selu", 6, 22)
def selu(
    x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875
) -> Tensor:
    """SELU: ``gamma * ELU(x)``."""
    return gamma * F.elu(x, alpha)


@op("HardSigmoid", 6, 22)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """``alpha * x + beta`` limited to [0, 1]."""
    return torch.clamp(alpha * x + beta, 0, 1)


@op("HardSwish", 14, 22)
def hard_swish(x: Tensor) -> Tensor:
    """``x * clamp(x / 6 + 1 / 2, 0, 1)``."""
    return F.hardswish(x)


@op("Gelu", 20)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """GELU: ``x * Phi(x)``, Phi the standard normal distribution function; or its tanh approximation."""
    return F.gelu(x, approximate=approximate)


@op("Swish", 24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@op("SwiGLU", 28)
def swiglu(a: Tensor, b: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``swish(a) * b``."""
    return swish(a, alpha=alpha) * b


@op("Mish", 18, 22)
def mish(x: Tensor) -> Tensor:
    """``x * tanh(log(1 + exp(x)))``."""
    return F.mish(x)


@op("Softplus", 1, 22)
def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return F.softplus(x)


@op("Softsign", 1, 22)
def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return F.softsign(x)


@op("Shrink", 9)
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """0 within [-lambd, lambd]; x moved towards 0 by bias elsewhere (soft shrinkage if bias is lambd)."""
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0)).to(x.dtype)


@op("Softmax", 13)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """``exp(x)`` over its sum along an axis; float16 is rounded after each step, as ONNX specifies."""
    if x.dtype != torch.float16:
        return torch.softmax(x, axis)
    weights = torch.exp(x - x.detach().amax(axis, keepdim=True))
    return weights / weights.sum(axis, keepdim=True)


@op("LogSoftmax", 13)
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Logarithm of softmax along an axis."""
    return torch.log_softmax(x, axis)


@op("Hardmax", 13)
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first maximum along an axis, else 0."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


@op("Softmax", 1, 11)
def softmax_flat(x: Tensor, *, axis: int = 1) -> Tensor:
    """Softmax over the flattened axes from ``axis`` on (before opset 13)."""
    return torch.softmax(_matrix(x, axis), 1).reshape(x.shape)


@op("LogSoftmax", 1, 11)
def log_softmax_flat(x: Tensor, *, axis: int = 1) -> Tensor:
    """Log-softmax over the flattened axes from ``axis`` on (before opset 13)."""
    return torch.log_softmax(_matrix(x, axis), 1).reshape(x.shape)


@op("Hardmax", 1, 11)
def hardmax_flat(x: Tensor, *, axis: int = 1) -> Tensor:
    """Hardmax over the flattened axes from ``axis`` on (before opset 13)."""
    return hardmax(_matrix(x, axis)).reshape(x.shape)


def _matrix(x: Tensor, axis: int) -> Tensor:
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
