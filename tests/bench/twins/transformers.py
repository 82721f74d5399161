"""Transformers that read images, and the layer that decoders share with them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import torch
from torch import Tensor, nn


class Learned(nn.Module):
    """A tensor of its own for each sample: positions or a class token."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), *self.value.shape[1:])


class Layer(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        dimension: int,
        hidden: int,
        *,
        act: nn.Module | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * heads * dimension)
        self.out = nn.Linear(heads * dimension, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), act or nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.norms[0](x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class AutoFormer(nn.Module):
    def __init__(self, values: dict[str, Any], size: int, classes: int) -> None:
        super().__init__()
        width = values.get("embed_dim") or values["hidden_dim"]
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token, self.positions = Learned(1, 1, width), Learned(1, (size // 16) ** 2 + 1, width)
        self.layers = nn.Sequential(
            *(
                Layer(width, heads, 64 if "embed_dim" in values else width // heads, int(width * ratio))
                for ratio, heads in zip(values["mlp_ratio"], values["num_heads"], strict=True)
            )
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token(x), x], 1)
        x = self.norm(self.layers(x + self.positions(x)))
        return self.head(x[:, 1:].mean(1))


class PiT(nn.Module):
    def __init__(self, values: dict[str, Any], size: int, classes: int) -> None:
        super().__init__()
        base, heads = values["base_dim"], values["num_heads"]
        widths = [base * n for n in heads]
        side = (size - 16) // 8 + 1
        self.patches = nn.Conv2d(3, widths[0], 16, 8)
        self.positions, self.token = Learned(1, widths[0], side, side), Learned(1, 1, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Layer(w, n, base, int(w * values["mlp_ratio"])) for _ in range(depth)))
            for w, n, depth in zip(widths, heads, values["depth"], strict=True)
        )
        self.pools = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1, groups=a) for a, b in itertools.pairwise(widths))
        self.lifts = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.norm, self.head = nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        x = x + self.positions(x)
        token = self.token(x)
        for stage, layers in enumerate(self.stages):
            if stage:
                x, token = self.pools[stage - 1](x), self.lifts[stage - 1](token)
            mixed = layers(torch.cat([token, x.flatten(2).transpose(1, 2)], 1))
            token, x = mixed[:, :1], mixed[:, 1:].transpose(1, 2).unflatten(2, x.shape[2:])
        return self.head(self.norm(token)[:, 0])


def autoformer(text: str, size: int, classes: int) -> nn.Module:
    return AutoFormer(json.loads(text), size, classes)


def pit(text: str, size: int, classes: int) -> nn.Module:
    return PiT(json.loads(text), size, classes)
