"""The networks that optimisers.py exports: torchvision's classifiers, and the kinds that torchvision lacks.

Each function makes a network with random weights; `NETWORKS` adds an example of its inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 32
TOKENS = 16
VOCABULARY = 64


def sinusoids(steps: Tensor, width: int) -> Tensor:
    """(N,) -> (N, width): sines and cosines of the time step at geometric frequencies."""
    half = width // 2
    rates = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half)
    angles = steps.float()[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimedBlock(nn.Module):
    """Two convolutions after group norm; the time embedding scales and shifts between them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(2 * WIDTH, 2 * outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.time(functional.silu(time))[:, :, None, None].chunk(2, dim=1)
        y = self.norm2(y) * (1 + scale) + shift
        return self.shortcut(x) + self.conv2(functional.silu(y))


class PixelAttention(nn.Module):
    """Self-attention over positions: one 1x1 convolution for queries, keys and values."""

    def __init__(self, channels: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(4, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        q, k, v = (
            part.reshape(batch, self.heads, channels // self.heads, height * width)
            for part in self.qkv(self.norm(x)).chunk(3, dim=1)
        )
        weights = torch.softmax(q.transpose(2, 3) @ k * (channels // self.heads) ** -0.5, dim=-1)
        return x + self.out((v @ weights.transpose(2, 3)).reshape(batch, channels, height, width))


class DiffusionUNet(nn.Module):
    """Predict noise: two levels down, attention in the middle, two levels up beside the way down."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, 2 * WIDTH))
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.down1, self.shrink1 = TimedBlock(16, 16), nn.Conv2d(16, 16, 3, 2, padding=1)
        self.down2, self.shrink2 = TimedBlock(16, 32), nn.Conv2d(32, 32, 3, 2, padding=1)
        self.middle, self.attention = TimedBlock(32, 32), PixelAttention(32)
        self.up2, self.up1 = TimedBlock(64, 16), TimedBlock(32, 16)
        self.norm, self.head = nn.GroupNorm(4, 16), nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, image: Tensor, timestep: Tensor) -> Tensor:
        time = self.time(sinusoids(timestep, WIDTH))
        first = self.down1(self.stem(image), time)
        second = self.down2(self.shrink1(first), time)
        x = self.attention(self.middle(self.shrink2(second), time))
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.up2(torch.cat([x, second], dim=1), time)
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = self.up1(torch.cat([x, first], dim=1), time)
        return self.head(functional.silu(self.norm(x)))


class RmsNorm(nn.Module):
    """Root-mean-square norm, written out as decoders do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def rotate_by_slices(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat([-x[..., half:], x[..., :half]], dim=-1)


def rotate_by_chunk(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


class GroupedAttention(nn.Module):
    """Causal attention with rotary positions; two query heads share each key and value head."""

    def __init__(self, width: int, heads: int, rotate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.heads, self.size, self.rotate = heads, width // heads, rotate
        self.q, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, width // 2, bias=False) for _ in range(2))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q = self.q(x).view(batch, tokens, self.heads, self.size).transpose(1, 2)
        k, v = (
            part(x).view(batch, tokens, self.heads // 2, self.size).transpose(1, 2)
            for part in (self.k, self.v)
        )
        q, k = (part * cos + self.rotate(part) * sin for part in (q, k))
        k, v = (
            part[:, :, None]
            .expand(batch, self.heads // 2, 2, tokens, self.size)
            .reshape(batch, self.heads, tokens, self.size)
            for part in (k, v)
        )
        weights = torch.softmax(q @ k.transpose(2, 3) * self.size**-0.5 + mask, dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class DecoderBlock(nn.Module):
    """Grouped attention and a SwiGLU perceptron, each after RMSNorm and around a shortcut."""

    def __init__(self, width: int, rotate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.norm1, self.attention = RmsNorm(width), GroupedAttention(width, 4, rotate)
        self.norm2 = RmsNorm(width)
        self.gate, self.up = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), cos, sin, mask)
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """A decoder of Llama's kind: logits of the next id at every position."""

    def __init__(self, rotate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(DecoderBlock(WIDTH, rotate) for _ in range(2))
        self.norm, self.head = RmsNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        tokens, size = ids.shape[1], WIDTH // 4
        rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float32) / size)
        angles = torch.arange(tokens, dtype=torch.float32)[:, None] * rates[None]
        angles = torch.cat([angles, angles], dim=-1)
        mask = torch.full((tokens, tokens), -1e9).triu(1)
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, angles.cos(), angles.sin(), mask)
        return self.head(self.norm(x))


class EncoderDecoder(nn.Module):
    """PyTorch's transformer between embeddings and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.02)
        self.transformer = nn.Transformer(WIDTH, 4, 2, 2, 2 * WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        tokens = target.shape[1]
        mask = torch.full((tokens, tokens), float("-inf")).triu(1)
        x = self.transformer(
            self.source(source) + self.positions[: source.shape[1]],
            self.target(target) + self.positions[:tokens],
            tgt_mask=mask,
            tgt_is_causal=True,
        )
        return self.head(x)


class SelectiveScan(nn.Module):
    """A Mamba block: gate, causal depthwise convolution, and a state that decays by what it reads."""

    def __init__(self, width: int, states: int = 4, rank: int = 4) -> None:
        super().__init__()
        inner = 2 * width
        self.states, self.rank = states, rank
        self.norm, self.enter = RmsNorm(width), nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.project = nn.Linear(inner, rank + 2 * states, bias=False)
        self.step = nn.Linear(rank, inner)
        self.log_rates = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(inner, 1))
        self.skip, self.leave = nn.Parameter(torch.ones(inner)), nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.shape[1]
        y, gate = self.enter(self.norm(x)).chunk(2, dim=-1)
        y = functional.silu(self.conv(y.transpose(1, 2))[:, :, :tokens].transpose(1, 2))
        steps, inputs, outputs = self.project(y).split([self.rank, self.states, self.states], dim=-1)
        steps = functional.softplus(self.step(steps))
        decay = torch.exp(steps[..., None] * -torch.exp(self.log_rates))
        drive = (steps * y)[..., None] * inputs[:, :, None]
        state = torch.zeros_like(drive[:, 0])
        seen = []
        for i in range(tokens):
            state = decay[:, i] * state + drive[:, i]
            seen.append((state * outputs[:, i, None]).sum(-1))
        y = torch.stack(seen, dim=1) + self.skip * y
        return x + self.leave(y * functional.silu(gate))


class Mamba(nn.Module):
    """Embedded ids, two Mamba blocks with their loop over time unrolled, logits of the next id."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.Sequential(SelectiveScan(WIDTH), SelectiveScan(WIDTH))
        self.norm, self.head = RmsNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.tokens(ids))))


def image(size: int = 64) -> tuple[Tensor, ...]:
    return (torch.zeros(2, 3, size, size),)


def ids(inputs: int = 1, tokens: int = TOKENS) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(2, tokens, dtype=torch.int64) for _ in range(inputs))


Network = tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]

NETWORKS: dict[str, Network] = {
    **{
        name: (partial(torchvision.models.get_model, name, weights=None), image)
        for name in (
            "resnet50",
            "mobilenet_v3_small",
            "efficientnet_b0",
            "convnext_tiny",
            "swin_v2_t",
        )
    },
    "vit_b_16": (lambda: torchvision.models.vit_b_16(image_size=64), image),
    "diffusion_unet": (DiffusionUNet, lambda: (*image(16), torch.zeros(2, dtype=torch.int64))),
    "llama_slices": (lambda: Llama(rotate_by_slices), ids),
    "llama_chunk": (lambda: Llama(rotate_by_chunk), ids),
    "encoder_decoder": (EncoderDecoder, lambda: ids(2)),
    "mamba": (Mamba, lambda: ids(1, 8)),
}
"""Name -> a function that makes the network, and one that makes zeros of its inputs' shapes."""
