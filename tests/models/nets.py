"""Networks of the export matrix in PyTorch: small, with what is typical of their kind."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution with BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut, as in torchvision's ResNet-50."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.reduce, self.middle = conv_norm(inputs, width, 1), conv_norm(width, width, 3, stride)
        self.expand = conv_norm(width, 4 * width, 1)
        same = stride == 1 and inputs == 4 * width
        self.shortcut = nn.Identity() if same else conv_norm(inputs, 4 * width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(functional.relu(self.middle(functional.relu(self.reduce(x)))))
        return functional.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, width: int = 12, classes: int = 10) -> None:
        super().__init__()
        self.stem, self.pool = conv_norm(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)
        blocks, channels = [], width
        for stage, count in enumerate((1, 2, 1)):
            for index in range(count):
                blocks.append(Bottleneck(channels, width << stage, 2 if stage and not index else 1))
                channels = 4 * (width << stage)
        self.blocks = nn.Sequential(*blocks)
        self.average, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.blocks(self.pool(functional.relu(self.stem(image))))
        return self.head(torch.flatten(self.average(x), 1))


def mobilenet_v3() -> nn.Module:
    """Depthwise convolutions, squeeze-and-excitation, hard swish."""
    block = partial(InvertedResidualConfig, width_mult=1.0, dilation=1)
    settings = [
        block(16, 3, 16, 16, use_se=True, activation="RE", stride=2),
        block(16, 3, 48, 24, use_se=False, activation="RE", stride=1),
        block(24, 5, 96, 24, use_se=True, activation="HS", stride=1),
        block(24, 5, 96, 48, use_se=True, activation="HS", stride=2),
    ]
    net = MobileNetV3(settings, last_channel=128, num_classes=10)
    nn.init.normal_(net.classifier[-1].weight, std=0.5)  # so small otherwise that nothing could differ
    return net


def vit() -> nn.Module:
    """Patches, a class token, learned positions, fused attention."""
    net = VisionTransformer(32, 8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10)
    nn.init.normal_(net.heads[-1].weight, std=0.1)  # zeros otherwise
    return net


def swin() -> nn.Module:
    """Windows that are shifted by rolling, relative positions, merging of patches."""
    net = SwinTransformer([2, 2], 24, [2, 2], [2, 4], [4, 4], num_classes=10, stochastic_depth_prob=0.0)
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1 or "table" in name:
            nn.init.normal_(parameter, std=0.2 / math.sqrt(max(parameter.shape[-1] / 24, 1)))
    return net


class UNet(nn.Module):
    """Encoder and decoder: transposed convolutions, bilinear upsampling, concatenated shortcuts."""

    def __init__(self, width: int = 12, classes: int = 4) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(self.pair(i, o) for i, o in zip([3, *sizes[:2]], sizes, strict=True))
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.join1, self.join2 = self.pair(4 * width, 2 * width), self.pair(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def pair(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            conv_norm(inputs, outputs, 3), nn.ReLU(), conv_norm(outputs, outputs, 3), nn.LeakyReLU(0.1)
        )

    def forward(self, image: Tensor) -> Tensor:
        a = self.down[0](image)
        b = self.down[1](functional.max_pool2d(a, 2))
        c = self.down[2](functional.max_pool2d(b, 2))
        d = self.join1(torch.cat([self.up1(c), b], 1))
        e = functional.interpolate(d, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(self.join2(torch.cat([e, a], 1)))


class Tagger(nn.Module):
    """A label for each token: embedding, two bidirectional LSTM layers, a linear layer."""

    def __init__(self, vocabulary: int = 300, width: int = 48, labels: int = 9) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * width, labels)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.tokens(ids))[0])


class GptBlock(nn.Module):
    """Causal attention over the past and the present, and a feed-forward network."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past_key: Tensor, past_value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
        now = torch.arange(length) + past_key.shape[2]
        later = torch.arange(key.shape[2]) > now[:, None]
        scores = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        x = x + self.project((weights @ value).transpose(1, 2).reshape(n, length, width))
        return x + self.narrow(functional.gelu(self.widen(self.norm2(x)), approximate="tanh")), key, value


class Gpt(nn.Module):
    """A decoder with its cache as inputs and outputs, and tied embeddings."""

    def __init__(self, vocabulary: int = 200, width: int = 64, heads: int = 4, longest: int = 32) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(longest, width)
        self.block1, self.block2 = GptBlock(width, heads), GptBlock(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor, k1: Tensor, v1: Tensor, k2: Tensor, v2: Tensor) -> tuple[Tensor, ...]:
        places = torch.arange(ids.shape[1]) + k1.shape[2]
        x = self.tokens(ids) + self.positions(places)
        x, k1, v1 = self.block1(x, k1, v1)
        x, k2, v2 = self.block2(x, k2, v2)
        return functional.linear(self.norm(x), self.tokens.weight), k1, v1, k2, v2
