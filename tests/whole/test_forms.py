"""Files that were miscounted in the field, with what is right: layers, parameters, the score of the twin."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from intrain_onnx import ScoreConfig, inspect, score

FORMS = Path(__file__).parents[1] / "forms"
FIGURES = ("intrain", "geometric_capacity", "optimization_resilience")


@cache
def scored(name: str, protocol: str = "architecture") -> dict[str, Any]:
    return score(
        FORMS / f"{name}.onnx", ScoreConfig.for_protocol(protocol, seeds=1, threads=1, device="cpu")
    ).data


def elements(name: str, *, least: int = 2) -> int:
    """Of the file's own float initializers."""
    held = onnx.load(FORMS / f"{name}.onnx").graph.initializer
    sizes = [
        int(np.prod(t.dims)) for t in held if t.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    ]
    return sum(size for size in sizes if size >= least)


def same_numbers(name: str, twin: str) -> bool:
    held = [
        sorted(
            a.tobytes()
            for t in onnx.load(FORMS / f"{n}.onnx").graph.initializer
            for a in [numpy_helper.to_array(t)]
        )
        for n in (name, twin)
    ]
    return held[0] == held[1] or "weight_standardisation" in name  # folded in one of the two


RIGHT = {
    "weight_norm": (3, 1440),  # 20 elements of biases, the rest of g and v
    "equalised_lr": (5, 7578),
    "weight_standardisation_torchscript": (3, 2986),
    "weight_standardisation_dynamo": (3, 2978),
    "scan_layers_float64": (6, 1264),
    "gemm_relu": (2, 104),
    "fused_gemm": (2, 104),
    "matmul": (2, 640),
    "einsum": (2, 640),
    "contrib_attention": (4, 912),  # query, key and value of one weight, and the layer behind
    "waveform_relu": (3, 4208),
    "waveform_hardswish": (3, 4208),
}
"""Layers that are measured, and parameters."""

TWINS = [
    ("gemm_relu", "fused_gemm"),
    ("matmul", "einsum"),
    ("weight_standardisation_dynamo", "weight_standardisation_torchscript"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_every_layer_and_parameter_is_counted(name: str):
    layers, parameters = RIGHT[name]
    data = scored(name)
    assert len(data["layers"]) == layers
    assert {x["status"] for x in data["layers"]} == {"measured"}
    assert data["model"]["parameters"] == parameters
    assert inspect(FORMS / f"{name}.onnx").data["model"]["parameters"] == parameters
    assert data["coverage"]["share"] == 1
    assert data["parity"]["ok"]
    assert not [w for w in data["warnings"] if w["code"] == "weights_not_recognised"]


@pytest.mark.parametrize("name", ["weight_norm", "equalised_lr", "matmul", "gemm_relu", "contrib_attention"])
def test_parameters_are_the_elements_that_the_file_holds(name: str):
    assert RIGHT[name][1] == elements(name)


@pytest.mark.parametrize(("name", "twin"), TWINS)
@pytest.mark.parametrize("protocol", ["architecture", "checkpoint"])
def test_twins_have_one_score(name: str, twin: str, protocol: str):
    if protocol == "checkpoint" and not same_numbers(name, twin):
        pytest.skip("the two files hold other numbers")
    one, other = scored(name, protocol), scored(twin, protocol)
    assert [x["key"] for x in one["layers"]] == [x["key"] for x in other["layers"]]
    for figure in FIGURES:
        assert one["score"][figure] == pytest.approx(other["score"][figure], rel=1e-4)
    assert one["scores"]["width_depth"]["value"] == pytest.approx(
        other["scores"]["width_depth"]["value"], rel=1e-4
    )


def test_a_scan_over_a_stack_is_a_chain():
    assert [x["depth"] for x in scored("scan_layers_float64")["layers"]] == [1, 2, 3, 4, 5, 6]


def test_a_waveform_is_long_enough_whatever_lies_between_its_windows():
    fed = [
        scored(name)["settings"]["inputs_fed"][0]["shape"] for name in ("waveform_relu", "waveform_hardswish")
    ]
    assert fed[0] == fed[1]
