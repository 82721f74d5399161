"""Multilayer perceptrons of scikit-learn, fitted to noise."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

FEATURES = 12
warnings.simplefilter("ignore", ConvergenceWarning)


def noise(classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((200, FEATURES)), rng.integers(classes, size=200)


def classifier(classes: int = 4) -> MLPClassifier:
    return MLPClassifier((32, 16), max_iter=5, random_state=0).fit(*noise(classes))


def binary() -> MLPClassifier:
    return classifier(2)


def regressor() -> MLPRegressor:
    return MLPRegressor(hidden_layer_sizes=(32, 16), max_iter=5, random_state=0).fit(*noise(100))


def pipeline() -> Pipeline:
    network = MLPClassifier((32, 16), max_iter=5, random_state=0)
    return make_pipeline(StandardScaler(), MinMaxScaler(), network).fit(*noise(4))
