"""Where onnxruntime is not installed all else goes on, and says once what is missing and how to get it."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import intrain_onnx
from intrain_onnx.parity import onnxruntime_process, telemetry
from intrain_onnx.parity.onnxruntime_process import NoReferenceError

ROOT = Path(__file__).parents[2]
SAMPLES = [str(ROOT / "samples" / name) for name in ("jax_cnn.onnx", "keras_mobile.onnx")]
QUICK = ["--seeds", "1", "--batch", "2"]

ABSENT = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")

sys.meta_path.insert(0, Absent)
"""
"""A ``sitecustomize``: every process below imports no onnxruntime, whatever is installed."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT)
    (tmp_path / "work").mkdir()
    return tmp_path


def command(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process, and with workers, that have no onnxruntime."""
    path = os.pathsep.join([str(place / "absent"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "intrain_onnx", *arguments],
        cwd=place / "work",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> int:
    """How often the warning is there; nothing else may be."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("warning: no parity check")]
    assert set(lines) <= {f"warning: no parity check: {telemetry.NOT_INSTALLED}"}
    assert "Traceback" not in done.stderr
    return len(lines)


def test_the_block_works(place: Path):
    done = subprocess.run(
        [sys.executable, "-c", "import onnxruntime"],
        env={**os.environ, "PYTHONPATH": str(place / "absent")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'onnxruntime'" in done.stderr


def test_score_has_the_reason_in_its_report_and_warns_once_for_all(place: Path):
    done = command(place, "score", *SAMPLES, *QUICK)
    assert done.returncode == 0, done.stderr
    assert told(done) == 1
    for file in (place / "work").glob("*.intrain.json"):
        report = json.loads(file.read_text())
        assert report["parity"]["ok"] is None
        assert report["parity"]["reason"] == telemetry.NOT_INSTALLED
        assert "not installed" in report["parity"]["reference"]
        assert "parity" not in " ".join(row["code"] for row in report["warnings"])


def test_the_score_is_that_with_onnxruntime(place: Path):
    done = command(place, "score", SAMPLES[0], *QUICK, "-o", "without.json")
    assert "not checked: onnxruntime is not installed" in done.stdout
    config = intrain_onnx.ScoreConfig.for_protocol("architecture", seeds=1, batch=2, parity=True, threads=1)
    here = intrain_onnx.score(SAMPLES[0], config)
    assert here.data["parity"]["ok"] is True
    assert json.loads((place / "work" / "without.json").read_text())["score"] == here.data["score"]


def test_who_asks_for_no_parity_is_told_nothing(place: Path):
    done = command(place, "score", SAMPLES[0], *QUICK, "--no-parity")
    assert (done.returncode, told(done)) == (0, 0)


def test_an_audit_notes_it_and_does_not_evaluate_the_check(place: Path):
    done = command(place, "audit", SAMPLES[0], *QUICK, "-o", "json=audit.json")
    assert done.returncode == 0, done.stderr
    assert told(done) == 1
    [model] = json.loads((place / "work" / "audit.json").read_text())["audits"]
    [note] = [f for f in model["findings"] if f["check"] == "parity-unknown"]
    assert telemetry.NOT_INSTALLED in note["message"]
    outcomes = {check["id"]: check["outcome"] for check in model["checks"]}
    assert outcomes["parity"] == "not_checked"
    assert "not_checked" not in {
        outcomes[name] for name in outcomes if name in ("not-finite", "training-mode")
    }


def test_what_onnxruntime_alone_can_tell_is_named_where_a_policy_wants_it(place: Path):
    policy = '[run]\nproviders = ["CPUExecutionProvider"]\n[checks.latency]\nmax_ms = 1000\n'
    (place / "work" / "policy.toml").write_text(policy)
    done = command(place, "audit", SAMPLES[0], *QUICK, "--policy", "policy.toml", "-o", "json=audit.json")
    assert done.returncode == 1, done.stderr
    [model] = json.loads((place / "work" / "audit.json").read_text())["audits"]
    found = {f["check"]: f["message"] for f in model["findings"] if f["severity"] == "error"}
    assert set(found) == {"latency", "provider-fallback"}
    assert all(telemetry.NOT_INSTALLED in message for message in found.values())


def test_a_ranking_that_asks_for_parity_says_so_once(place: Path):
    done = command(place, "rank", *SAMPLES, *QUICK, "--parity", "-o", "ranked")
    assert done.returncode == 0, done.stderr
    assert told(done) == 1
    assert (place / "work" / "ranked" / "ranking.csv").read_text().count("not compared") == 2
    assert told(command(place, "rank", *SAMPLES, *QUICK, "-o", "again")) == 0


TABLE = (
    "arch_str,cifar10_test\n"
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|skip_connect~1|avg_pool_3x3~2|,90\n"
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["diff", SAMPLES[0], SAMPLES[0]],
        ["compare", SAMPLES[0], SAMPLES[0]],
        ["inspect", SAMPLES[0]],
        ["ops", "--missing"],
        ["bench", "nasbench201", "--accuracies", "table.csv", "--size", "8", *QUICK],
    ],
    ids=lambda a: a[0],
)
def test_others_do_without(place: Path, arguments: list[str]):
    (place / "work" / "table.csv").write_text(TABLE)
    done = command(place, *arguments)
    assert done.returncode == 0, done.stderr
    assert told(done) == 0


def test_no_process_is_started_for_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnxruntime_process, "missing", lambda: telemetry.NOT_INSTALLED)
    onnxruntime_process._stop()
    onnxruntime_process.start_early()
    assert onnxruntime_process._worker is None
    with pytest.raises(NoReferenceError, match="not installed"):
        onnxruntime_process.optimised_nodes(b"", timeout=1)


def test_the_folder_that_a_clash_leaves_is_no_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Uninstalling one of two distributions that share the folder leaves what the other one added."""
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert telemetry.missing() == telemetry.NOT_INSTALLED


def test_it_is_here():
    assert telemetry.missing() is None


def test_the_next_step_names_an_extra_that_there_is():
    extra = re.search(r"pip install 'intrain-onnx\[(\w+)\]'", telemetry.NOT_INSTALLED)
    assert extra is not None
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name.partition(">")[0] for name in extras[extra[1]]] == ["onnxruntime"]


def names_it(node: ast.AST) -> bool:
    """Whether a call or an import names the package, ``import_module("onnxruntime.quantization")`` too."""
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] == "onnxruntime" for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return not node.level and (node.module or "").partition(".")[0] == "onnxruntime"
    if isinstance(node, ast.Call):
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        name = ast.unparse(node.func).rpartition(".")[2]
        loads = name in ("import_module", "find_spec", "__import__", "importorskip", "run_module")
        return loads and any(text.partition(".")[0] == "onnxruntime" for text in texts)
    return False


def test_one_module_of_the_package_looks_for_it_and_loads_it():
    package = Path(intrain_onnx.__file__).parent
    found = {
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if any(map(names_it, ast.walk(ast.parse(file.read_text(encoding="utf-8")))))
    }
    assert found == {"parity/telemetry.py"}
