"""Checkpoints of one small network, and rows as a measurement makes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import model, weight

from intrain_onnx.checkpoints.rows import LayerStep, Step

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

TEXT = """(float[N,6] x) => (float[N,4] y) {
    a = MatMul(x, w) b = Add(a, c) r = Relu(b) d = MatMul(r, v) s = Relu(d) y = MatMul(s, u) }"""


def network(changes: Mapping[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """Three linear layers with ReLUs, the first with a bias."""
    weights = {"w": weight(6, 16), "c": weight(16, scale=0.1), "v": weight(16, 16), "u": weight(16, 4)}
    proto = model(TEXT, {**weights, **(changes or {})})
    for node, name in zip(proto.graph.node, ("one", "bias", "act", "two", "act2", "three"), strict=True):
        node.name = name
    return proto


def written(folder: Path, name: str, **changes: np.ndarray) -> str:
    """A checkpoint in a folder."""
    onnx.save(network(changes), folder / name)
    return str(folder / name)


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    """A weight moves by a tenth of itself, and again."""
    v = weight(16, 16)
    return [written(tmp_path, f"step{i}.onnx", v=v * np.float32(1 + i / 10)) for i in (0, 1, 2)]


Rows = Callable[..., list[Step]]


def row(step: int, layer: Mapping[str, Any] | None = None, **changes: Any) -> Step:
    """A sound checkpoint with one layer of 32 channels."""
    own = {
        "name": "conv",
        "kind": "convolution",
        "depth": 1,
        "channels": 32,
        "status": "measured",
        "participation_ratio": 12.0,
        "largest_ratio": 32,
        "health": 0.2,
        "dead_channels": 0,
        "cloned_channels": 0,
        "distance_to_previous": 0.05,
        **(layer or {}),
    }
    whole = {
        "path": f"step{step}.onnx",
        "step": step,
        "status": "scored",
        "previous": f"step{step - 1}.onnx" if step else None,
        "previous_step": step - 1 if step else None,
        "intrain": 20.0,
        "volume": 50.0,
        "gradient_norm": 1.0,
        "distance_to_previous": 0.05,
        "distance_to_first": 0.1,
        "layers": (LayerStep(**own),),
        **changes,
    }
    return Step(**whole)
