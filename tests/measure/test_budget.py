"""A run that takes too much is refused at once, and the option that is shown is enough."""

from __future__ import annotations

import errno
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import model, weight
from click.testing import CliRunner, Result

from intrain_onnx import cli, memory
from intrain_onnx.measure import budget

MIB = 2**20
ATTENTION = """(float[N,T,8] x) => (float[N,T,5] y) { t = Transpose<perm = [0, 2, 1]>(x)
    s = MatMul(x, t) p = Softmax(s) a = MatMul(p, x) y = MatMul(a, w) }"""
FIXED = ATTENTION.replace("T,", "256,")


def typed(path: Path, *more: str) -> Result:
    arguments = ["score", str(path), "-o", str(path.with_suffix(".json")), "--seeds", "2", "--threads", "1"]
    return CliRunner().invoke(cli.main, [*arguments, "--no-parity", *more])


@pytest.fixture
def attention(tmp_path: Path) -> Path:
    onnx.save(model(ATTENTION, {"w": weight(8, 5)}), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def limited(monkeypatch: pytest.MonkeyPatch, mebibytes: float) -> None:
    monkeypatch.setattr(memory, "available", lambda: int(mebibytes * MIB))
    monkeypatch.setattr(memory, "cap_process", lambda: None)
    monkeypatch.setattr(memory, "elements_of_one_tensor", lambda: 2**31)


def hinted(found: Result, after: str) -> list[str]:
    line = found.stderr.strip()
    assert "\n" not in line
    return shlex.split(re.split(r", or |\.$", line[line.index(after) + len(after) :])[0])


def test_as_many_samples_as_fit_are_named(attention: Path, monkeypatch: pytest.MonkeyPatch):
    """Scores of 64 tokens: 16 KiB a sample are kept, and three times that while they are measured."""
    limited(monkeypatch, 0.5)
    found = typed(attention, "--batch", "32")
    assert found.exit_code == 6, found.output
    assert "a run of 32 samples needs about" in found.stderr
    options = hinted(found, "Take fewer samples: ")
    assert options[0] == "--batch"
    assert 2 <= int(options[1]) < 32
    assert typed(attention, *options).exit_code == 0
    assert typed(attention, "--batch", str(int(options[1]) + 1)).exit_code == 6


def test_a_shape_is_named_where_one_sample_is_too_much(attention: Path, monkeypatch: pytest.MonkeyPatch):
    limited(monkeypatch, 2)
    found = typed(attention, "--batch", "1", "--input-shape", "x:1x1024x8")
    assert found.exit_code == 6, found.output
    options = hinted(found, "Take smaller shapes: ")
    assert typed(attention, "--batch", "1", *options).exit_code == 0


def test_nothing_is_promised_where_nothing_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    onnx.save(model(FIXED.replace("[N,", "[1,"), {"w": weight(8, 5)}), tmp_path / "m.onnx")
    limited(monkeypatch, 0.1)
    found = typed(tmp_path / "m.onnx")
    assert found.exit_code == 6
    assert "Use a machine with more memory" in found.stderr


def test_given_samples_are_named(attention: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "x.npy", np.zeros((40, 64, 8), np.float32))
    limited(monkeypatch, 0.5)
    found = typed(attention, "--input", f"x=@{tmp_path / 'x.npy'}")
    assert found.exit_code == 6
    assert re.search(r"Give \d+ samples or fewer", found.stderr)


def test_work_is_held_against_a_limit(attention: Path):
    """Of two products of 64 x 64 x 8 and one of 64 x 8 x 5, forward, backward and to calibrate, two seeds."""
    macs = (2 * 64 * 64 * 8 + 64 * 8 * 5) * 16 * 4 * 2
    assert typed(attention, "--max-macs", str(macs)).exit_code == 0
    found = typed(attention, "--max-macs", str(macs - 1))
    assert found.exit_code == 6
    assert f"take about {macs:.1e} multiply-accumulates" in found.stderr
    assert typed(attention, "--max-macs", str(macs - 1), *hinted(found, "Take ")).exit_code == 0
    less = typed(attention, "--max-macs", str(macs // 8))
    assert hinted(less, "Take ") == ["--seeds", "1", "--batch", "4"]
    assert typed(attention, "--max-macs", str(macs // 8), *hinted(less, "Take ")).exit_code == 0
    none = typed(attention, "--max-macs", "1")
    assert typed(attention, *hinted(none, "Allow it with ")).exit_code == 0


def test_without_an_option_the_limit_is_that_of_the_device(attention: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "MOST_MACS", {"cpu": 1.0})
    found = typed(attention)
    assert found.exit_code == 6
    assert "the limit is 1.0e+00" in found.stderr


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4294967296"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_allocated_is_a_limit(
    error: Exception, attention: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("intrain_onnx.pipeline.calibrate_and_probe", fail)
    found = typed(attention)
    assert found.exit_code == 6
    assert "out of memory" in found.stderr


def test_an_audit_says_it_too_and_takes_the_same_option(attention: Path, monkeypatch: pytest.MonkeyPatch):
    limited(monkeypatch, 0.5)
    arguments = ["audit", str(attention), "--no-parity", "--seeds", "1", "--threads", "1"]
    found = CliRunner().invoke(cli.main, [*arguments, "--batch", "32"])
    assert found.exit_code == 1, found.output
    options = re.search(r"Take fewer samples: (--batch) (\d+)", " ".join(found.stdout.split()))
    assert options is not None, found.stdout
    second = CliRunner().invoke(cli.main, [*arguments, *options.groups()])
    assert "not measured" not in second.stdout
    most = CliRunner().invoke(cli.main, [*arguments, "--batch", "2", "--max-macs", "1"])
    allowed = re.search(r"[Aa]llow it with (--max-macs) (\S+)", " ".join(most.stdout.split()))
    assert allowed is not None, most.stdout
    third = CliRunner().invoke(cli.main, [*arguments, "--batch", "2", *allowed.groups()])
    assert "not measured" not in third.stdout
