"""Fourier transforms (in float64, except the inverse), window functions and the mel filter bank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op


def _complex(x: Tensor) -> Tensor:
    """(..., 1) real or (..., 2) complex parts as one tensor without the last axis."""
    wide = x.double()
    return wide[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(wide.contiguous())


def _inverse(x: Tensor, length: int | None, axis: int) -> Tensor:
    """The complex inverse transform; on a CPU by numpy.

    ONNX's suite expects numpy's round-off, 1.9e-7 for an exact 0, for which torch returns 0.
    """
    parts = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    parts = torch.cat([parts, torch.zeros_like(parts)], -1) if x.shape[-1] == 1 else parts
    if length is not None:
        missing = length - x.shape[axis]
        padding = [0, 0] * (x.dim() - 1 - axis) + [0, missing]
        parts = torch.nn.functional.pad(parts, padding) if missing else parts
    signal = torch.view_as_complex(parts.contiguous())
    on_cpu = x.device.type == "cpu"
    result: Tensor = _NumpyInverse.apply(signal, axis) if on_cpu else torch.fft.ifft(signal, dim=axis)
    return result


class _NumpyInverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, axis: int) -> Tensor:
        ctx.axis = axis
        result = np.fft.ifft(signal.detach().numpy(), axis=axis)
        return torch.from_numpy(result).to(signal.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.fft.fft(gradients[0], dim=ctx.axis, norm="forward"), None


@op("DFT", 20)
def dft(
    x: Tensor,
    dft_length: Tensor | None = None,
    axis: Tensor | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Tensor:
    """Discrete Fourier transform along an axis; ``onesided`` uses only the non-redundant half."""
    along = -2 if axis is None else int(axis.item())
    return dft_attribute(x, dft_length, axis=along, inverse=inverse, onesided=onesided)


@op("DFT", 17)
def dft_attribute(
    x: Tensor, dft_length: Tensor | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """DFT whose axis is an attribute."""
    along = axis + x.dim() if axis < 0 else axis
    length = None if dft_length is None else int(dft_length.item())
    if length is not None:
        check_elements([*x.shape[:along], length, *x.shape[along + 1 :]])
    if inverse and not onesided:
        return torch.view_as_real(_inverse(x, length, along)).to(x.dtype)
    signal = _complex(x)
    if inverse:
        real: Tensor = torch.fft.irfft(signal, length, along)
        return real.unsqueeze(-1).to(x.dtype)
    result = torch.fft.fft(signal, length, along)
    if onesided:
        result = result.narrow(along, 0, result.shape[along] // 2 + 1)
    return torch.view_as_real(result).to(x.dtype)


@op("STFT", 17)
def stft(
    signal: Tensor,
    frame_step: Tensor,
    window: Tensor | None = None,
    frame_length: Tensor | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """Short-time Fourier transform: (batch, length, parts) -> (batch, frames, bins, 2)."""
    if frame_length is not None:
        length = int(frame_length.item())
    elif window is None:
        raise ValueError("neither a window nor a frame length is given")
    else:
        length = window.shape[0]
    samples = _complex(signal if signal.dim() == 3 else signal.unsqueeze(-1))
    frames = samples.unfold(1, length, int(frame_step.item()))
    check_elements([*frames.shape, 2])
    spectrum = torch.fft.fft(frames if window is None else frames * window.double())
    if onesided:
        spectrum = spectrum[..., : length // 2 + 1]
    return torch.view_as_real(spectrum).to(signal.dtype)


@op("HannWindow", 17)
def hann_window(size: Tensor, *, output_datatype: torch.dtype = torch.float32, periodic: int = 1) -> Tensor:
    """Hann window: 1/2 - 1/2 cos(t)."""
    t = _angles(size, periodic)
    return (0.5 - 0.5 * torch.cos(t)).to(output_datatype)


@op("HammingWindow", 17)
def hamming_window(
    size: Tensor, *, output_datatype: torch.dtype = torch.float32, periodic: int = 1
) -> Tensor:
    """Hamming window: 25/46 - 21/46 cos(t)."""
    t = _angles(size, periodic)
    return (25 / 46 - 21 / 46 * torch.cos(t)).to(output_datatype)


@op("BlackmanWindow", 17)
def blackman_window(
    size: Tensor, *, output_datatype: torch.dtype = torch.float32, periodic: int = 1
) -> Tensor:
    """Blackman window: 0.42 - 0.5 cos(t) + 0.08 cos(2t)."""
    t = _angles(size, periodic)
    return (0.42 - 0.5 * torch.cos(t) + 0.08 * torch.cos(2 * t)).to(output_datatype)


def _angles(size: Tensor, periodic: int) -> Tensor:
    """``size`` angles from 0, in steps of 2 pi / size if ``periodic``, else of 2 pi / (size - 1)."""
    count = int(size.item())
    check_elements([count])
    steps = torch.arange(count, dtype=torch.float64, device=size.device)
    return steps * (2 * math.pi / max(count if periodic else count - 1, 1))


@op("MelWeightMatrix", 17)
def mel_weight_matrix(
    num_mel_bins: Tensor,
    dft_length: Tensor,
    sample_rate: Tensor,
    lower_edge_hertz: Tensor,
    upper_edge_hertz: Tensor,
    *,
    output_datatype: torch.dtype = torch.float32,
) -> Tensor:
    """Mel filter bank, (spectrum bins, mel bands): triangles of equal width on the mel scale."""
    bands, length = int(num_mel_bins.item()), int(dft_length.item())
    check_elements([length // 2 + 1, bands])
    low, high = (
        2595 * math.log10(1 + float(edge.item()) / 700) for edge in (lower_edge_hertz, upper_edge_hertz)
    )
    mels = low + torch.arange(bands + 2, dtype=torch.float64) * ((high - low) / (bands + 2))
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = torch.floor((length + 1) * hertz / float(sample_rate.item()))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    place = torch.arange(length // 2 + 1, dtype=torch.float64).unsqueeze(1)
    rising = torch.where(centre == left, 1.0, (place - left) / (centre - left).clamp(min=1))
    falling = (right - place) / (right - centre).clamp(min=1)
    rising = torch.where((place >= left) & (place <= centre), rising, 0.0)
    weights = torch.where((place >= centre) & (place < right), falling, rising)
    return weights.to(num_mel_bins.device, output_datatype)
