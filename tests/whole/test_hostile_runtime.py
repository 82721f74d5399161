"""Files whose harm comes with running them, through each command's function under limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from loading import hostile
from loading.hostile import budgets, cage

from intrain_onnx import errors

_HARMLESS = {"open /proc/meminfo", "open /proc/self/status", "open /dev/null", "open "}
_ERRORS = {name for name in dir(errors) if name.endswith("Error")}
_CAP = 6 * 2**30
_MOST = 4000
"""Megabytes: half of the cap for values that are alive, and what one operator needs besides."""
_SIZED = [case for case in hostile.RUNTIME if case.build.__module__ == budgets.__name__]


def inspect(path: Path) -> object:
    from intrain_onnx.inspection import inspect as inspect_file

    return inspect_file(path).document.coverage


def score(path: Path) -> object:
    from intrain_onnx.config import ScoreConfig
    from intrain_onnx.pipeline import score as score_file

    config = ScoreConfig.for_protocol("checkpoint", seeds=1, batch=2, device="cpu", threads=1)
    return score_file(path, config).intrain


def audit(path: Path) -> object:
    from intrain_onnx.audit import policy
    from intrain_onnx.audit.run import audit as audit_file

    result = audit_file(path, policy.parse("run = { seeds = 1, batch = 2, threads = 1, parity = false }"))
    if result.error is not None:
        raise result.error
    return result.exit_code


@pytest.mark.parametrize("command", [inspect, score])
@pytest.mark.parametrize("case", hostile.RUNTIME, ids=str)
def test_ends_with_a_score_or_one_clear_error(
    case: hostile.Case, command: Callable[[Path], object], tmp_path: Path
):
    path = case.build(tmp_path)
    outcome = cage.caged(command, path, tmp_path, cap=_CAP, cpu=120, wall=300)
    assert outcome.error is None or outcome.error in _ERRORS, f"{outcome.error}: {outcome.message}"
    touched = {t for t in outcome.touched if "intrain_onnx.parity.onnxruntime_worker" not in t}
    assert not touched - _HARMLESS
    assert outcome.megabytes < (600 if command is inspect else _MOST)


@pytest.mark.parametrize("case", _SIZED, ids=str)
def test_an_audit_ends_too(case: hostile.Case, tmp_path: Path):
    outcome = cage.caged(audit, case.build(tmp_path), tmp_path, cap=_CAP, cpu=120, wall=300)
    assert outcome.error is None or outcome.error in _ERRORS, f"{outcome.error}: {outcome.message}"
    assert outcome.megabytes < _MOST
