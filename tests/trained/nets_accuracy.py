"""Train a small Keras network with BatchNorm and a layer of its own, and save it in every form: argv FOLDER.

Writes ``model.keras``, ``model.h5``, the SavedModel ``saved``, ``weights.weights.h5`` for the factory, and
``record.npz``: images that no step saw, their classes, the classes that the network gives, and those that it
gives after two batches of noise in training mode, which is what a converter must not do.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

CLASSES, SIZE = 10, 12


class Doubled(layers.Layer):
    """A layer that only this file knows, and that is registered nowhere."""

    def call(self, x):
        return x + x


def network():
    image = x = keras.Input((SIZE, SIZE, 3), name="image")
    for width in (8, 16):
        x = layers.Conv2D(width, 3, strides=2, use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(image, layers.Dense(CLASSES)(layers.Flatten()(Doubled()(x))))


def images(count, rng):
    """Patterns of one set for all, far from zero mean and unit variance, under noise."""
    patterns = np.random.default_rng(1).standard_normal((CLASSES, SIZE, SIZE, 3))
    classes = rng.integers(CLASSES, size=count)
    noise = 1.8 * rng.standard_normal((count, SIZE, SIZE, 3))
    return (40 + 4 * (patterns[classes] + noise)).astype(np.float32), classes


def restored(folder):
    """The factory: the network with the weights that were trained."""
    model = network()
    model.load_weights(Path(folder) / "weights.weights.h5")
    return model


def classes_of(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False)).argmax(axis=1)


def main(folder):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(2)
    model = network()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*images(2000, rng), epochs=6, batch_size=50, verbose=0)
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.export(folder / "saved", verbose=False)
    model.save_weights(folder / "weights.weights.h5")
    x, y = images(1000, rng)
    given = classes_of(model, x)
    for _ in range(2):
        model(rng.standard_normal((16, SIZE, SIZE, 3)), training=True)
    np.savez(folder / "record.npz", x=x, y=y, given=given, harmed=classes_of(model, x))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
