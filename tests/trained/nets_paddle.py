import numpy as np
import paddle
from paddle import nn


def network():
    return nn.Sequential(
        nn.Conv2D(3, 8, 3),
        nn.BatchNorm2D(8),
        nn.ReLU(),
        nn.Conv2D(8, 8, 3),
        nn.BatchNorm2D(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def noted(layer, record):
    x = np.random.default_rng(7).standard_normal((3, 3, 8, 8)).astype(np.float32)
    layer.eval()
    with paddle.no_grad():
        np.savez(record, x=x, y=layer(paddle.to_tensor(x)).numpy())
    return layer


def trained(record):
    """Train for twenty steps."""
    layer = network()
    layer.train()
    optimizer = paddle.optimizer.Adam(0.01, parameters=layer.parameters())
    rng = np.random.default_rng(3)
    for _ in range(20):
        x = (2 + 3 * rng.standard_normal((16, 3, 8, 8))).astype(np.float32)
        y = paddle.to_tensor(rng.integers(4, size=16))
        loss = nn.functional.cross_entropy(layer(paddle.to_tensor(x)), y)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    return noted(layer, record)


def fresh(record):
    return noted(network(), record)


def half_trained(record):
    """A trained body and a new head: the second BatchNorm is fresh."""
    layer = network()
    layer[1]._mean.set_value(np.linspace(-1, 1, 8).astype(np.float32))
    layer[1]._variance.set_value(np.linspace(0.5, 3, 8).astype(np.float32))
    return noted(layer, record)
