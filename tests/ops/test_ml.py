"""ai.onnx.ml operators against onnxruntime."""

from functools import partial

import numpy as np
import pytest
from node_oracle import check

check = partial(check, domain="ai.onnx.ml")
X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def test_scaler():
    check("Scaler", [X], offset=[0.1, 0.2, 0.3], scale=[1.0, 2.0, 3.0])
    check("Scaler", [X], offset=[0.5], scale=[2.0])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(norm):
    check("Normalizer", [np.abs(X)], norm=norm)


@pytest.mark.parametrize("post_transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_linear_models(post_transform):
    weights = {"coefficients": [0.1 * i for i in range(-4, 5)], "intercepts": [0.1, -0.2, 0.3]}
    check("LinearRegressor", [X], **weights, targets=3, post_transform=post_transform)
    options = {"classlabels_ints": [4, 7, 9], "post_transform": post_transform}
    check("LinearClassifier", [X], n_outputs=2, **weights, **options)


def test_preprocessing():
    holes = X.copy()
    holes[1, 1] = np.nan
    check("Imputer", [holes], imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan"))
    check("Binarizer", [X], threshold=0.2)
    check("FeatureVectorizer", [X, X[:, :2]], inputdimensions=[3, 2])
    check("ArrayFeatureExtractor", [X, np.array([2, 0])])
