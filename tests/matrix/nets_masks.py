"""More networks in plain PyTorch with unusual signatures: masks, categories, states, levels of noise."""

import math

import torch
from nets_signatures import Attention
from signatures import Network
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Attention with a mask that is added to its scores, and a multilayer perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, x, x, mask))
        return self.norm2(x + self.mlp(x))


class Bert(nn.Module):
    """An encoder of words, places and segments; what the mask leaves out gets -1e9."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(100, width), nn.Embedding(64, width)
        self.segments, self.norm = nn.Embedding(2, width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.head = nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        mask = (1.0 - attention_mask[:, None, None].float()) * -1e9
        places = self.places(torch.arange(input_ids.shape[1]))
        x = self.norm(self.words(input_ids) + places + self.segments(token_type_ids))
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x[:, 0])


def bert_masked() -> Network:
    inputs = {
        "input_ids": torch.randint(0, 100, (2, 9)),
        "attention_mask": torch.ones(2, 9, dtype=torch.int64),
        "token_type_ids": torch.zeros(2, 9, dtype=torch.int64),
    }
    axes = {name: {0: "batch", 1: "sequence"} for name in inputs} | {"logits": {0: "batch"}}
    return Network(Bert(), inputs, ("logits",), axes)


class Padded(nn.Module):
    """PyTorch's own encoder: its mask is True where there is nothing to see."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 7)

    def forward(self, tokens: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        x = self.encoder(self.embedding(tokens), src_key_padding_mask=src_key_padding_mask)
        return self.head(x)


def key_padding() -> Network:
    mask = torch.arange(9) >= torch.tensor([[9], [5]])
    inputs = {"tokens": torch.randint(0, 100, (2, 9)), "src_key_padding_mask": mask}
    axes = {name: {0: "batch", 1: "seq_len"} for name in (*inputs, "logits")}
    return Network(Padded(), inputs, ("logits",), axes)


class Series(nn.Module):
    """A transformer of two kinds of values over time; missing ones are hidden by a large finite number."""

    def __init__(self, values: int = 7, calendar: int = 4, width: int = 32) -> None:
        super().__init__()
        self.values, self.calendar = nn.Linear(values, width), nn.Linear(calendar, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.head = nn.Linear(width, values)

    def forward(self, past_values: Tensor, past_time_features: Tensor, missing_mask: Tensor) -> Tensor:
        hidden = missing_mask.to(past_values.dtype)[:, None, None] * -10000.0
        x = self.values(past_values) + self.calendar(past_time_features)
        for block in self.blocks:
            x = block(x, hidden)
        return self.head(x[:, -1])


def time_series() -> Network:
    inputs = {
        "past_values": torch.randn(2, 24, 7),
        "past_time_features": torch.randn(2, 24, 4),
        "missing_mask": torch.zeros(2, 24, dtype=torch.bool),
    }
    axes = {name: {0: "batch", 1: "context"} for name in inputs} | {"forecast": {0: "batch"}}
    return Network(Series(), inputs, ("forecast",), axes)


class Towers(nn.Module):
    """Users and things, each of several categories in one tensor, and how well they match."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.user = nn.ModuleList(nn.Embedding(size, width) for size in (500, 7, 2, 30))
        self.item = nn.ModuleList(nn.Embedding(size, width) for size in (900, 12, 5))
        self.user_mlp = nn.Sequential(nn.Linear(4 * width, 32), nn.ReLU(), nn.Linear(32, 16))
        self.item_mlp = nn.Sequential(nn.Linear(3 * width + 1, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, user_features: Tensor, item_features: Tensor, price: Tensor) -> Tensor:
        user = torch.cat([table(user_features[:, k]) for k, table in enumerate(self.user)], 1)
        item = torch.cat([table(item_features[:, k]) for k, table in enumerate(self.item)], 1)
        user = functional.normalize(self.user_mlp(user), dim=1)
        item = functional.normalize(self.item_mlp(torch.cat([item, price], 1)), dim=1)
        return (user * item).sum(1) / 0.05


def two_tower() -> Network:
    inputs = {
        "user_features": torch.stack([torch.randint(0, n, (4,)) for n in (500, 7, 2, 30)], 1),
        "item_features": torch.stack([torch.randint(0, n, (4,)) for n in (900, 12, 5)], 1),
        "price": torch.rand(4, 1),
    }
    axes = {name: {0: "batch_size"} for name in (*inputs, "score")}
    return Network(Towers(), inputs, ("score",), axes)


class Transducer(nn.Module):
    """The predictor of an RNN-T and its joint network, with the LSTM's states as inputs and outputs."""

    def __init__(self, symbols: int = 30, width: int = 24) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(symbols, width), nn.LSTM(width, width, 1)
        self.heard, self.said = nn.Linear(32, width), nn.Linear(width, width)
        self.joint = nn.Sequential(nn.ReLU(), nn.Linear(width, symbols))

    def forward(
        self, encoder_outputs: Tensor, targets: Tensor, input_states_1: Tensor, input_states_2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = self.embedding(targets).transpose(0, 1)
        said, (hidden, cell) = self.lstm(x, (input_states_1, input_states_2))
        heard = self.heard(encoder_outputs.transpose(1, 2)).unsqueeze(2)
        return self.joint(heard + self.said(said).transpose(0, 1).unsqueeze(1)), hidden, cell


def rnnt() -> Network:
    """NeMo's names: frames on the last axis, one target a call."""
    inputs = {
        "encoder_outputs": torch.randn(2, 32, 11),
        "targets": torch.randint(0, 30, (2, 1)),
        "input_states_1": torch.zeros(1, 2, 24),
        "input_states_2": torch.zeros(1, 2, 24),
    }
    axes = {
        "encoder_outputs": {0: "batch", 2: "time"},
        "targets": {0: "batch"},
        "outputs": {0: "batch", 1: "time"},
        **{f"{side}_states_{k}": {1: "batch"} for side in ("input", "output") for k in (1, 2)},
    }
    return Network(Transducer(), inputs, ("outputs", "output_states_1", "output_states_2"), axes)


class Denoiser(nn.Module):
    """EDM's preconditioning: a level of noise, whose logarithm is embedded, scales what goes in and out."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(8) * 2)
        self.level = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, width))
        self.first, self.last = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in range(3))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        s = sigma.reshape(-1, 1, 1, 1)
        angles = (sigma.log() / 4).unsqueeze(1) * self.frequencies
        level = self.level(torch.cat([angles.cos(), angles.sin()], 1))[:, :, None, None]
        y = self.first(x / (s**2 + 0.25).sqrt())
        for conv, norm in zip(self.body, self.norms, strict=True):
            y = y + conv(functional.silu(norm(y) + level))
        return 0.25 / (s**2 + 0.25) * x + s * 0.5 / (s**2 + 0.25).sqrt() * self.last(y)


def edm_sigma() -> Network:
    inputs = {"x": torch.randn(2, 3, 16, 16), "sigma": torch.tensor([0.5, 3.0])}
    axes = {name: {0: "batch"} for name in (*inputs, "denoised")}
    return Network(Denoiser(), inputs, ("denoised",), axes)


class Speech(nn.Module):
    """VITS without its splines: durations, frames repeated by them, noise, coupling flows, a waveform."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding, self.block = nn.Embedding(100, width), Block(width)
        self.duration = nn.Conv1d(width, 1, 3, padding=1)
        self.prior = nn.Conv1d(width, 2 * width, 1)
        self.flows = nn.ModuleList(nn.Conv1d(width // 2, width // 2, 5, padding=2) for _ in range(2))
        self.before = nn.Conv1d(width, width, 7, padding=3)
        self.up = nn.ConvTranspose1d(width, width // 2, 8, 4, 2)
        self.after = nn.Conv1d(width // 2, 1, 7, padding=3)

    def forward(self, input: Tensor, input_lengths: Tensor, scales: Tensor) -> Tensor:
        valid = torch.arange(input.shape[1]) < input_lengths.unsqueeze(1)
        seen = valid.unsqueeze(1).to(torch.float32)
        x = self.embedding(input) * math.sqrt(16)
        x = self.block(x, (1 - seen).unsqueeze(1) * -10000.0).transpose(1, 2) * seen
        spans = torch.ceil(torch.exp(self.duration(x)) * seen * scales[1]).squeeze(1)
        ends = spans.cumsum(1)
        frames = torch.arange(ends[:, -1].detach().max().clamp(min=1.0).long()).to(torch.float32)
        path = ((frames >= (ends - spans).unsqueeze(2)) & (frames < ends.unsqueeze(2))).to(torch.float32)
        mean, deviation = (self.prior(x) @ path).chunk(2, 1)
        z = mean + torch.randn_like(mean) * deviation.exp() * scales[0]
        for flow in self.flows:
            a, b = z.chunk(2, 1)
            z = torch.cat([b - flow(a), a], 1)
        y = self.up(functional.leaky_relu(self.before(z), 0.1))
        return torch.tanh(self.after(functional.leaky_relu(y, 0.1)))


def vits_plain() -> Network:
    inputs = {
        "input": torch.randint(0, 100, (1, 9)),
        "input_lengths": torch.tensor([9]),
        "scales": torch.tensor([0.667, 1.0, 0.8]),
    }
    axes = {
        "input": {0: "batch_size", 1: "phonemes"},
        "input_lengths": {0: "batch_size"},
        "output": {0: "batch_size", 2: "time"},
    }
    return Network(Speech(), inputs, ("output",), axes)
