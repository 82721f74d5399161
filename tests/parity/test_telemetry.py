"""Nothing is written beside the outputs, and nothing connects: the libraries' own telemetry is off."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from builders import model, weight

from intrain_onnx.parity import telemetry

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "jax_cnn.onnx"
SCATTER = "nasbench201.bench/scatter.svg"  # with matplotlib alone
BY_HAND = [*ROOT.glob("converters/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("samples/*.py")]
"""Scripts that run without the package, or before it."""


def tracer(log: Path) -> list[str]:
    """A command that notes the sockets of another; [] where the machine has none that works."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-qq", "true"], check=False, capture_output=True).returncode:
        return []
    return [strace, "-f", "-qq", "-e", "trace=socket,connect", "-o", str(log)]


QUICK = ["--seeds", "1", "--batch", "2"]
TABLE = "\n".join(
    [
        "arch_str,cifar10_test",
        "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|skip_connect~1|avg_pool_3x3~2|,90",
        "|nor_conv_1x1~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_3x3~2|,91\n",
    ]
)
BENCH = ["bench", "nasbench201", "--accuracies", "../table.csv", "--size", "8", *QUICK]
COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "score": (["score", str(SAMPLE), *QUICK, "--threads", "1"], {"jax_cnn.intrain.json"}),
    "score by onnx2torch": (
        ["score", "../small.onnx", *QUICK, "--converter", "onnx2torch", "--proxies", "all"],
        {"small.intrain.json"},
    ),
    "audit": (
        ["audit", str(SAMPLE), *QUICK, "-o", "json=audit.json", "-o", "html=a.html"],
        {"audit.json", "a.html"},
    ),
    "inspect": (["inspect", str(SAMPLE)], set()),
    "bench": (BENCH, {f"nasbench201.bench/{name}" for name in ("results.jsonl", "summary.json", "table.md")}),
}
"""What runs onnxruntime, and what loads torch, in this process or in workers; and what each is to write."""


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_written_beside_the_outputs_and_nothing_connects(tmp_path: Path, command: str):
    arguments, outputs = COMMANDS[command]
    home, work, temporary = (tmp_path / name for name in ("home", "work", "temporary"))
    for folder in (home, work, temporary):
        folder.mkdir()
    log, table, small = (tmp_path / name for name in ("sockets", "table.csv", "small.onnx"))
    table.write_text(TABLE)
    onnx.save(model("(float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", {"w": weight(4, 3)}), small)
    # A new environment: onnxruntime keeps silent where a variable tells of CI.
    environment = {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "PATH": os.defpath}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    tracing = tracer(log)
    program = [*tracing, sys.executable, "-m", "intrain_onnx", *arguments]
    done = subprocess.run(program, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1 if command == "audit" else 0), done.stderr
    if command == "score":
        assert '"ok": true' in (work / "jax_cnn.intrain.json").read_text(), "onnxruntime took part"
    found = {p for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()} - {log, table, small}
    assert {str(p.relative_to(work)) for p in found if p.is_relative_to(work)} - {SCATTER} == outputs
    assert [p for p in found if not p.is_relative_to(work)] == []
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
