import keras
import numpy as np
from keras import layers


@keras.saving.register_keras_serializable()
class Doubled(layers.Layer):
    """A layer that only this file knows."""

    def call(self, x):
        return x + x


def network(*, frozen=False):
    image = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=False)(image)))
    x = layers.Conv2D(8, 3, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization(trainable=not frozen, name="second")(x))
    return keras.Model(image, layers.Dense(4)(layers.GlobalAveragePooling2D()(Doubled()(x))))


def noted(model, record):
    x = np.random.default_rng(7).standard_normal((3, 8, 8, 3)).astype(np.float32)
    np.savez(record, x=x, y=keras.ops.convert_to_numpy(model(x, training=False)))
    return model


def trained(record):
    """Train for two epochs with an optimizer; the second BatchNorm is frozen."""
    model = network(frozen=True)
    rng = np.random.default_rng(3)
    x, y = 2 + 3 * rng.standard_normal((64, 8, 8, 3)), rng.integers(4, size=64)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=2, verbose=0)
    plain = keras.models.clone_model(model)  # as a factory that loads weights: no optimizer tells
    plain.set_weights(model.get_weights())
    return noted(plain, record)


def all_trained(record):
    """No BatchNorm is fresh, whatever is asked for."""
    model = network()
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-1, 1, 8))
            layer.moving_variance.assign(np.linspace(0.5, 3, 8))
    return noted(model, record)


def frozen(record):
    """Trained weights around BatchNorms that never learnt: nothing but their ``trainable`` tells."""
    model = network()
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    return noted(model, record)


def compiled(record):
    """Trained by an optimizer that moved nothing of a known start."""
    model = network()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.train_on_batch(np.zeros((2, 8, 8, 3)), np.zeros((2, 4)))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.zeros(8))
            layer.moving_variance.assign(np.ones(8))
    return noted(model, record)


def fresh(record):
    return noted(network(), record)


def half_trained(record):
    """A trained body and a new head: the second BatchNorm is fresh."""
    model = network()
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    norms[0].moving_mean.assign(np.linspace(-1, 1, 8))
    norms[0].moving_variance.assign(np.linspace(0.5, 3, 8))
    return noted(model, record)
