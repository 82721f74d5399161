"""Statistics of the weights in a file, tensor by tensor. No torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.audit.facts import WeightFacts
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.recognise import Weight
from intrain_onnx.network.values import canonical, floats_of

Array = np.ndarray[Any, Any]

_SIDE = 512
"""Largest side of the evenly spaced submatrix from which the rank of a larger matrix is estimated."""

_PART = 2**22
"""Elements processed at a time."""


def weight_facts(model: ir.Model, layers: LayerMap) -> dict[str, WeightFacts]:
    """Statistics of every floating-point initializer of a normalised model, by name.

    Cost: several passes over each tensor, in parts, and one float64 product of at most 512 x 512 matrices.
    """
    owners = {w.name: (layer.name, w) for layer in layers.layers for w in layer.weights}
    found: dict[str, WeightFacts] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point() or tensor.size == 0:
            continue
        array = floats_of(tensor)
        slot = layers.slots.get(name)
        layer, weight = owners.get(name, (slot.layer if slot else None, None))
        role = "weight" if weight else slot.role if slot else "constant"
        found[name] = _facts(name, array, layer, role, tensor.dtype.name.lower(), weight)
    return found


def _facts(
    name: str, array: Array, layer: str | None, role: str, dtype: str, weight: Weight | None
) -> WeightFacts:
    facts = WeightFacts(name, layer, role, dtype, *_scan(array))
    if weight is None or facts.not_finite:
        return facts
    matrix = canonical(array, weight.steps)
    matrix = matrix.reshape(matrix.shape[0], -1)
    return replace(
        facts,
        channels=matrix.shape[0],
        zero_channels=int(np.count_nonzero(~matrix.any(axis=1))),
        rank_ratio=rank_ratio(matrix) if _is_map(weight) else None,
        rank_limit=min(matrix.shape),
    )


def _scan(array: Array) -> tuple[int, int, int, int, float, float]:
    """Counts of elements, non-finite, NaN and zero; largest magnitude and RMS (see `WeightFacts`).

    Works on a part at a time, so that external data is read as needed.
    """
    flat = array.reshape(-1)
    finite = nan = nonzero = 0
    largest = squares = 0.0
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART]
        good = part[np.isfinite(part)]
        finite += good.size
        nan += int(np.count_nonzero(np.isnan(part)))
        nonzero += int(np.count_nonzero(part))
        largest = max(largest, float(np.abs(good).max(initial=0.0)))
        squares += float(np.square(good, dtype=np.float64).sum())
    rms = math.sqrt(squares / finite) if finite else 0.0
    return flat.size, flat.size - finite, nan, flat.size - nonzero, largest, rms


def _is_map(weight: Weight) -> bool:
    """Whether the weight mixes input channels: a depthwise convolution has a separate filter per channel."""
    return len(weight.shape) < 3 or weight.shape[1] > 1


def rank_ratio(matrix: Array) -> float | None:
    """Effective rank of a matrix, (tr G)^2 / tr(G^2) of its Gram matrix G; None for a zero matrix."""
    rows, columns = (np.linspace(0, n - 1, min(n, _SIDE)).astype(int) for n in matrix.shape)
    part = matrix[np.ix_(rows, columns)].astype(np.float64)
    largest = float(np.abs(part).max(initial=0.0))
    if min(part.shape) < 1 or largest == 0.0:
        return None
    part /= largest
    gram = part @ part.T if part.shape[0] <= part.shape[1] else part.T @ part
    return float(np.trace(gram) ** 2 / np.square(gram).sum())
