"""Nothing is written beside the outputs, and nothing connects: the libraries' own telemetry is off."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from intrain_onnx.parity import telemetry

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "jax_cnn.onnx"
BY_HAND = [*ROOT.glob("converters/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("samples/*.py")]
"""Scripts that run without the package, or before it."""


def tracer(log: Path) -> list[str]:
    """A command that notes the sockets of another; [] where the machine has none that works."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-qq", "true"], check=False, capture_output=True).returncode:
        return []
    return [strace, "-f", "-qq", "-e", "trace=socket,connect", "-o", str(log)]


def test_score_writes_and_connects_nowhere_else(tmp_path: Path):
    home, work, temporary = (tmp_path / name for name in ("home", "work", "temporary"))
    for folder in (home, work, temporary):
        folder.mkdir()
    log = tmp_path / "sockets"
    program = [sys.executable, "-m", "intrain_onnx", "score", str(SAMPLE), "--seeds", "1", "--threads", "1"]
    # A new environment: onnxruntime keeps silent where a variable tells of CI.
    environment = {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "PATH": os.defpath}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    tracing = tracer(log)
    done = subprocess.run(
        [*tracing, *program], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = work / "jax_cnn.intrain.json"
    assert '"ok": true' in report.read_text(), "onnxruntime took part"
    assert [p for p in tmp_path.rglob("*") if p.is_file() and p not in (report, log)] == []
    if not tracing:
        pytest.skip("no strace here: sockets were not looked for")
    assert [line for line in log.read_text().splitlines() if "AF_INET" in line] == []


def assigns(node: ast.AST, name: str, value: str) -> bool:
    """Whether a statement is ``os.environ[name] = value``."""
    return isinstance(node, ast.Assign) and ast.unparse(node) == f"os.environ[{name!r}] = {value!r}"


@pytest.mark.parametrize("file", BY_HAND, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_scripts_switch_it_off_before_they_import(file: Path):
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    loads = [
        node.lineno
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "onnxruntime" in ast.unparse(node)
    ]
    for name, value in telemetry.SWITCHES.items():
        set_at = [node.lineno for node in nodes if assigns(node, name, value)]
        assert not loads or min(set_at, default=10**6) < min(loads)


def test_tests_have_it_off():
    assert {name: os.environ.get(name) for name in telemetry.SWITCHES} == telemetry.SWITCHES
