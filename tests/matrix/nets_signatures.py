"""Networks with unusual signatures in plain PyTorch, in the style of the libraries that people export."""

import math

import torch
from signatures import Network
from torch import Tensor, nn
from torch.nn import functional


class Sam(nn.Module):
    """Prompts and an image's embedding to masks, as segment-anything's own export has them."""

    def __init__(self, width: int = 32, grid: int = 16) -> None:
        super().__init__()
        self.width, self.size = width, 16 * grid
        self.register_buffer("gaussian", torch.randn(2, width // 2))
        self.points = nn.Parameter(torch.randn(4, width))
        self.not_a_point, self.no_mask = (nn.Parameter(torch.randn(1, width)) for _ in range(2))
        self.mask_down = nn.Sequential(
            *(nn.Conv2d(1, 4, 2, 2), nn.GroupNorm(1, 4), nn.GELU()),
            *(nn.Conv2d(4, 8, 2, 2), nn.GroupNorm(1, 8), nn.GELU(), nn.Conv2d(8, width, 1)),
        )
        self.tokens = nn.Parameter(torch.randn(5, width))
        self.layers = nn.ModuleList(TwoWay(width) for _ in range(2))
        self.up = nn.Sequential(
            *(nn.ConvTranspose2d(width, 16, 2, 2), nn.GroupNorm(1, 16), nn.GELU()),
            *(nn.ConvTranspose2d(16, 8, 2, 2), nn.GELU()),
        )
        self.hyper = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 8)) for _ in range(4)
        )
        self.quality = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))

    def encode(self, where: Tensor) -> Tensor:
        angles = 2 * math.pi * ((2 * where - 1) @ self.gaussian)
        return torch.cat([angles.sin(), angles.cos()], -1)

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        labels = labels.unsqueeze(-1)
        embedded = self.encode((coords + 0.5) / self.size) * (labels != -1)
        embedded = embedded + self.not_a_point * (labels == -1)
        for kind in range(4):
            embedded = embedded + self.points[kind] * (labels == kind)
        return embedded

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        sparse = self.embed_points(point_coords, point_labels)
        dense = has_mask_input * self.mask_down(mask_input)
        dense = dense + (1 - has_mask_input) * self.no_mask.reshape(1, -1, 1, 1)
        side = self.size // 16
        steps = (torch.arange(side) + 0.5) / side
        where = self.encode(torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)).reshape(
            1, -1, self.width
        )
        tokens = torch.cat([self.tokens.expand(sparse.shape[0], -1, -1), sparse], 1)
        image = (image_embeddings + dense).flatten(2).transpose(1, 2)
        queries = tokens
        for layer in self.layers:
            queries, image = layer(queries, image, tokens, where)
        upscaled = self.up(image.transpose(1, 2).reshape(-1, self.width, side, side))
        kernels = torch.stack([head(queries[:, 1 + k]) for k, head in enumerate(self.hyper)], 1)
        low = (kernels @ upscaled.flatten(2)).reshape(-1, 4, 4 * side, 4 * side)
        masks = functional.interpolate(low, (self.size, self.size), mode="bilinear", align_corners=False)
        height, width = orig_im_size.to(torch.int64)[0], orig_im_size.to(torch.int64)[1]
        masks = functional.interpolate(masks, (height, width), mode="bilinear", align_corners=False)
        return masks, self.quality(queries[:, 0]), low


class Attention(nn.Module):
    """Attention of some heads, with projections of its own, and a mask that is added to the scores."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.split(self.q(query)), self.split(self.k(key)), self.split(self.v(value))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(query.shape))


class TwoWay(nn.Module):
    """A block of SAM's decoder: among tokens, tokens to image, image to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.to_image, self.to_tokens = (Attention(width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, image: Tensor, first: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        q = tokens + first
        tokens = self.norms[0](tokens + self.own(q, q, tokens))
        tokens = self.norms[1](tokens + self.to_image(tokens + first, image + where, image))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        image = self.norms[3](image + self.to_tokens(image + where, tokens + first, tokens))
        return tokens, image


