"""The network of the Keras sample: a small MobileNetV2."""

import keras
from keras import layers


def _inverted_residual(x: keras.KerasTensor, channels: int, stride: int) -> keras.KerasTensor:
    """Expand, convolve each channel by itself, project; add the input where the shapes allow it."""
    width = x.shape[-1]
    y = layers.Conv2D(4 * width, 1, use_bias=False)(x)
    y = layers.ReLU(max_value=6)(layers.BatchNormalization()(y))
    y = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(y)
    y = layers.ReLU(max_value=6)(layers.BatchNormalization()(y))
    y = layers.Conv2D(channels, 1, use_bias=False)(y)
    y = layers.BatchNormalization()(y)
    return layers.Add()([x, y]) if stride == 1 and width == channels else y


def mobile(size: int = 32, classes: int = 10) -> keras.Model:
    """Return a classifier of ``size`` x ``size`` x 3 images with softmax."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(max_value=6)(layers.BatchNormalization()(x))
    for channels, stride in [(16, 1), (24, 2), (24, 1), (40, 2), (40, 1)]:
        x = _inverted_residual(x, channels, stride)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(classes, activation="softmax", name="classes")(x)
    return keras.Model(image, x, name="mobile")
