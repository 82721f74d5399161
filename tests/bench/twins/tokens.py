"""Language models: decoders and recurrent cells."""

from __future__ import annotations

import graphlib
import itertools
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .transformers import Layer


def weight(module: nn.Module) -> Tensor:
    found = module.weight
    assert isinstance(found, Tensor)
    return found


class Offset(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


class GPT2(nn.Module):
    """Adaptive embeddings and adaptive softmax by the papers of Grave et al. and of Baevski and Auli."""

    def __init__(self, values: dict[str, Any], size: int, words: int) -> None:
        super().__init__()
        width, embedding, divisor = values["d_model"], values["d_embed"], values["div_val"]
        inner = [round(words * share / 50264) for share in (19997, 39997)]
        self.ends = [0, *inner, words]
        sizes = [b - a for a, b in itertools.pairwise(self.ends)]
        mapped = divisor > 1 or width != embedding
        channels = [embedding, embedding // divisor, embedding // divisor**2] if divisor > 1 else [embedding]
        self.tables = nn.ModuleList(map(nn.Embedding, sizes if divisor > 1 else [words], channels))
        self.maps = nn.ModuleList(
            nn.Linear(c, width, bias=False) if mapped else nn.Identity() for c in channels
        )
        self.positions = nn.Embedding(192, width)
        self.layers = nn.Sequential(
            *(
                Layer(width, heads, width // heads, hidden, act=nn.GELU("tanh"), causal=True)
                for heads, hidden in zip(values["n_head"], values["d_inner"], strict=True)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.own = nn.Linear(width, embedding, bias=False) if mapped else nn.Identity()
        self.clusters = nn.Linear(embedding, 2)
        self.offsets = nn.ModuleList(map(Offset, sizes))

    def embed(self, words: Tensor) -> Tensor:
        if len(self.tables) == 1:
            embedded: Tensor = self.maps[0](self.tables[0](words))
            return embedded
        cluster = torch.bucketize(words, torch.tensor(self.ends[1:3]), right=True)
        parts = []
        for i, (table, mapped) in enumerate(zip(self.tables, self.maps, strict=True)):
            rows = torch.where(cluster == i, words - self.ends[i], 0)
            parts.append(torch.where((cluster == i)[..., None], mapped(table(rows)), 0.0))
        return sum(parts, torch.zeros(()))

    def tail(self, x: Tensor, i: int) -> Tensor:
        at = i % len(self.tables)
        mapped = self.maps[at]
        x = x @ weight(mapped) if isinstance(mapped, nn.Linear) else x
        logits: Tensor = self.offsets[i](x @ self.rows(i).T)
        return logits

    def rows(self, i: int) -> Tensor:
        if len(self.tables) == 1:
            return weight(self.tables[0])[self.ends[i] : self.ends[i + 1]]
        return weight(self.tables[i])

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words) + self.positions(torch.arange(words.shape[1]))
        x = self.norm(self.layers(x))
        own = self.own(x)
        frequent = self.offsets[0](own @ self.rows(0).T)
        return torch.cat([frequent, self.clusters(own), self.tail(x, 1), self.tail(x, 2)], -1)


def turned(x: Tensor) -> Tensor:
    """Rotary positions as a product of complex numbers."""
    tokens, half = x.shape[-2], x.shape[-1] // 2
    speeds = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * speeds
    pairs = torch.complex(x[..., :half].double(), x[..., half:].double())
    pairs = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([pairs.real, pairs.imag], -1).to(x)


class OpenBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * (width // heads)
        hidden = 256 * ((int(2 * 4 * width / 3) + 255) // 256)
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.of_queries, self.of_keys = (nn.LayerNorm(inner, bias=False) for _ in range(2))
        self.out = nn.Linear(inner, width, bias=False)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, -1)
        q, k = self.of_queries(q), self.of_keys(k)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        attended = functional.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        inner: Tensor = self.down(functional.silu(self.gate(y)) * self.up(y))
        return x + inner


def openlm(text: str, size: int, words: int) -> nn.Module:
    values = json.loads(text)
    width = values["d"]
    blocks = [OpenBlock(width, values["h"]) for _ in range(values["l"])]
    end = [nn.LayerNorm(width, bias=False), nn.Linear(width, words, bias=False)]
    return nn.Sequential(nn.Embedding(words, width), *blocks, *end)


class MultiLinear(nn.Module):
    """A linear map of several inputs; its parameters are the weights and then the bias."""

    def __init__(self, widths: list[int], outputs: int) -> None:
        super().__init__()
        for i, width in enumerate(widths):
            self.register_parameter(f"weight{i}", nn.Parameter(torch.randn(outputs, width) * width**-0.5))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, *parts: Tensor) -> Tensor:
        *weights, bias = (p.view_as(p) for p in self.parameters())
        return functional.linear(torch.cat(parts, -1), torch.cat(weights, 1), bias)


class Recurrent(nn.Module):
    def __init__(self, recipe: dict[str, Any], inputs: int, outputs: int) -> None:
        super().__init__()
        self.recipe, self.outputs = recipe, outputs
        graph = {name: [i for i in node["input"] if i in recipe] for name, node in recipe.items()}
        self.order = list(graphlib.TopologicalSorter(graph).static_order())
        self.states = sum(name.startswith("h_new_") for name in recipe)
        self.linears = nn.ModuleDict(
            {
                name: MultiLinear([inputs if i == "x" else outputs for i in node["input"]], outputs)
                for name, node in recipe.items()
                if node["op"] == "linear"
            }
        )

    def step(self, known: dict[str, Tensor]) -> list[Tensor]:
        for name in self.order:
            read = [known[i] for i in self.recipe[name]["input"]]
            match self.recipe[name]["op"]:
                case "linear":
                    known[name] = self.linears[name](*read)
                case "blend":
                    known[name] = torch.lerp(read[2], read[1], read[0])
                case "elementwise_sum":
                    known[name] = read[0] + read[1]
                case "elementwise_prod":
                    known[name] = read[0] * read[1]
                case "activation_tanh":
                    known[name] = read[0].tanh()
                case "activation_sigm":
                    known[name] = read[0].sigmoid()
                case "activation_leaky_relu":
                    known[name] = functional.leaky_relu(read[0])
        return [known[f"h_new_{i}"] for i in range(self.states)]

    def forward(self, x: Tensor) -> Tensor:
        states, shown = [x.new_zeros(len(x), self.outputs)] * self.states, []
        for token in x.unbind(1):
            states = self.step({"x": token} | {f"h_prev_{i}": s for i, s in enumerate(states)})
            shown.append(states[0])
        return torch.stack(shown, 1)


class LanguageModel(nn.Module):
    def __init__(self, recipe: dict[str, Any], size: int, words: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 400)
        self.layers = nn.Sequential(
            *(Recurrent(recipe, *pair) for pair in ((400, 600), (600, 600), (600, 400)))
        )
        self.offset = Offset(words)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.offset(self.layers(self.words(words)) @ self.words.weight.T)
        return logits


def gpt2(text: str, size: int, words: int) -> nn.Module:
    return GPT2(json.loads(text), size, words)


def nas_bench_nlp(text: str, size: int, words: int) -> nn.Module:
    return LanguageModel(json.loads(text), size, words)
