"""ai.onnx.ml operators: preprocessing and linear models.

Trees, support vector machines and operators on strings are excluded: they have no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops.registry import op

ML = "ai.onnx.ml"
Floats = Sequence[float]


def _constant(values: Floats, x: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=x.device)


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float32 else x.float()


@op("Scaler", 1, domain=ML)
def scaler(x: Tensor, *, offset: Floats = (0.0,), scale: Floats = (1.0,)) -> Tensor:
    """(x - offset) * scale."""
    return (_float(x) - _constant(offset, x)) * _constant(scale, x)


@op("Normalizer", 1, domain=ML)
def normalizer(x: Tensor, *, norm: str = "MAX") -> Tensor:
    """Divide each row by its norm; MAX is the largest value, with its sign."""
    x = _float(x)
    if norm == "MAX":
        size = x.amax(-1, keepdim=True)
    else:
        size = torch.linalg.vector_norm(x, {"L1": 1, "L2": 2}[norm], -1, keepdim=True)
    return x / torch.where(size == 0, 1.0, size)


@op("LinearRegressor", 1, domain=ML)
def linear_regressor(
    x: Tensor,
    *,
    coefficients: Floats,
    intercepts: Floats | None = None,
    post_transform: str = "NONE",
    targets: int = 1,
) -> Tensor:
    """A linear map of the features."""
    return _post_transform(_linear(x, coefficients, intercepts, targets), post_transform)


@op("LinearClassifier", 1, domain=ML)
def linear_classifier(
    x: Tensor,
    *,
    coefficients: Floats,
    n_outputs: int,
    classlabels_ints: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
    intercepts: Floats | None = None,
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Tensor, Tensor]:
    """The class of the largest score, as integer label, or index for string labels; and all scores."""
    count = len(classlabels_ints or classlabels_strings or intercepts or ())
    if len(coefficients) != count * x.shape[-1]:
        raise UnsupportedError("a linear classifier with fewer rows of coefficients than classes")
    scores = _linear(x, coefficients, intercepts, count)
    best = scores.argmax(-1)
    if classlabels_ints is not None:
        best = torch.tensor(list(classlabels_ints), device=x.device)[best]
    return best, _post_transform(scores, post_transform)


def _linear(x: Tensor, coefficients: Floats, intercepts: Floats | None, rows: int) -> Tensor:
    weight = _constant(coefficients, x).reshape(rows, -1)
    return torch.nn.functional.linear(_float(x), weight, _constant(intercepts, x) if intercepts else None)


def _post_transform(scores: Tensor, name: str) -> Tensor:
    if name == "NONE":
        return scores
    if name == "LOGISTIC":
        return torch.sigmoid(scores)
    if name == "SOFTMAX":
        return torch.softmax(scores, -1)
    raise UnsupportedError(f"post_transform {name} is not supported")


@op("Imputer", 1, domain=ML)
def imputer(
    x: Tensor,
    *,
    imputed_value_floats: Floats | None = None,
    imputed_value_int64s: Sequence[int] | None = None,
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Tensor:
    """Replace one value, or NaN, by the constant of its column."""
    if imputed_value_floats is None:
        ints = torch.tensor(list(imputed_value_int64s or ()), device=x.device)
        return torch.where(x == replaced_value_int64, ints, x)
    missing = torch.isnan(x) if math.isnan(replaced_value_float) else x == replaced_value_float
    return torch.where(missing, _constant(imputed_value_floats, x), x)


@op("Binarizer", 1, domain=ML)
def binarizer(x: Tensor, *, threshold: float = 0.0) -> Tensor:
    """1 above the threshold, 0 elsewhere."""
    return (x > threshold).to(x.dtype)


@op("FeatureVectorizer", 1, domain=ML)
def feature_vectorizer(*inputs: Tensor, inputdimensions: Sequence[int]) -> Tensor:
    """Concatenate the features of all inputs."""
    flat = (x.reshape(x.shape[0], -1) for x in inputs)
    return torch.cat([_float(x)[:, :n] for x, n in zip(flat, inputdimensions, strict=True)], 1)


@op("ArrayFeatureExtractor", 1, domain=ML)
def array_feature_extractor(x: Tensor, indices: Tensor) -> Tensor:
    """Select entries of the last axis."""
    picked = x.index_select(-1, indices.reshape(-1).long())
    return picked.reshape(1, -1) if x.dim() == 1 else picked


@op("ZipMap", 1, domain=ML)
def zip_map(
    x: Tensor,
    *,
    classlabels_int64s: Sequence[int] | None = None,
    classlabels_strings: Sequence[str] | None = None,
) -> Tensor:
    """The probabilities unchanged: torch has no maps from class to probability."""
    return x
