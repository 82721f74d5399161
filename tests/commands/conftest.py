"""Commands run in this process, in an empty folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from intrain_onnx import memory
from intrain_onnx.cli import main

from .helpers import Run


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in an empty folder and in this process, which keeps its own limit on memory."""
    monkeypatch.setattr(memory, "cap_process", lambda: None)
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that what is set is unset again

    def run(*args: object) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in args], prog_name="intrain-onnx")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
