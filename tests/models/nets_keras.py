"""Networks of keras.applications, as deep as they are there and narrow, so that their files are small."""

from functools import partial

import keras
from keras import layers
from keras.src.applications import densenet, efficientnet, resnet

SHAPE = (64, 64, 3)
common = {"weights": None, "input_shape": SHAPE, "classes": 10}


def keras_mobilenetv2():
    return keras.applications.MobileNetV2(alpha=0.1, **common)


def keras_efficientnetb0():
    return efficientnet.EfficientNet(0.2, 1.0, 64, name="efficientnetb0", **common)


def keras_resnet50():
    def stacks(x):
        for number, (filters, blocks, stride) in enumerate(
            [(8, 3, 1), (12, 4, 2), (16, 6, 2), (24, 3, 2)], 2
        ):
            x = resnet.stack_residual_blocks_v1(x, filters, blocks, stride1=stride, name=f"conv{number}")
        return x

    return resnet.ResNet(stacks, preact=False, use_bias=True, name="resnet50", **common)


def keras_densenet121():
    image = keras.Input(SHAPE)
    norm = partial(layers.BatchNormalization, epsilon=1.001e-5)
    x = layers.Conv2D(8, 7, strides=2, use_bias=False)(layers.ZeroPadding2D(3)(image))
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(layers.ReLU()(norm()(x))))
    for stage, blocks in enumerate((6, 12, 24, 16), 2):
        for block in range(blocks):
            x = densenet.conv_block(x, 4, name=f"conv{stage}_block{block + 1}")
        if stage < 5:
            x = densenet.transition_block(x, 0.5, name=f"pool{stage}")
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(norm()(x)))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x), name="densenet121")
