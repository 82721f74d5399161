import jax
import numpy as np
from flax import linen, nnx


class Network(nnx.Module):
    def __init__(self, rngs):
        self.conv1, self.norm1 = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.conv2, self.norm2 = nnx.Conv(8, 8, (3, 3), rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm1(self.conv1(x)))
        x = nnx.relu(self.norm2(self.conv2(x)))
        return self.head(x.mean((1, 2)))


class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.BatchNorm(use_running_average=True)(linen.Conv(8, (3, 3))(x)))
        return linen.Dense(4)(x.mean((1, 2)))


INPUT = np.random.default_rng(7).standard_normal((3, 8, 8, 3)).astype(np.float32)


def noted(module, record):
    module.eval()
    np.savez(record, x=INPUT, y=np.asarray(module(INPUT)))
    return module


def trained(record):
    """See noise of another distribution in training mode, as training does; weights of a seed of its own."""
    module = Network(nnx.Rngs(11))
    rng = np.random.default_rng(3)
    module.train()
    for _ in range(5):
        module((2 + 3 * rng.standard_normal((16, 8, 8, 3))).astype(np.float32))
    return noted(module, record)


def fresh(record, rngs):
    return noted(Network(rngs), record)


def half_trained(record):
    """A trained body and a new head: the second BatchNorm is fresh."""
    module = Network(nnx.Rngs(11))
    module.norm1.mean[...] = np.linspace(-1, 1, 8, dtype=np.float32)
    module.norm1.var[...] = np.linspace(0.5, 3, 8, dtype=np.float32)
    return noted(module, record)


def linen_variables(record):
    module = LinenNetwork()
    variables = module.init(jax.random.key(11), INPUT)
    np.savez(record, x=INPUT, y=np.asarray(module.apply(variables, INPUT)))
    return module, variables


def linen_trained(record):
    """A Linen module with the variables that it was trained to."""
    module, variables = linen_variables(record)
    return module.bind(variables)


def linen_pair(record):
    return linen_variables(record)
