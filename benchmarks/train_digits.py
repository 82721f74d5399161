"""Trains networks of the space `digits` alike, and writes the table of their accuracies.

    python benchmarks/train_digits.py -o benchmarks/digits.csv [--networks 120] [--workers 2] [--device cpu]

Each starts from the weights that `intrain_onnx.bench.spaces.digits` draws for it. scikit-learn's digits
(1,797 images of 8x8) are split once, two thirds to train and one third to test. SGD with momentum 0.9,
learning rate 0.02 with a cosine to 0, weight decay 5e-4, batches of 64; one order of batches a run, and the
mean of three runs, since one test set of 599 images tells good networks apart by chance. What diverges has
the accuracy that it ends with. A table that was begun is gone on with. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from intrain_onnx.bench.spaces import digits

EPOCHS = 20
BATCH = 64
RATE = 0.02
RUNS = 3
COLUMNS = ("arch", "accuracy", "accuracy_runs", "loss")


def convolution(
    network: digits.Architecture, inputs: int, outputs: int, kernel: int, stride: int
) -> nn.Module:
    made = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not network.norm)
    return nn.Sequential(made, nn.BatchNorm2d(outputs)) if network.norm else made


class Block(nn.Module):
    """Two convolutions; its modules are in the order of the graph's nodes."""

    def __init__(self, network: digits.Architecture, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(network, inputs, outputs, 3, stride)
        self.second = convolution(network, outputs, outputs, 3, 1)
        self.residual = network.residual
        if self.residual and stride > 1:
            self.shortcut = convolution(network, inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        made = self.second(functional.relu(self.first(x)))
        if self.residual:
            made = made + (self.shortcut(x) if hasattr(self, "shortcut") else x)
        return functional.relu(made)


def module(description: str, size: int = 8, classes: int = 10) -> nn.Module:
    """The network in torch, for any size of image."""
    network = digits.parse(description)
    blocks = network.blocks()
    return nn.Sequential(
        convolution(network, 1, network.width, 3, 1),
        nn.ReLU(),
        *(Block(network, *block) for block in blocks),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(blocks[-1][1], classes),
    )


def initial(description: str) -> nn.Module:
    """The network with the weights of its ONNX file."""
    made = module(description)
    graph = digits.build(description, fold=False).graph
    values = iter(graph.initializer)
    with torch.no_grad():
        for part in made.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight.copy_(value(next(values)))
                if part.bias is not None:
                    part.bias.copy_(value(next(values)))
            elif isinstance(part, nn.BatchNorm2d):
                state = part.state_dict()
                for name in ("weight", "bias", "running_mean", "running_var"):
                    state[name].copy_(value(next(values)))
    assert next(values, None) is None
    return made


def value(tensor: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(tensor).copy())


def data(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standardised images and labels to train on, and to test on."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - the networks alone do without

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = torch.tensor(images[order], dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels[order])
    cut = 2 * len(x) // 3
    x = (x - x[:cut].mean()) / x[:cut].std()
    return x[:cut].to(device), y[:cut].to(device), x[cut:].to(device), y[cut:].to(device)


def batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(EPOCHS):
        order = torch.randperm(count, generator=generator)
        yield from (order[i : i + BATCH] for i in range(0, count - BATCH + 1, BATCH))


def train(description: str, run: int, device: str) -> tuple[float, float]:
    """Accuracy on the test images in per cent, and the mean loss of the last epoch."""
    x, y, test_x, test_y = data(device)
    net = initial(description).to(device).train()
    steps = EPOCHS * (len(x) // BATCH)
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for chosen in batches(len(x), torch.Generator().manual_seed(run)):
        optimiser.zero_grad()
        loss = functional.cross_entropy(net(x[chosen.to(device)]), y[chosen.to(device)])
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
    net.eval()
    with torch.no_grad():
        accuracy = (net(test_x).argmax(1) == test_y).double().mean().item()
    last = torch.stack(losses[-(len(x) // BATCH) :]).mean().item()
    return 100 * accuracy, last


def row(description: str, device: str) -> dict[str, str]:
    """Its line of the table; the loss is empty if a run diverged."""
    torch.set_num_threads(1)
    found = [train(description, run, device) for run in range(RUNS)]
    accuracies, losses = zip(*found, strict=True)
    loss = statistics.fmean(losses)
    return {
        "arch": description,
        "accuracy": f"{statistics.fmean(accuracies):.3f}",
        "accuracy_runs": ";".join(f"{a:.2f}" for a in accuracies),
        "loss": f"{loss:.4f}" if math.isfinite(loss) else "",
    }


def drawn(count: int) -> list[str]:
    """Distinct networks of the space, by a fixed seed."""
    generator, found = random.Random(0), dict[str, None]()
    while len(found) < count:
        found[digits.sample(generator)] = None
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=120)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    done = len(options.output.read_text().splitlines()) - 1 if options.output.exists() else -1
    names, started = drawn(options.networks)[max(done, 0) :], time.perf_counter()
    with (
        options.output.open("a", newline="", encoding="utf-8") as stream,
        multiprocessing.get_context("spawn").Pool(options.workers) as pool,
    ):
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if done < 0:
            writer.writeheader()
        for found in pool.imap(partial(row, device=options.device), names):
            writer.writerow(found)
            stream.flush()
            print(found, file=sys.stderr, flush=True)
    print(f"{time.perf_counter() - started:.0f} s with {options.workers} workers", file=sys.stderr)


if __name__ == "__main__":
    main()
