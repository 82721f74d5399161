"""Random numbers. A graph stays a pure function: each node has its own generator, reseeded at each call.

The seed is the node's attribute, or torch's initial seed and the node's ordinal. Numbers are drawn on the
CPU, so that they are the same on every device.
"""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op

_STRIDE = 0x9E3779B97F4A7C15  # odd, so that ordinals give distinct seeds modulo 2**63


def generator(seed: float | None, stream: int) -> torch.Generator:
    """A CPU generator for one random node."""
    if seed is None:
        start = torch.initial_seed() + (stream + 1) * _STRIDE
    else:
        start = int(struct.unpack("<q", struct.pack("<d", seed))[0])
    return torch.Generator().manual_seed(start % 2**63)


def _uniform(shape: list[int], low: float, high: float, seed: float | None, stream: int) -> Tensor:
    check_elements(shape)
    return torch.rand(shape, generator=generator(seed, stream)) * (high - low) + low


def _normal(shape: list[int], mean: float, scale: float, seed: float | None, stream: int) -> Tensor:
    check_elements(shape)
    return torch.randn(shape, generator=generator(seed, stream)) * scale + mean


@op("RandomUniform", 1, 22)
def random_uniform(
    *,
    shape: list[int],
    stream: int,
    dtype: torch.dtype = torch.float32,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    """Uniform numbers in [low, high)."""
    return _uniform(shape, low, high, seed, stream).to(dtype)


@op("RandomUniformLike", 1, 22)
def random_uniform_like(
    x: Tensor,
    *,
    stream: int,
    dtype: torch.dtype | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Tensor:
    """Uniform numbers in the shape of the input."""
    return _uniform(list(x.shape), low, high, seed, stream).to(x.device, dtype or x.dtype)


@op("RandomNormal", 1, 22)
def random_normal(
    *,
    shape: list[int],
    stream: int,
    dtype: torch.dtype = torch.float32,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    """Normal numbers of the given mean and standard deviation."""
    return _normal(shape, mean, scale, seed, stream).to(dtype)


@op("RandomNormalLike", 1, 22)
def random_normal_like(
    x: Tensor,
    *,
    stream: int,
    dtype: torch.dtype | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Tensor:
    """Normal numbers in the shape of the input."""
    return _normal(list(x.shape), mean, scale, seed, stream).to(x.device, dtype or x.dtype)


@op("Bernoulli", 15, 22)
def bernoulli(
    x: Tensor, *, stream: int, dtype: torch.dtype | None = None, seed: float | None = None
) -> Tensor:
    """1 with the probability in the input, else 0."""
    draws = torch.rand(x.shape, dtype=torch.float64, generator=generator(seed, stream))
    return (draws.to(x.device) < x).to(dtype or x.dtype)


@op("Multinomial", 7, 22)
def multinomial(
    x: Tensor,
    *,
    stream: int,
    dtype: torch.dtype = torch.int32,
    sample_size: int = 1,
    seed: float | None = None,
) -> Tensor:
    """Classes drawn by their unnormalised log-probabilities: (batch, classes) -> (batch, sample_size)."""
    check_elements([x.shape[0], sample_size])
    chances = torch.softmax(x.detach().double().cpu(), 1)
    draws = torch.multinomial(chances, sample_size, replacement=True, generator=generator(seed, stream))
    return draws.to(x.device, dtype)
