"""Reports of small models, scored once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intrain_onnx import Report, ScoreConfig, score

ROOT = Path(__file__).parents[2]
FILES = (
    ROOT / "samples" / "jax_cnn.onnx",
    ROOT / "samples" / "pytorch_encoder_torchscript.onnx",
    ROOT / "tests" / "forms" / "contrib_attention.onnx",
    ROOT / "tests" / "forms" / "jax_while_loop.onnx",
)


@pytest.fixture(scope="session")
def reports() -> list[Report]:
    """A report of each, the first with all that can be asked for."""
    quick: dict[str, Any] = {"seeds": 1, "batch": 4, "threads": 1, "device": "cpu"}
    full: dict[str, Any] = {"seeds": 2, "points": "all", "proxies": ("synflow",)}
    return [
        score(path, ScoreConfig.for_protocol(parity=not i, **quick | (full if not i else {})))
        for i, path in enumerate(FILES)
    ]
