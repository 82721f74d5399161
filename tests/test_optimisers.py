"""Optimisers and version converters change the graph and not the network: the score stays."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx
import onnx.version_converter
import onnxruntime as ort
import pytest
from matrix import OPTIMISERS, SAMPLES, path

from intrain_onnx import ScoreConfig, score

FOLDER = Path(__file__).parents[1] / "samples"
TOLERANCE = 1e-3
FIGURES = ("intrain", "geometric_capacity", "optimization_resilience")


@cache
def figures(source: Path) -> list[float]:
    config = ScoreConfig.for_protocol(seeds=1, parity=False, threads=1, device="cpu")
    data = score(source, config).data
    result, named = data["score"], data["scores"]
    return [*(result[figure] for figure in FIGURES), result["layers"], *(v["value"] for v in named.values())]


def assert_same(name: str, changed: Path) -> None:
    assert figures(changed) == pytest.approx(figures(FOLDER / f"{name}.onnx"), rel=TOLERANCE)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("tool", OPTIMISERS)
def test_an_optimiser_keeps_the_score(name: str, tool: str):
    assert_same(name, path(name, tool))


@pytest.mark.parametrize("name", SAMPLES)
def test_onnxruntime_basic_keeps_the_score(name: str, tmp_path: Path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(FOLDER / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    assert_same(name, tmp_path / "optimised.onnx")


@pytest.mark.parametrize("name", SAMPLES)
def test_another_opset_keeps_the_score(name: str, tmp_path: Path):
    model = onnx.load(FOLDER / f"{name}.onnx")
    version = next(o.version for o in model.opset_import if not o.domain)
    converted = onnx.version_converter.convert_version(model, 22 if version != 22 else 21)
    onnx.save(converted, tmp_path / "converted.onnx")
    assert_same(name, tmp_path / "converted.onnx")
