"""Normalisation layers and dropout."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.ops.registry import op
from intrain_onnx.ops.window import Ints


@op("BatchNormalization", 14, 15)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    n_outputs: int,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> tuple[Tensor, ...]:
    """Normalise each channel by the running statistics, or by the batch's in training mode."""
    if not training_mode:
        return (_by_running_statistics(x, scale, bias, mean, var, epsilon),)
    y, batch_mean, batch_var = _by_batch_statistics(x, scale, bias, epsilon)
    return (y, *_update(mean, var, batch_mean, batch_var, momentum))


@op("BatchNormalization", 9)
def batch_normalization_9(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    n_outputs: int,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> tuple[Tensor, ...]:
    """Before version 14 a node with more than one output is in training mode."""
    if n_outputs == 1:
        return (_by_running_statistics(x, scale, bias, mean, var, epsilon),)
    y, batch_mean, batch_var = _by_batch_statistics(x, scale, bias, epsilon)
    running = _update(mean, var, batch_mean, batch_var, momentum)
    return (y, *running, batch_mean, batch_var)


@op("BatchNormalization", 7)
def batch_normalization_7(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    n_outputs: int,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
) -> tuple[Tensor, ...]:
    """Version 7 can also normalise each activation separately (``spatial=0``)."""
    if spatial:
        return batch_normalization_9(
            x, scale, bias, mean, var, n_outputs=n_outputs, epsilon=epsilon, momentum=momentum
        )
    y = (x - mean.detach()) * torch.rsqrt(var.detach() + epsilon) * scale + bias
    return (y, mean, var, mean, var)


def _by_running_statistics(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, epsilon: float
) -> Tensor:
    """Normalise by running statistics, which have no gradient: they are state, not weights."""
    mean, var, scale, bias = (t.to(x.dtype) for t in (mean.detach(), var.detach(), scale, bias))
    if x.dim() < 2:
        return (x - mean) * torch.rsqrt(var + epsilon) * scale + bias
    return functional.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon)


def _by_batch_statistics(
    x: Tensor, scale: Tensor, bias: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = [i for i in range(x.dim()) if i != 1]
    with torch.no_grad():
        var, mean = torch.var_mean(x, axes, correction=0)
    y = functional.batch_norm(x, None, None, scale.to(x.dtype), bias.to(x.dtype), True, 0.0, epsilon)
    return y, mean, var


def batch_normalization_of_batch(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Normalise each channel by the statistics of the batch, as in training."""
    return functional.batch_norm(x, None, None, scale.to(x.dtype), bias.to(x.dtype), True, 0.0, epsilon)


def _update(
    mean: Tensor, var: Tensor, batch_mean: Tensor, batch_var: Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """Running statistics: ``old * momentum + batch * (1 - momentum)``, with the biased batch variance."""
    pairs = ((mean.detach(), batch_mean), (var.detach(), batch_var))
    new_mean, new_var = (old * momentum + new.to(old.dtype) * (1 - momentum) for old, new in pairs)
    return new_mean, new_var


@op("InstanceNormalization", 6, 22)
def instance_normalization(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Normalise each channel of each sample."""
    return torch.group_norm(x, x.shape[1], scale, bias, epsilon)


@op("GroupNormalization", 21)
def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Normalise each group of channels of each sample, with a scale and bias per channel."""
    return torch.group_norm(x, num_groups, scale, bias, epsilon)


@op("GroupNormalization", 18)
def group_normalization_18(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5
) -> Tensor:
    """Version 18: a scale and bias per group."""
    repeats = x.shape[1] // num_groups
    scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    return torch.group_norm(x, num_groups, scale, bias, epsilon)


@op("LayerNormalization", 17)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    n_outputs: int,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, ...]:
    """Normalise over the axes from ``axis`` on; also the mean and inverse standard deviation."""
    shape = x.shape[axis % x.dim() :]
    if n_outputs == 1 and scale.shape == shape and (bias is None or bias.shape == shape):
        return (functional.layer_norm(x, shape, scale, bias, epsilon),)
    axes = list(range(axis % x.dim(), x.dim()))
    wide = stash(x, stash_type)
    var, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + epsilon)
    y = ((wide - mean) * inverse).to(x.dtype) * scale
    return (y if bias is None else y + bias), mean, inverse


@op("RMSNormalization", 23)
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """RMS normalisation: divide by the root mean square over the axes from ``axis`` on."""
    shape = x.shape[axis % x.dim() :]
    if scale.shape == shape and scale.dtype == x.dtype:
        return functional.rms_norm(x, shape, scale, epsilon)
    wide = stash(x, stash_type)
    axes = list(range(axis % x.dim(), x.dim()))
    inverse = torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)
    return (wide * inverse).to(x.dtype) * scale


def stash(x: Tensor, stash_type: int) -> Tensor:
    """Cast to the type of the statistics: float32 for ``stash_type`` 1, but never narrower than x."""
    return x.float() if stash_type == 1 and x.dtype in (torch.float16, torch.bfloat16) else x


@op("LRN", 1, 13)
def lrn(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """Local response normalisation: divide by a power of the summed squares of neighbouring channels."""
    after = [0] * (2 * (x.dim() - 2))
    squares = functional.pad(x.square(), [*after, (size - 1) // 2, size // 2])
    total = squares.unfold(1, size, 1).sum(-1)
    return x / (bias + alpha / size * total) ** beta


@op("LpNormalization", 1, 22)
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the p-norm along an axis; zero vectors are unchanged."""
    norm: Tensor = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(norm == 0, 1.0, norm)


@op("MeanVarianceNormalization", 9, 13)
def mean_variance_normalization(x: Tensor, *, axes: Ints = (0, 2, 3)) -> Tensor:
    """Standardise to zero mean and unit variance over the given axes."""
    centred = x - x.mean(list(axes), keepdim=True)
    count = x.numel() / max(x.mean(list(axes)).numel(), 1)
    deviation: Tensor = torch.linalg.vector_norm(centred, 2, list(axes), keepdim=True) / count**0.5
    return centred / (deviation + 1e-9)


@op("Dropout", 12, 13, 22)
def dropout(
    x: Tensor,
    ratio: Tensor | None = None,
    training_mode: Tensor | None = None,
    *,
    n_outputs: int,
    stream: int,
    seed: int | None = None,
) -> tuple[Tensor, ...]:
    """The identity in inference mode; in training mode the mask that ONNX's reference draws from the seed."""
    share = 0.5 if ratio is None else float(ratio)
    if training_mode is None or not bool(training_mode) or share == 0:
        return _kept(x, torch.bool, n_outputs)
    draws = np.random.RandomState((stream if seed is None else seed) % 2**32).uniform(0, 1, tuple(x.shape))
    mask = torch.from_numpy(np.asarray(draws >= share)).to(x.device)
    return (x * mask / (1 - share) if share < 1 else x * 0), mask


@op("Dropout", 10)
def dropout_10(x: Tensor, *, n_outputs: int, ratio: float = 0.5) -> tuple[Tensor, ...]:
    """The identity: versions before 12 have no training mode."""
    return _kept(x, torch.bool, n_outputs)


@op("Dropout", 7)
def dropout_7(x: Tensor, *, n_outputs: int, ratio: float = 0.5) -> tuple[Tensor, ...]:
    """The identity; the mask of version 7 has the input's type."""
    return _kept(x, x.dtype, n_outputs)


def _kept(x: Tensor, mask_type: torch.dtype, n_outputs: int) -> tuple[Tensor, ...]:
    return (x, torch.ones_like(x, dtype=mask_type)) if n_outputs > 1 else (x,)
