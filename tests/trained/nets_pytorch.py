import numpy as np
import torch
from torch import nn


class Counted(nn.BatchNorm2d):
    """A BatchNorm that also keeps count in a buffer of its own, which it replaces."""

    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen = self.seen + float(self.training)
        return super().forward(x)


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        Counted(8),
        nn.ReLU(),
        nn.utils.spectral_norm(nn.Conv2d(8, 8, 3)),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def noted(module, record):
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        np.savez(record, x=x.numpy(), y=module.eval()(x).numpy())
    return module


def trained(record):
    """Train for twenty steps."""
    module = network().train()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        x = 2 + 3 * torch.randn(16, 3, 8, 8, generator=generator)
        loss = nn.functional.cross_entropy(module(x), torch.randint(4, (16,), generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return noted(module, record)


def fresh(record):
    return noted(network(), record)


def half_trained(record):
    """A trained body and a new head: the second BatchNorm is fresh."""
    module = network()
    module[1].running_mean.copy_(torch.linspace(-1, 1, 8))
    module[1].running_var.copy_(torch.linspace(0.5, 3, 8))
    return noted(module, record)
