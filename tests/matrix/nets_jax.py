"""The networks of the matrix in Flax. The same ones, layer by layer, are in the other nets_*.py."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

Norm = partial(nn.BatchNorm, use_running_average=True, epsilon=1e-5)
LayerNorm = partial(nn.LayerNorm, epsilon=1e-5)
relu6 = partial(jnp.clip, min=0, max=6)


def conv(x: jax.Array, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> jax.Array:
    """A convolution padded as PyTorch pads."""
    padding = kernel // 2
    return nn.Conv(
        outputs, (kernel, kernel), stride, padding=padding, feature_group_count=groups, use_bias=False
    )(x)


def conv_bn(x: jax.Array, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> jax.Array:
    return Norm()(conv(x, outputs, kernel, stride, groups))


class Net(nn.Module):
    """A function of the input that makes its layers as it goes."""

    body: Callable[[jax.Array], jax.Array]
    classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.body(x)
        return nn.Dense(self.classes)(x.mean((1, 2)) if x.ndim == 4 else x)


def cnn() -> nn.Module:
    def body(x: jax.Array) -> jax.Array:
        x = nn.max_pool(nn.relu(conv_bn(x, 16, 3)), window_shape=(2, 2), strides=(2, 2))
        x = nn.relu(conv_bn(x, 32, 3, 2))
        return nn.relu(conv_bn(x, 64, 3, 2))

    return Net(body)


def residual(x: jax.Array, branch: jax.Array, outputs: int, stride: int) -> jax.Array:
    same = stride == 1 and x.shape[-1] == outputs
    return nn.relu(branch + (x if same else conv_bn(x, outputs, 1, stride)))


def basic(x: jax.Array, outputs: int, stride: int) -> jax.Array:
    return residual(x, conv_bn(nn.relu(conv_bn(x, outputs, 3, stride)), outputs, 3), outputs, stride)


def bottleneck(x: jax.Array, outputs: int, stride: int) -> jax.Array:
    y = nn.relu(conv_bn(nn.relu(conv_bn(x, outputs // 4, 1)), outputs // 4, 3, stride))
    return residual(x, conv_bn(y, outputs, 1), outputs, stride)


def resnet_basic() -> nn.Module:
    def body(x: jax.Array) -> jax.Array:
        x = nn.relu(conv_bn(x, 16, 3))
        for outputs, stride in [(16, 1), (32, 2), (64, 2)]:
            x = basic(x, outputs, stride)
        return x

    return Net(body)


def resnet_bottleneck() -> nn.Module:
    def body(x: jax.Array) -> jax.Array:
        x = nn.relu(conv_bn(x, 16, 3))
        for outputs, stride in [(32, 1), (64, 2), (64, 1), (128, 2)]:
            x = bottleneck(x, outputs, stride)
        return x

    return Net(body)


def inverted(x: jax.Array, outputs: int, stride: int) -> jax.Array:
    wide = 4 * x.shape[-1]
    y = relu6(conv_bn(relu6(conv_bn(x, wide, 1)), wide, 3, stride, wide))
    y = conv_bn(y, outputs, 1)
    return x + y if stride == 1 and x.shape[-1] == outputs else y


def mobilenet() -> nn.Module:
    def body(x: jax.Array) -> jax.Array:
        x = relu6(conv_bn(x, 16, 3, 2))
        for outputs, stride in [(16, 1), (24, 2), (24, 1), (40, 2)]:
            x = inverted(x, outputs, stride)
        return x

    return Net(body)


def squeeze_excite(x: jax.Array, outputs: int, stride: int) -> jax.Array:
    """The two 1x1 convolutions of means are linear layers here."""
    y = nn.swish(conv_bn(x, outputs, 3, stride))
    z = nn.swish(nn.Dense(outputs // 4)(y.mean((1, 2))))
    return y * nn.sigmoid(nn.Dense(outputs)(z))[:, None, None, :]


def se_net() -> nn.Module:
    def body(x: jax.Array) -> jax.Array:
        x = nn.swish(conv_bn(x, 16, 3, 2))
        for outputs, stride in [(32, 1), (48, 2), (64, 2)]:
            x = squeeze_excite(x, outputs, stride)
        return x

    return Net(body)


def dense_layer(x: jax.Array, growth: int) -> jax.Array:
    y = nn.relu(conv_bn(nn.relu(Norm()(x)), 4 * growth, 1))
    return jnp.concatenate([x, conv(y, growth, 3)], -1)


def densenet() -> nn.Module:
    def body(x: jax.Array) -> jax.Array:
        x = conv(x, 16, 3)
        for _ in range(3):
            x = dense_layer(x, 12)
        x = conv(nn.relu(Norm()(x)), x.shape[-1] // 2, 1)
        x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        for _ in range(2):
            x = dense_layer(x, 12)
        return nn.relu(Norm()(x))

    return Net(body)


def mlp() -> nn.Module:
    def body(x: jax.Array) -> jax.Array:
        x = nn.relu(LayerNorm()(nn.Dense(128)(x)))
        return x + nn.relu(LayerNorm()(nn.Dense(128)(x)))

    return Net(body)


def attention(x: jax.Array, heads: int) -> jax.Array:
    tokens, width = x.shape[1:]

    def split(y: jax.Array) -> jax.Array:
        return y.reshape(-1, tokens, heads, width // heads).transpose(0, 2, 1, 3)

    q, k, v = (split(nn.Dense(width)(x)) for _ in range(3))
    weights = nn.softmax(q @ k.transpose(0, 1, 3, 2) * (width // heads) ** -0.5)
    return nn.Dense(width)((weights @ v).transpose(0, 2, 1, 3).reshape(-1, tokens, width))


def block(x: jax.Array, heads: int) -> jax.Array:
    width = x.shape[-1]
    x = x + attention(LayerNorm()(x), heads)
    y = nn.gelu(nn.Dense(2 * width)(LayerNorm()(x)), approximate=False)
    return x + nn.Dense(width)(y)


class Vit(nn.Module):
    """Patches, positions, transformer blocks; a class token, or the mean over tokens, is classified."""

    token: bool

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        width, small = 48, nn.initializers.normal(0.02)
        x = nn.Conv(width, (8, 8), 8, padding="VALID")(image).reshape(-1, 16, width)
        if self.token:
            token = self.param("token", small, (1, 1, width))
            x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, width)), x], 1)
        x = x + self.param("positions", small, (1, x.shape[1], width))
        for _ in range(2):
            x = block(x, 3)
        x = LayerNorm()(x)
        return nn.Dense(10)(x[:, 0] if self.token else x.mean(1))


def vit_mean() -> nn.Module:
    return Vit(token=False)


def vit_token() -> nn.Module:
    return Vit(token=True)
