"""The same network gets the same score, whichever framework wrote it and whichever exporter ran."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from matrix import ESTIMATORS, EXPORTERS, NETWORKS, UNREACHED, path

from intrain_onnx import ScoreConfig, score

REFERENCE = "torchscript"
TOLERANCES = {
    "geometric_capacity": 1e-5,
    # A sum that falls a hair's breadth on the other side of a ReLU's kink moves a gradient by one element.
    "intrain": 1e-3,
    "optimization_resilience": 1e-3,
}
CELLS = [
    pytest.param(name, exporter, id=f"{name}-{exporter}")
    for name in NETWORKS
    for exporter in EXPORTERS
    if exporter != REFERENCE and (name, exporter) not in UNREACHED
]


@cache
def scored(name: str, exporter: str) -> dict[str, Any]:
    return score(
        path(name, exporter), ScoreConfig.for_protocol(seeds=1, parity=False, threads=1, device="cpu")
    ).data


def keys(data: dict[str, Any]) -> Counter[str]:
    return Counter(layer["key"] for layer in data["layers"])


@pytest.mark.parametrize(("name", "exporter"), CELLS)
def test_a_cell_agrees_with_the_reference(name: str, exporter: str):
    reference, data = scored(name, REFERENCE), scored(name, exporter)
    assert len(data["layers"]) == len(reference["layers"])
    assert keys(data) == keys(reference)
    depths = [sorted((layer["key"], layer["depth"]) for layer in d["layers"]) for d in (data, reference)]
    assert depths[0] == depths[1]
    for figure, tolerance in TOLERANCES.items():
        assert data["score"][figure] == pytest.approx(reference["score"][figure], rel=tolerance), figure
    for variant, tolerance in (("width", 1e-5), ("width_depth", TOLERANCES["intrain"])):
        found, expected = data["scores"][variant]["value"], reference["scores"][variant]["value"]
        assert found == pytest.approx(expected, rel=tolerance), variant
    assert data["baselines"] == pytest.approx(reference["baselines"])


@pytest.mark.parametrize("name", NETWORKS)
def test_no_other_network_has_the_same_keys(name: str):
    """Keys that never differed would make the cells above agree as well.

    A class token is no layer: the two transformers have the same layers in the same places.
    """
    others = {n for n in NETWORKS if n != name and {n, name} != {"vit_mean", "vit_token"}}
    here = keys(scored(name, REFERENCE))
    assert all(keys(scored(other, REFERENCE)) != here for other in others)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_is_scored(name: str):
    data = score(path(name, "sklearn"), ScoreConfig.for_protocol(seeds=1, threads=1, device="cpu")).data
    assert data["parity"]["ok"] is True
    assert [layer["weight_shape"][:2] for layer in data["layers"]] == [
        [32, 12],
        [16, 32],
        [{"classifier": 4, "pipeline": 4}.get(name, 1), 16],
    ]
