"""Files of one network, and the comparison of two of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from intrain_onnx.diff.rows import Document
from intrain_onnx.diff.run import DiffSettings, diff

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
sys.path.append(str(ROOT / "benchmarks"))  # for the conversions, which the benchmark makes too

Compare = Callable[..., Document]


@pytest.fixture
def compared(tmp_path: Path) -> Compare:
    """Compares two models, or files, on one thread."""

    def run(first: onnx.ModelProto | Path, second: onnx.ModelProto | Path, **settings: Any) -> Document:
        paths = []
        for name, model in (("first", first), ("second", second)):
            if isinstance(model, Path):
                paths.append(model)
            else:
                paths.append(tmp_path / f"{name}.onnx")
                onnx.save(model, paths[-1])
        return diff(paths[0], paths[1], DiffSettings.of(**{"threads": 1, "scored": False, **settings}))

    return run
