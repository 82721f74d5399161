"""Convolutional networks."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


def edge_201(name: str, inputs: int, outputs: int) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    if name == "skip_connect":
        return nn.Identity() if inputs == outputs else conv_bn(inputs, outputs, 1)
    return nn.Sequential(nn.ReLU(), conv_bn(inputs, outputs, int(name[-1])))


class Cell201(nn.Module):
    def __init__(self, text: str, inputs: int, outputs: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for target, node in enumerate(text.split("+"), 1):
            for edge in node.strip("|").split("|"):
                name, source = edge.split("~")
                before = outputs if int(source) else inputs
                self.edges[f"{source}{target}"] = edge_201(name, before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            parts = [self.edges[f"{source}{target}"](nodes[source]) for source in range(target)]
            nodes.append(sum(parts))
        return nodes[3]


class Reduction201(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ReLU(), conv_bn(inputs, outputs, 3, 2), nn.ReLU(), conv_bn(outputs, outputs, 3)
        )
        self.short = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.short(x)


def head(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


def nasbench201(text: str, size: int, classes: int) -> nn.Module:
    blocks: list[nn.Module] = [conv_bn(3, 16, 3)]
    for width in (16, 32, 64):
        blocks += [Reduction201(width // 2, width)] * (width > 16)
        blocks += [Cell201(text, width, width) for _ in range(5)]
    return nn.Sequential(*blocks, nn.BatchNorm2d(64), nn.ReLU(), *head(64, classes))


def nats_size(text: str, size: int, classes: int) -> nn.Module:
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    a, b, c, d, e = map(int, text.split(":"))
    return nn.Sequential(
        conv_bn(3, a, 3),
        Cell201(cell, a, a),
        Reduction201(a, b),
        Cell201(cell, b, c),
        Reduction201(c, d),
        Cell201(cell, d, e),
        nn.BatchNorm2d(e),
        nn.ReLU(),
        *head(e, classes),
    )


class Cell101(nn.Module):
    """Widths by the paper's section 2.2: the concatenated vertices split the output, others follow."""

    def __init__(self, matrix: np.ndarray, names: Sequence[str], inputs: int, outputs: int) -> None:
        super().__init__()
        self.matrix, self.last = matrix, len(names) - 1
        self.widths = self.split(outputs)
        self.operations, self.projections = nn.ModuleDict(), nn.ModuleDict()
        for v in range(1, len(names)):
            if matrix[0, v]:
                width = outputs if v == self.last else self.widths[v]
                self.projections[str(v)] = nn.Sequential(conv_bn(inputs, width, 1), nn.ReLU())
        for v in range(1, self.last):
            kernel = names[v][4:7]
            self.operations[str(v)] = (
                nn.MaxPool2d(3, 1, 1)
                if names[v] == "maxpool3x3"
                else nn.Sequential(conv_bn(self.widths[v], self.widths[v], int(kernel[0])), nn.ReLU())
            )

    def split(self, outputs: int) -> dict[int, int]:
        ends = [v for v in range(1, self.last) if self.matrix[v, self.last]]
        widths = {
            v: len(part)
            for v, part in zip(ends, np.array_split(range(outputs), max(len(ends), 1)), strict=False)
        }
        for v in reversed(range(1, self.last)):
            widths.setdefault(v, max([widths[t] for t in widths if self.matrix[v, t]], default=0))
        return widths

    def forward(self, x: Tensor) -> Tensor:
        values: dict[int, Tensor] = {}
        for v in range(1, self.last):
            total = sum(values[s][:, : self.widths[v]] for s in range(1, v) if self.matrix[s, v])
            if self.matrix[0, v]:
                total = total + self.projections[str(v)](x)
            values[v] = self.operations[str(v)](total)
        ends = [values[v] for v in range(1, self.last) if self.matrix[v, self.last]]
        out = torch.cat(ends, 1) if ends else torch.zeros(())
        return out + self.projections[str(self.last)](x) if self.matrix[0, self.last] else out


def nasbench101(text: str, size: int, classes: int) -> nn.Module:
    digits, names = text.split(" ")
    matrix = np.array(list(digits), int).reshape([math.isqrt(len(digits))] * 2)
    blocks: list[nn.Module] = [conv_bn(3, 128, 3), nn.ReLU()]
    width = 128
    for target in (128, 256, 512):
        blocks += [nn.MaxPool2d(2, 2)] * (target > 128)
        for _ in range(3):
            blocks.append(Cell101(matrix, names.split(","), width, target))
            width = target
    return nn.Sequential(*blocks, *head(512, classes))


