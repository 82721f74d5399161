"""Optimisers and version converters change the graph and not the network: the score stays."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import onnx
import onnx.version_converter
import onnxruntime as ort
import pytest
from matrix import OPTIMISERS, SAMPLES, require

from intrain_onnx import ScoreConfig, score
from intrain_onnx.pipeline import canonical_layers

FOLDER = Path(__file__).parents[1] / "samples"
TOLERANCE = 1e-3
FIGURES = ("intrain", "geometric_capacity", "optimization_resilience")


CONFIG = ScoreConfig.for_protocol(seeds=1, parity=False, threads=1, device="cpu")


@cache
def figures(source: Path) -> list[float]:
    data = score(source, CONFIG).data
    result, named = data["score"], data["scores"]
    return [*(result[figure] for figure in FIGURES), result["layers"], *(v["value"] for v in named.values())]


@cache
def keys(source: Path) -> list[str]:
    return sorted(layer.key for layer in canonical_layers(source, CONFIG).layers)


def assert_same(name: str, changed: Path) -> None:
    assert figures(changed) == pytest.approx(figures(FOLDER / f"{name}.onnx"), rel=TOLERANCE)


def optimised(source: Path, level: str, folder: Path) -> Path:
    """The file as onnxruntime's optimiser writes it at a level, for its CPU provider."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(folder / f"{level}.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return folder / f"{level}.onnx"


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("tool", OPTIMISERS)
def test_an_optimiser_keeps_the_score(name: str, tool: str):
    assert_same(name, require(name, tool))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
def test_onnxruntime_keeps_score_and_keys(name: str, level: str, tmp_path: Path):
    changed = optimised(FOLDER / f"{name}.onnx", level, tmp_path)
    assert_same(name, changed)
    assert keys(changed) == keys(FOLDER / f"{name}.onnx")


@pytest.mark.parametrize("name", SAMPLES)
def test_another_opset_keeps_the_score(name: str, tmp_path: Path):
    model = onnx.load(FOLDER / f"{name}.onnx")
    version = next(o.version for o in model.opset_import if not o.domain)
    converted = onnx.version_converter.convert_version(model, 22 if version != 22 else 21)
    onnx.save(converted, tmp_path / "converted.onnx")
    assert_same(name, tmp_path / "converted.onnx")
