"""The networks of the benchmark of speed: written in torch, and the ONNX file of each."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from intrain_onnx.bench.spaces import nasbench201
from intrain_onnx.bench.writer import Writer


@dataclass(frozen=True)
class Net:
    """A network, and the batch that it is measured on.

    Attributes:
        name: short, for `--networks`.
        title: for the page.
        shape: of the input, samples first.
        make: the network in torch; None if it is only written as ONNX.
        write: the network as ONNX, where no exporter writes it.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    make: Callable[[], nn.Module] | None = None
    write: Callable[[], onnx.ModelProto] | None = None

    @property
    def size(self) -> str:
        """The shape of the input in words."""
        return "x".join(map(str, self.shape))

    def native(self) -> nn.Module | None:
        """The network in torch, with the same weights at each call, as the exporter saw it."""
        torch.manual_seed(0)
        return self.make().eval() if self.make is not None else None

    def file(self, folder: Path) -> Path:
        """The ONNX file; written by PyTorch's TorchScript exporter the first time."""
        path = folder / f"{self.name}.onnx"
        if path.exists():
            return path
        module = self.native()
        if module is None:
            assert self.write is not None
            onnx.save(self.write(), path)
            return path
        example = torch.zeros(2, *self.shape[1:])
        axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer and of the exporter's age
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=False,
                opset_version=17,
                input_names=["input"],
                output_names=["logits"],
                dynamic_axes=axes,
            )
        return path


class Linear(nn.Module):
    """A linear map whose bias is written out, as exporters write it for tokens."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * math.sqrt(2 / inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        return x @ self.weight if self.bias is None else x @ self.weight + self.bias


class Chain(nn.Module):
    """Linear layers of one width, each added up behind a tanh.

    What is added is bounded: without that hundreds of layers overflow under one protocol or the other.
    """

    def __init__(self, layers: int, width: int, *, bias: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(width, width, bias=bias) for _ in range(layers))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(samples, width) to the same."""
        for layer in self.layers:
            made = torch.tanh(layer(x))
            x = x + (made * self.scale if self.scale != 1.0 else made)
        return x


class TinyOperators(nn.Module):
    """A thousand element-wise operators with a linear layer every hundred."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(64, 64) for _ in range(10))

    def forward(self, x: Tensor) -> Tensor:
        """(samples, 64) to the same."""
        for layer in self.layers:
            x = layer(x)
            for _ in range(14):
                y = torch.tanh(x)
                x = torch.sqrt(torch.exp(-y) + torch.abs(x)) * torch.sigmoid(y)
        return x


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.act = heads, nn.GELU()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(samples, tokens, width) to the same."""
        tokens, width = x.shape[1:]
        parts = self.qkv(self.first(x)).reshape(-1, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, tokens, width)
        x = x + self.out(mixed)
        made: Tensor = x + self.down(self.act(self.up(self.second(x))))
        return made


class Encoder(nn.Module):
    """Blocks of 256 channels, the mean over tokens, a classifier."""

    def __init__(self, layers: int, width: int = 256) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width, 8, 4 * width) for _ in range(layers)))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(samples, tokens, width) to logits."""
        made: Tensor = self.head(self.blocks(x).mean(1))
        return made


class Recurrent(nn.Module):
    """An LSTM and a classifier of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(256, 256, 2, batch_first=True)
        self.head = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(samples, steps, 256) to logits."""
        made: Tensor = self.head(self.lstm(x)[0][:, -1])
        return made


def _classified(body: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(body, nn.Linear(width, 10))


def _stack(layers: int) -> nn.Module:
    return _classified(Chain(layers, 64), 64)


def small_vit() -> nn.Module:
    """ViT-S/16."""
    made: nn.Module = models.VisionTransformer(
        image_size=224, patch_size=16, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536
    )
    return made


def _cell() -> onnx.ModelProto:
    return nasbench201.build(nasbench201.sample(random.Random(4)), fold=True)


NETS = {
    net.name: net
    for net in (
        Net("resnet50", "ResNet-50", (16, 3, 64, 64), models.resnet50),
        Net("mobilenet", "MobileNetV2", (16, 3, 96, 96), models.mobilenet_v2),
        Net("efficientnet", "EfficientNet-B0", (16, 3, 96, 96), models.efficientnet_b0),
        Net("vit_s", "ViT-S/16", (4, 3, 224, 224), small_vit),
        Net("vit_b", "ViT-B/16", (4, 3, 224, 224), models.vit_b_16),
        Net("convnext", "ConvNeXt-T", (4, 3, 224, 224), models.convnext_tiny),
        Net("swin", "Swin-T", (4, 3, 224, 224), models.swin_t),
        Net("encoder", "encoder, 12 layers of 256, 128 tokens", (16, 128, 256), lambda: Encoder(12)),
        Net("lstm", "LSTM, 2 layers of 256, 64 steps", (16, 64, 256), Recurrent),
        Net(
            "tiny_linear",
            "330 linear layers of 8 (1,650 nodes)",
            (16, 8),
            lambda: _classified(Chain(330, 8, scale=0.1), 8),
        ),
        Net("cell", "NAS-Bench-201 cell network", (16, 3, 32, 32), write=_cell),
        Net(
            "graph",
            "700 linear layers of 16 (2,100 nodes)",
            (16, 16),
            lambda: _classified(Chain(700, 16, bias=False), 16),
        ),
        Net(
            "operators",
            "1,000 tiny operators on 16x64",
            (16, 64),
            lambda: _classified(TinyOperators(), 64),
        ),
    )
}
"""In the order of the page."""

STUDIES = {
    "batch": [
        (float(n), Net(f"batch{n}", "ResNet-18", (n, 3, 64, 64), models.resnet18))
        for n in (8, 16, 32, 48, 64)
    ],
    "size": [
        (float(n * n), Net(f"size{n}", "ResNet-18", (4, 3, n, n), models.resnet18))
        for n in (32, 64, 96, 128, 160, 192, 224)
    ],
    "layers": [
        (
            float(n),
            Net(f"layers{n}", "linear layers of 64", (16, 64), partial(_stack, n)),
        )
        for n in (10, 50, 100, 150, 200, 250, 300)
    ],
}
"""Networks of a study by what changes: what the cost should be linear in, and the network."""


def chain_file(folder: Path, nodes: int) -> Path:
    """A chain of linear layers of 8 with ReLU, of about this many nodes."""
    path = folder / f"chain{nodes}.onnx"
    if not path.exists():
        writer = Writer(fold=True)
        x = "input"
        for _ in range(nodes // 3):
            x = writer.node("Relu", writer.linear(x, 8, 8))
        given = onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["batch", 4, 8])
        output = onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, ["batch", 4, 8])
        onnx.save(writer.network(given, output, name="chain"), path)
    return path