class Inverted(nn.Module):
    """Wide, depthwise, narrow; beside the input where the shape stays."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        expansion: int,
        stride: int,
        act: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        wide = [conv_bn(inputs, hidden, 1), act()] if expansion > 1 else []
        deep = [conv_bn(hidden, hidden, kernel, stride, groups=hidden), act()]
        self.body = nn.Sequential(*wide, *deep, conv_bn(hidden, outputs, 1))
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x if self.residual else self.body(x)


def macro(text: str, size: int, classes: int) -> nn.Module:
    strides = (2, 1, 2, 1, 1, 2, 1, 1)
    width = 32
    blocks: list[nn.Module] = [conv_bn(3, width, 3), nn.ReLU()]
    for digit, stride in zip(text, strides, strict=True):
        before, width = width, width * stride
        if digit == "0":
            blocks.append(conv_bn(before, width, 1, 2) if stride == 2 else nn.Identity())
        else:
            kernel, expansion = (3, 3) if digit == "1" else (5, 6)
            blocks.append(Inverted(before, width, kernel, expansion, stride, nn.ReLU))
    return nn.Sequential(*blocks, conv_bn(width, 1280, 1), nn.ReLU(), *head(1280, classes))


class Preactivated(nn.Module):
    """ReLU, 3x3 convolution and BatchNorm, twice, beside the input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), conv_bn(inputs, outputs, 3, stride), nn.ReLU(), conv_bn(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.short(x)


def transnas_macro(text: str, size: int, classes: int) -> nn.Module:
    """Digits minus one in binary: the high bit halves the resolution, the low one doubles the channels."""
    width = 64
    blocks: list[nn.Module] = [conv_bn(3, 32, 3, 2), nn.ReLU(), conv_bn(32, width, 3, 2)]
    for digit in text.split("-")[1]:
        halves, doubles = divmod(int(digit) - 1, 2)
        blocks.append(Preactivated(width, width << doubles, 1 + halves))
        width <<= doubles
        blocks.append(Preactivated(width, width, 1))
    return nn.Sequential(*blocks, *head(width, classes))


class Residual(nn.Module):
    """The blocks of He et al. 2016 with ReLU after the sum; bottlenecks have their stride at the 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int, inner: int | None, groups: int) -> None:
        super().__init__()
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)
        sizes = (
            [(inputs, outputs, 3, stride, 1), (outputs, outputs, 3, 1, 1)]
            if inner is None
            else [(inputs, inner, 1, 1, 1), (inner, inner, 3, stride, groups), (inner, outputs, 1, 1, 1)]
        )
        self.body = nn.ModuleList(conv_bn(*size) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        short = self.short(x)
        for index, layer in enumerate(self.body):
            x = layer(x.relu() if index else x)
        return torch.relu(short + x)


def nds_resnet(text: str, size: int, classes: int) -> nn.Module:
    values = json.loads(text)
    width = values["ws"][0]
    blocks: list[nn.Module] = (
        [conv_bn(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        if values["ss"][0] == 4
        else [
            layer
            for a, b in itertools.pairwise((3, width // 2, width, width))
            for layer in (conv_bn(a, b, 3, 2), nn.ReLU())
        ]
    )
    for i, outputs in enumerate(values["ws"][1:], 1):
        ratios, groups = values["bot_muls"], values["num_gs"]
        inner = round(outputs * ratios[i]) if ratios else None
        for index in range(values["ds"][i]):
            stride = 1 if index else values["ss"][i]
            blocks.append(Residual(width, outputs, stride, inner, groups[i] if groups else 1))
            width = outputs
    return nn.Sequential(*blocks, *head(width, classes))


def mobilenet_v2(text: str, size: int, classes: int) -> nn.Module:
    stem, *stages, last = text.split()
    width = int(stem)
    blocks: list[nn.Module] = [conv_bn(3, width, 3, 2), nn.ReLU6()]
    for stage in stages:
        sizes = {letter: int(number) for letter, number in re.findall(r"([a-z])(\d+)", stage)}
        kernel, expansion, outputs = sizes["k"], sizes["e"], sizes["c"]
        for index in range(sizes["n"]):
            stride = 1 if index else sizes["s"]
            if inner := sizes.get("b"):
                blocks.append(Shortcut(width, inner, kernel, expansion, stride, index == 0))
                blocks.append(Shortcut(inner, outputs, kernel, expansion, 1, False))
            else:
                blocks.append(Inverted(width, outputs, kernel, expansion, stride, nn.ReLU6))
            width = outputs
    return nn.Sequential(*blocks, conv_bn(width, int(last), 1), nn.ReLU6(), *head(int(last), classes))


class Shortcut(nn.Module):
    """Half a pair of a super-block: the hidden width follows from the output."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int, always: bool
    ) -> None:
        super().__init__()
        hidden = outputs * expansion
        self.expand = conv_bn(inputs, hidden, 1)
        self.depthwise = conv_bn(hidden, hidden, kernel, stride, hidden)
        self.project = conv_bn(hidden, outputs, 1)
        changes = always or stride > 1 or inputs != outputs
        self.short = conv_bn(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        deep = self.depthwise(self.expand(x).relu()).relu()
        return torch.relu(self.project(deep) + self.short(x))


class TwoConvolutions(nn.Module):
    """ReLU between them and after them; a shortcut joins before the last."""

    def __init__(self, inputs: int, outputs: int, residual: bool, norm: bool) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first = conv_or_conv_bn(inputs, outputs, 3, stride, norm)
        self.second = conv_or_conv_bn(outputs, outputs, 3, 1, norm)
        self.residual = residual
        self.short = conv_or_conv_bn(inputs, outputs, 1, 2, norm) if residual and stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(self.first(x).relu())
        if self.residual:
            out = out + (self.short(x) if self.short else x)
        return torch.relu(out)


def conv_or_conv_bn(inputs: int, outputs: int, kernel: int, stride: int, norm: bool) -> nn.Module:
    if norm:
        return conv_bn(inputs, outputs, kernel, stride)
    made = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(made.weight)  # or the image is lost on the way through a plain network
    return made


def digits(text: str, size: int, classes: int) -> nn.Module:
    """Three stages of the same number of blocks, or the first ones with one more."""
    values = json.loads(text)
    width, norm = values["width"], values["norm"]
    blocks: list[nn.Module] = [conv_or_conv_bn(1, width, 3, 1, norm), nn.ReLU()]
    for stage, part in enumerate(np.array_split(range(values["depth"] // 2 - 1), 3)):
        for _ in part:
            outputs = values["width"] * 2**stage
            blocks.append(TwoConvolutions(width, outputs, values["residual"], norm))
            width = outputs
    return nn.Sequential(*blocks, *head(width, classes))
