"""A small network in ONNX, the same written by hand in torch, and the way from a file to a `ProxyContext`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from builders import model, weight
from torch import Tensor, nn
from torch.nn import functional

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure import initialise
from intrain_onnx.measure.loss import balanced_labels
from intrain_onnx.measure.prepare import prepare
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.report import assemble
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.runtime.random_streams import generator_for

SAMPLES = Path(__file__).parents[2] / "samples"


def network(source: onnx.ModelProto | Path, protocol: str = "paper", **settings: object) -> ProxyContext:
    """A network as ``score`` hands it to the proxies."""
    config = ScoreConfig.for_protocol(protocol, **{"batch": 8, **settings})
    device = torch.device("cpu")
    made = Network.of(load(source), config, runs_on(device))
    runnable = prepare(for_protocol(made, config, runs_on(device).see), config, device)
    count = assemble.parameter_count(made)
    return ProxyContext(runnable, config, count, assemble.macs(made))


def cnn(prefix: str = "", *, activation: str = "Relu") -> onnx.ModelProto:
    """Two convolutions with BatchNorm, global pooling and a classifier."""
    p = prefix
    values = {
        f"{p}w1": weight(4, 3, 3, 3),
        f"{p}w2": weight(6, 4, 3, 3),
        f"{p}w3": weight(5, 6),
        f"{p}b3": np.zeros(5, np.float32),
    }
    for i, channels in ((1, 4), (2, 6)):
        for name, fill in (("s", 1.0), ("o", 0.0), ("m", 0.1), ("v", 2.0)):
            values[f"{p}{name}{i}"] = np.full(channels, fill, np.float32)
    return model(
        f"""(float[batch, 3, 8, 8] x) => (float[batch, 5] y) {{
        {p}c1 = Conv<pads = [1, 1, 1, 1]>(x, {p}w1)
        {p}n1 = BatchNormalization({p}c1, {p}s1, {p}o1, {p}m1, {p}v1)
        {p}r1 = {activation}({p}n1)
        {p}c2 = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>({p}r1, {p}w2)
        {p}n2 = BatchNormalization({p}c2, {p}s2, {p}o2, {p}m2, {p}v2)
        {p}r2 = {activation}({p}n2)
        {p}g = GlobalAveragePool({p}r2)
        {p}f = Flatten({p}g)
        y = Gemm<transB = 1>({p}f, {p}w3, {p}b3)
        }}""",
        values,
    )


class Twin(nn.Module):
    """The same network, by hand."""

    def __init__(self, source: ProxyContext) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.n1 = nn.BatchNorm2d(4)
        self.c2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.n2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)
        values = initialise.parameters(source.module)
        with torch.no_grad():
            for name, layer in (("w1", self.c1), ("w2", self.c2), ("w3", self.fc)):
                layer.weight.copy_(values[name])
            self.fc.bias.copy_(values["b3"])
            for norm in (self.n1, self.n2):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                norm.running_mean.fill_(0.1)
                norm.running_var.fill_(2.0)
        self.train(source.config.batch_norm == "training")
        self.seen: dict[str, Tensor] = {}

    def features(self, x: Tensor) -> Tensor:
        self.seen["c1"] = self.c1(x)
        self.seen["n1"] = self.n1(self.seen["c1"])
        self.seen["c2"] = self.c2(torch.relu(self.seen["n1"]))
        self.seen["n2"] = self.n2(self.seen["c2"])
        return torch.relu(self.seen["n2"])

    def forward(self, x: Tensor) -> Tensor:
        self.seen["fc"] = self.fc(self.features(x).mean((2, 3)))
        return self.seen["fc"]

    @property
    def weights(self) -> list[Tensor]:
        return [self.c1.weight, self.c2.weight, self.fc.weight]

    def loss(self, source: ProxyContext, batch: int = 0) -> Tensor:
        (x,) = source.feed(batch)
        seed = source.seed if batch == 0 else generator_for(source.seed, f"labels {batch}").initial_seed()
        labels = balanced_labels(source.samples, 5, generator_for(seed, "target 0"))
        return functional.cross_entropy(self(x), labels)
