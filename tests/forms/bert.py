"""A BERT as Hugging Face writes it, by PyTorch's TorchScript exporter: ``python tests/forms/bert.py``.

What onnxruntime's transformer optimiser looks for: three embeddings, separate query, key and value, a mask of
-10000, dense layers whose sums with the residual go into a LayerNorm, Gelu by the error function.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

FILE = Path(__file__).with_suffix(".onnx")
HEADS, WIDTH = 2, 16


class Block(nn.Module):
    """Self-attention and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.first, self.second = (nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            y.view(y.shape[0], y.shape[1], HEADS, -1).permute(0, 2, 1, 3)
            for y in (self.query(x), self.key(x), self.value(x))
        )
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(WIDTH // HEADS) + mask
        y = torch.matmul(scores.softmax(-1), v).permute(0, 2, 1, 3).contiguous()
        x = self.first(self.dense(y.view(y.shape[0], y.shape[1], -1)) + x)
        return self.second(self.down(nn.functional.gelu(self.up(x))) + x)


class Bert(nn.Module):
    """Embeddings, blocks and a classifier on the first token."""

    ids: Tensor

    def __init__(self, vocabulary: int = 50, longest: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(longest, WIDTH)
        self.segments, self.norm = nn.Embedding(2, WIDTH), nn.LayerNorm(WIDTH, eps=1e-12)
        self.blocks, self.head = nn.ModuleList(Block() for _ in range(2)), nn.Linear(WIDTH, 5)
        self.register_buffer("ids", torch.arange(longest)[None])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -10000.0
        x = self.words(input_ids) + self.segments(token_type_ids)
        x = self.norm(x + self.places(self.ids[:, : input_ids.shape[1]]))
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x[:, 0])


def main() -> None:
    """Write the file beside this one."""
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (2, 12))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        Bert().eval(),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        FILE,
        input_names=names,
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names},
        opset_version=14,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
