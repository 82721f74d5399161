"""The networks of the matrix in Keras. The same ones, layer by layer, are in the other nets_*.py."""

import keras
from keras import layers, ops


def conv_bn(x, outputs, kernel, stride=1, *, depthwise=False):
    """A convolution padded as PyTorch pads, and BatchNorm."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    if depthwise:
        x = layers.DepthwiseConv2D(kernel, stride, use_bias=False)(x)
    else:
        x = layers.Conv2D(outputs, kernel, stride, use_bias=False)(x)
    return layers.BatchNormalization()(x)


def image_classifier(body, name):
    """Mean over positions, and a linear layer."""
    image = keras.Input((32, 32, 3), name="image")
    x = layers.GlobalAveragePooling2D()(body(image))
    return keras.Model(image, layers.Dense(10, name="logits")(x), name=name)


def cnn():
    def body(x):
        x = layers.MaxPooling2D(2)(layers.ReLU()(conv_bn(x, 16, 3)))
        x = layers.ReLU()(conv_bn(x, 32, 3, 2))
        return layers.ReLU()(conv_bn(x, 64, 3, 2))

    return image_classifier(body, "cnn")


def residual(x, branch, outputs, stride):
    same = stride == 1 and x.shape[-1] == outputs
    shortcut = x if same else conv_bn(x, outputs, 1, stride)
    return layers.ReLU()(layers.Add()([branch, shortcut]))


def basic(x, outputs, stride):
    y = conv_bn(layers.ReLU()(conv_bn(x, outputs, 3, stride)), outputs, 3)
    return residual(x, y, outputs, stride)


def bottleneck(x, outputs, stride):
    y = layers.ReLU()(conv_bn(x, outputs // 4, 1))
    y = layers.ReLU()(conv_bn(y, outputs // 4, 3, stride))
    return residual(x, conv_bn(y, outputs, 1), outputs, stride)


def resnet_basic():
    def body(x):
        x = layers.ReLU()(conv_bn(x, 16, 3))
        for outputs, stride in [(16, 1), (32, 2), (64, 2)]:
            x = basic(x, outputs, stride)
        return x

    return image_classifier(body, "resnet_basic")


def resnet_bottleneck():
    def body(x):
        x = layers.ReLU()(conv_bn(x, 16, 3))
        for outputs, stride in [(32, 1), (64, 2), (64, 1), (128, 2)]:
            x = bottleneck(x, outputs, stride)
        return x

    return image_classifier(body, "resnet_bottleneck")


def inverted(x, outputs, stride):
    inputs = x.shape[-1]
    y = layers.ReLU(max_value=6)(conv_bn(x, 4 * inputs, 1))
    y = layers.ReLU(max_value=6)(conv_bn(y, None, 3, stride, depthwise=True))
    y = conv_bn(y, outputs, 1)
    return layers.Add()([x, y]) if stride == 1 and inputs == outputs else y


def mobilenet():
    def body(x):
        x = layers.ReLU(max_value=6)(conv_bn(x, 16, 3, 2))
        for outputs, stride in [(16, 1), (24, 2), (24, 1), (40, 2)]:
            x = inverted(x, outputs, stride)
        return x

    return image_classifier(body, "mobilenet")


def squeeze_excite(x, outputs, stride):
    y = layers.Activation("swish")(conv_bn(x, outputs, 3, stride))
    z = layers.GlobalAveragePooling2D(keepdims=True)(y)
    z = layers.Conv2D(outputs // 4, 1, activation="swish")(z)
    z = layers.Conv2D(outputs, 1, activation="sigmoid")(z)
    return layers.Multiply()([y, z])


def se_net():
    def body(x):
        x = layers.Activation("swish")(conv_bn(x, 16, 3, 2))
        for outputs, stride in [(32, 1), (48, 2), (64, 2)]:
            x = squeeze_excite(x, outputs, stride)
        return x

    return image_classifier(body, "se_net")


def dense_layer(x, growth):
    y = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.ReLU()(conv_bn(y, 4 * growth, 1))
    y = layers.Conv2D(growth, 3, use_bias=False)(layers.ZeroPadding2D(1)(y))
    return layers.Concatenate()([x, y])


def densenet():
    def body(x):
        x = layers.Conv2D(16, 3, use_bias=False)(layers.ZeroPadding2D(1)(x))
        for _ in range(3):
            x = dense_layer(x, 12)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.AveragePooling2D(2)(layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False)(x))
        for _ in range(2):
            x = dense_layer(x, 12)
        return layers.ReLU()(layers.BatchNormalization()(x))

    return image_classifier(body, "densenet")


def norm(x):
    return layers.LayerNormalization(epsilon=1e-5)(x)


def mlp():
    features = keras.Input((64,), name="features")
    x = layers.ReLU()(norm(layers.Dense(128)(features)))
    x = layers.Add()([x, layers.ReLU()(norm(layers.Dense(128)(x)))])
    return keras.Model(features, layers.Dense(10, name="logits")(x), name="mlp")


def attention(x, heads):
    tokens, width = x.shape[1:]

    def split(y):
        return ops.transpose(ops.reshape(y, (-1, tokens, heads, width // heads)), (0, 2, 1, 3))

    q, k, v = (split(layers.Dense(width)(x)) for _ in range(3))
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * (width // heads) ** -0.5)
    y = ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), (-1, tokens, width))
    return layers.Dense(width)(y)


def block(x, heads):
    width = x.shape[-1]
    x = layers.Add()([x, attention(norm(x), heads)])
    y = ops.gelu(layers.Dense(2 * width)(norm(x)), approximate=False)
    return layers.Add()([x, layers.Dense(width)(y)])


class Positions(layers.Layer):
    """Put a class token before the others if asked to, and add learned positions."""

    def __init__(self, token, **kwargs):
        super().__init__(**kwargs)
        self.with_token = token

    def build(self, shape):
        tokens, width = shape[1:]
        small = keras.initializers.RandomNormal(stddev=0.02)
        if self.with_token:
            self.token = self.add_weight(shape=(1, 1, width), initializer=small, name="token")
            tokens += 1
        self.table = self.add_weight(shape=(1, tokens, width), initializer=small, name="table")

    def call(self, x):
        if self.with_token:
            token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[2]))
            x = ops.concatenate([token, x], 1)
        return x + self.table


def vit(*, token):
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Reshape((16, 48))(layers.Conv2D(48, 8, 8)(image))
    x = Positions(token)(x)
    for _ in range(2):
        x = block(x, 3)
    x = norm(x)
    x = x[:, 0] if token else layers.GlobalAveragePooling1D()(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="vit")


def vit_mean():
    return vit(token=False)


def vit_token():
    return vit(token=True)


def lstm():
    ids = keras.Input((16,), dtype="int32", name="ids")
    x = layers.LSTM(48)(layers.Embedding(128, 32)(ids))
    return keras.Model(ids, layers.Dense(5, name="logits")(x), name="lstm")
