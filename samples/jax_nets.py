"""The networks of the JAX samples: a small convolutional net (Flax NNX) and an MLP-Mixer (Flax Linen)."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import linen, nnx


class Cnn(nnx.Module):
    """Classify images: three convolutions with BatchNorm, mean over positions, a linear layer."""

    def __init__(self, width: int = 16, classes: int = 10, *, rngs: nnx.Rngs) -> None:
        channels = [3, width, 2 * width, 4 * width]
        pairs = list(pairwise(channels))
        self.convs = nnx.List(
            [nnx.Conv(i, o, (3, 3), strides=2, use_bias=False, rngs=rngs) for i, o in pairs]
        )
        self.norms = nnx.List([nnx.BatchNorm(o, rngs=rngs) for _, o in pairs])
        self.head = nnx.Linear(channels[-1], classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """(N, H, W, 3) -> (N, classes)."""
        x = image
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.relu(norm(conv(x)))
        return self.head(x.mean((1, 2)))


class MixerBlock(linen.Module):
    """Mix over patches, then over channels; each after a LayerNorm and around a shortcut."""

    hidden: int

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, patches, channels) -> the same."""
        y = jnp.swapaxes(linen.LayerNorm()(x), 1, 2)
        y = linen.Dense(x.shape[1])(linen.gelu(linen.Dense(self.hidden)(y)))
        x = x + jnp.swapaxes(y, 1, 2)
        y = linen.LayerNorm()(x)
        return x + linen.Dense(x.shape[2])(linen.gelu(linen.Dense(self.hidden)(y)))


class Mixer(linen.Module):
    """Classify images: patches, mixer blocks, mean over patches, a linear layer."""

    patch: int = 4
    width: int = 48
    depth: int = 2
    classes: int = 10

    @linen.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """(N, H, W, 3) -> (N, classes)."""
        x = linen.Conv(self.width, (self.patch, self.patch), strides=self.patch, padding="VALID")(image)
        x = x.reshape(-1, x.shape[1] * x.shape[2], self.width)
        for _ in range(self.depth):
            x = MixerBlock(2 * self.width)(x)
        return linen.Dense(self.classes)(linen.LayerNorm()(x).mean(1))