def sam_decoder() -> Network:
    inputs = {
        "image_embeddings": torch.randn(1, 32, 16, 16),
        "point_coords": torch.rand(1, 5, 2) * 256,
        "point_labels": torch.randint(0, 4, (1, 5)).float(),
        "mask_input": torch.randn(1, 1, 64, 64),
        "has_mask_input": torch.tensor([1.0]),
        "orig_im_size": torch.tensor([150.0, 225.0]),
    }
    axes = {"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}}
    return Network(Sam(), inputs, ("masks", "iou_predictions", "low_res_masks"), axes)


class Twin(nn.Module):
    """Two images through one trunk; the distance of what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *(
                nn.Conv2d(1, 8, 5),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(8, 16, 5),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ),
            *(nn.Flatten(), nn.Linear(16 * 16, 32), nn.ReLU(), nn.Linear(32, 16)),
        )

    def forward(self, img0: Tensor, img1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b = self.trunk(img0), self.trunk(img1)
        return functional.pairwise_distance(a, b), a, b


def siamese() -> Network:
    inputs = {"img0": torch.randn(2, 1, 28, 28), "img1": torch.randn(2, 1, 28, 28)}
    axes = {name: {0: "batch"} for name in ("img0", "img1", "distance", "embedding0", "embedding1")}
    return Network(Twin(), inputs, ("distance", "embedding0", "embedding1"), axes)


class Dlrm(nn.Module):
    """Bags of categories, each with its offsets, beside dense features; their products go on."""

    def __init__(self, sizes: tuple[int, ...] = (100, 50, 20), width: int = 16) -> None:
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(size, width, mode="sum") for size in sizes)
        self.bottom = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, width), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(width + 6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
        self.register_buffer("pairs", torch.tril_indices(4, 4, -1))

    def forward(self, dense_x: Tensor, lS_o: Tensor, *lS_i: Tensor) -> Tensor:  # noqa: N803 - DLRM's names
        x = self.bottom(dense_x)
        found = [bag(values, lS_o[k]) for k, (bag, values) in enumerate(zip(self.bags, lS_i, strict=True))]
        together = torch.stack([x, *found], 1)
        products = together @ together.transpose(1, 2)
        return self.top(torch.cat([x, products[:, self.pairs[0], self.pairs[1]]], 1))


def dlrm_offsets() -> Network:
    inputs = {"dense_x": torch.randn(4, 13), "lS_o": torch.arange(0, 12, 3).expand(3, 4).contiguous()}
    axes = {"dense_x": {0: "batch"}, "lS_o": {1: "batch"}, "pred": {0: "batch"}}
    for k, size in enumerate((100, 50, 20)):
        inputs[f"lS_i_{k}"] = torch.randint(0, size, (12,))
        axes[f"lS_i_{k}"] = {0: f"indices_{k}"}
    return Network(Dlrm(), inputs, ("pred",), axes)


class Recogniser(nn.Module):
    """Convolutions over a spectrogram, two-way LSTMs over its valid frames, logits for CTC."""

    def __init__(self, mels: int = 40, width: int = 32, symbols: int = 29) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *(nn.Conv2d(1, 8, (11, 5), (2, 2), (5, 2)), nn.BatchNorm2d(8), nn.Hardtanh(0, 20)),
            *(nn.Conv2d(8, 8, (5, 5), (2, 1), (2, 2)), nn.BatchNorm2d(8), nn.Hardtanh(0, 20)),
        )
        self.rnn = nn.LSTM(8 * mels // 4, width, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, symbols)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        lengths = (feature_lengths - 1) // 2 + 1
        x = self.conv(features.unsqueeze(1))
        valid = torch.arange(x.shape[3], device=x.device) < lengths.unsqueeze(1)
        x = (x * valid[:, None, None]).flatten(1, 2).transpose(1, 2)
        start = x.new_zeros(4, x.shape[0], self.rnn.hidden_size)
        return functional.log_softmax(self.head(self.rnn(x, (start, start))[0]), -1), lengths


def ctc_lstm() -> Network:
    inputs = {"features": torch.randn(2, 40, 60), "feature_lengths": torch.tensor([60, 44])}
    axes = {
        "features": {0: "batch", 2: "time"},
        "feature_lengths": {0: "batch"},
        "log_probs": {0: "batch", 1: "frames"},
        "lengths": {0: "batch"},
    }
    return Network(Recogniser(), inputs, ("log_probs", "lengths"), axes)
