"""Files whose harm comes with running them, through the whole pipeline under limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from loading import hostile
from loading.hostile import cage

from intrain_onnx import errors

_HARMLESS = {"open /proc/meminfo", "open /dev/null", "open "}
_ERRORS = {name for name in dir(errors) if name.endswith("Error")}


def score(path: Path) -> object:
    from intrain_onnx.config import ScoreConfig
    from intrain_onnx.pipeline import score as score_file

    config = ScoreConfig.for_protocol("checkpoint", seeds=1, batch=2, device="cpu", threads=1)
    return score_file(path, config).intrain


@pytest.mark.parametrize("case", hostile.RUNTIME, ids=str)
def test_ends_with_a_score_or_one_clear_error(case: hostile.Case, tmp_path: Path):
    path = case.build(tmp_path)
    outcome = cage.caged(score, path, tmp_path, cap=6 * 2**30, cpu=240, wall=400)
    assert outcome.error is None or outcome.error in _ERRORS, f"{outcome.error}: {outcome.message}"
    touched = {t for t in outcome.touched if "intrain_onnx.parity.onnxruntime_worker" not in t}
    assert not touched - _HARMLESS
