"""The networks of the matrix in PyTorch. The same ones, layer by layer, are in the other nets_*.py."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution padded to keep the size, and BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Classify(nn.Module):
    """Mean over positions, and a linear layer."""

    def __init__(self, body: nn.Module, channels: int, classes: int = 10) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(image).mean((2, 3)))


def cnn() -> nn.Module:
    body = nn.Sequential(
        *(conv_bn(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(conv_bn(16, 32, 3, 2), nn.ReLU()),
        *(conv_bn(32, 64, 3, 2), nn.ReLU()),
    )
    return Classify(body, 64)


class Residual(nn.Module):
    """A branch and a shortcut, added; then ReLU."""

    def __init__(self, branch: nn.Module, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


def basic(inputs: int, outputs: int, stride: int) -> nn.Module:
    branch = nn.Sequential(conv_bn(inputs, outputs, 3, stride), nn.ReLU(), conv_bn(outputs, outputs, 3))
    return Residual(branch, inputs, outputs, stride)


def bottleneck(inputs: int, outputs: int, stride: int) -> nn.Module:
    inner = outputs // 4
    branch = nn.Sequential(
        *(conv_bn(inputs, inner, 1), nn.ReLU(), conv_bn(inner, inner, 3, stride), nn.ReLU()),
        conv_bn(inner, outputs, 1),
    )
    return Residual(branch, inputs, outputs, stride)


def resnet_basic() -> nn.Module:
    blocks = (basic(16, 16, 1), basic(16, 32, 2), basic(32, 64, 2))
    return Classify(nn.Sequential(conv_bn(3, 16, 3), nn.ReLU(), *blocks), 64)


def resnet_bottleneck() -> nn.Module:
    blocks = (bottleneck(16, 32, 1), bottleneck(32, 64, 2), bottleneck(64, 64, 1), bottleneck(64, 128, 2))
    return Classify(nn.Sequential(conv_bn(3, 16, 3), nn.ReLU(), *blocks), 128)


class Inverted(nn.Module):
    """Expand, convolve each channel by itself, project; add the input where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inputs
        self.add = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            *(conv_bn(inputs, wide, 1), nn.ReLU6(), conv_bn(wide, wide, 3, stride, wide), nn.ReLU6()),
            conv_bn(wide, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.add else self.body(x)


def mobilenet() -> nn.Module:
    blocks = (Inverted(16, 16, 1), Inverted(16, 24, 2), Inverted(24, 24, 1), Inverted(24, 40, 2))
    return Classify(nn.Sequential(conv_bn(3, 16, 3, 2), nn.ReLU6(), *blocks), 40)


class SqueezeExcite(nn.Module):
    """A convolution with BatchNorm and swish; two 1x1 convolutions of its means weight its channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv_bn(inputs, outputs, 3, stride), nn.SiLU())
        self.squeeze = nn.Conv2d(outputs, outputs // 4, 1)
        self.excite = nn.Conv2d(outputs // 4, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        means = functional.adaptive_avg_pool2d(y, 1)
        return y * torch.sigmoid(self.excite(functional.silu(self.squeeze(means))))


def se_net() -> nn.Module:
    blocks = (SqueezeExcite(16, 32, 1), SqueezeExcite(32, 48, 2), SqueezeExcite(48, 64, 2))
    return Classify(nn.Sequential(conv_bn(3, 16, 3, 2), nn.SiLU(), *blocks), 64)


class DenseLayer(nn.Module):
    """BatchNorm, ReLU and convolution, 1x1 and 3x3; the input is put beside the result."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(), conv_bn(inputs, 4 * growth, 1), nn.ReLU()),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        *(DenseLayer(16, 12), DenseLayer(28, 12), DenseLayer(40, 12)),
        *(nn.BatchNorm2d(52), nn.ReLU(), nn.Conv2d(52, 26, 1, bias=False), nn.AvgPool2d(2)),
        *(DenseLayer(26, 12), DenseLayer(38, 12), nn.BatchNorm2d(50), nn.ReLU()),
    )
    return Classify(body, 50)


class Mlp(nn.Module):
    """Linear layers with LayerNorm, the second around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Linear(64, 128), nn.LayerNorm(128, eps=1e-5)
        self.second, self.norm2 = nn.Linear(128, 128), nn.LayerNorm(128, eps=1e-5)
        self.head = nn.Linear(128, 10)

    def forward(self, features: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.first(features)))
        x = x + torch.relu(self.norm2(self.second(x)))
        return self.head(x)


class Attention(nn.Module):
    """Self-attention with a linear layer each for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1:]

        def split(y: Tensor) -> Tensor:
            return y.reshape(-1, tokens, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(-1, tokens, width))


class Block(nn.Module):
    """Attention and a multilayer perceptron, each after LayerNorm and around a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, eps=1e-5), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Patches, positions, transformer blocks; a class token, or the mean over tokens, is classified."""

    def __init__(self, *, token: bool) -> None:
        super().__init__()
        width = 48
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02) if token else None
        self.positions = nn.Parameter(torch.randn(1, 17 if token else 16, width) * 0.02)
        self.blocks = nn.Sequential(Block(width, 3), Block(width, 3))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-5), nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.positions))
        return self.head(x.mean(1) if self.token is None else x[:, 0])


def vit_mean() -> nn.Module:
    return Vit(token=False)


def vit_token() -> nn.Module:
    return Vit(token=True)


class Lstm(nn.Module):
    """Embedded ids, an LSTM, a linear layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(128, 32), nn.LSTM(32, 48, batch_first=True)
        self.head = nn.Linear(48, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(ids))[0][:, -1])


mlp, lstm = Mlp, Lstm
