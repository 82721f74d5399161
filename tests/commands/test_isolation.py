"""Models are measured in processes that can die alone: whatever one does, the rest of a batch is kept."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from builders import model

from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.outcomes import Lost
from intrain_onnx.failure import Failure
from intrain_onnx.jobs import Scored, ScoreFile, failure_of

from .helpers import mlp, save

# An operator that takes its process down, in every process of the command.
PLUGIN = """
import os, signal, sys, time
from importlib.abc import MetaPathFinder
class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "intrain_onnx.pipeline":
            return None
        sys.meta_path.remove(self)
        from intrain_onnx import register_op
        @register_op("Kill", domain="test.hostile")
        def kill(x, *, number=9):
            os.kill(os.getpid(), number)
            time.sleep(600)
        @register_op("Hang", domain="test.hostile")
        def hang(x):
            time.sleep(600)
        return None
sys.meta_path.insert(0, Finder())
"""


def hostile(folder: Path, op: str, name: str) -> Path:
    proto = mlp()
    proto.opset_import.append(onnx.helper.make_opsetid("test.hostile", 1))
    act = proto.graph.node[1]
    act.op_type, act.domain = op, "test.hostile"
    if op == "Kill":
        act.attribute.append(onnx.helper.make_attribute("number", int(signal.SIGFPE)))
    return save(folder, proto, name)


# A library that takes the process down in which it is used, as onnx's own shape inference can.
IMPORTED = """
import multiprocessing, os, signal, sys
from importlib.abc import MetaPathFinder
class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "intrain_onnx.loading.load" and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGABRT)
        return None
sys.meta_path.insert(0, Finder())
"""


# Of a shell without job control, what runs behind it has SIGINT ignored, and all that it starts.
INTERRUPTED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def started(folder: Path, *args: object, plugin: str = PLUGIN) -> subprocess.Popen[str]:
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(INTERRUPTED + plugin)
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "intrain_onnx", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
    )
    atexit.register(process.kill)  # where a test fails
    return process


@pytest.mark.parametrize("command", ["inspect", "compare", "score"])
def test_a_crash_of_a_library_is_one_line(tmp_path: Path, command: str):
    models = [save(tmp_path, mlp(), name) for name in ("a.onnx", "b.onnx")][: 1 + (command == "compare")]
    process = started(tmp_path, command, *models, plugin=IMPORTED)
    out, err = process.communicate(timeout=60)
    crashed = f"error: {models[0]}: its process crashed: SIGABRT. Run it alone with --debug and report it"
    assert (process.returncode, out, err.splitlines()) == (1, "", [crashed])


def children(pid: int) -> list[int]:
    """All processes below one, of any depth."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(path.parent.name)
            found += [child, *children(child)]
    return found


@pytest.mark.parametrize("command", ["score", "audit"])
def test_a_native_crash_costs_its_model_alone(tmp_path: Path, command: str):
    bad = hostile(tmp_path, "Kill", "bad.onnx")
    good = [save(tmp_path, mlp(), name) for name in ("a.onnx", "b.onnx")]
    options = ["--seeds", 1, "--no-parity", "--batch", 4]
    if command == "audit":
        options += ["-o", f"json={tmp_path / 'all.json'}"]
    process = started(tmp_path, command, good[0], bad, good[1], *options)
    out, err = process.communicate(timeout=120)
    assert f"error: {bad}: its process crashed: SIGFPE" in err
    assert "Traceback" not in err
    assert process.returncode == (1 if command == "score" else 70)
    if command == "audit":
        audits = json.loads((tmp_path / "all.json").read_text())["audits"]
        assert [a["exit_code"] for a in audits] == [0, 70, 0]
    else:
        assert sorted(p.name for p in tmp_path.glob("*.json")) == ["a.intrain.json", "b.intrain.json"]
        assert out.count(".onnx") >= 4  # the ranking


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("command", ["score", "audit"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_with_what_is_done(tmp_path: Path, command: str, number: int, code: int):
    done = [save(tmp_path, mlp(), name) for name in ("a.onnx", "b.onnx")]
    output = tmp_path / "all.json"
    options = ["-o", f"json={output}"] if command == "audit" else []
    models = [*done, hostile(tmp_path, "Hang", "hang.onnx")]
    process = started(tmp_path, command, *models, "--seeds", 1, "--no-parity", *options)

    def results() -> int:
        if command == "score":
            return len(list(tmp_path.glob("*.intrain.json")))
        return len(json.loads(output.read_text())["audits"]) if output.exists() else 0

    end = time.monotonic() + 30
    while results() < 2 and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.3)  # the next one has begun
    below = children(process.pid)
    assert below
    process.send_signal(number)
    asked = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert (
        time.monotonic() - asked < 15
    )  # the model hangs for ten minutes; 2 s are measured on an idle machine
    assert process.returncode == code
    assert "Traceback" not in err
    assert "a.onnx" in out
    assert "b.onnx" in out
    assert results() == 2
    time.sleep(0.5)
    assert not [pid for pid in below if Path(f"/proc/{pid}").exists() and pid in children(1)]


def test_the_job_gives_the_report_or_the_failure(tmp_path: Path):
    job = ScoreFile(ScoreConfig.for_protocol(seeds=1, batch=4, parity=False))
    steps: list[tuple[str, float]] = []
    found = job(save(tmp_path, mlp()), steps.append)
    assert isinstance(found, Scored)
    assert found.data["score"]["layers"] == 2
    assert steps[0] == ("load", 0.0)
    failed = job(
        save(tmp_path, model("(float[4] x) => (float[4] y) { y = Magic(x) }"), "no.onnx"), steps.append
    )
    assert isinstance(failed, Failure)
    assert (failed.kind, failed.exit_code) == ("MissingOpsError", 4)


def test_a_lost_process_is_a_failure_with_the_file(tmp_path: Path):
    failed = failure_of(Lost("timeout", "longer than 5 s"), tmp_path / "x.onnx")
    assert failed.exit_code == 6
    assert failed.message == (
        f"{tmp_path / 'x.onnx'}: it took too long: longer than 5 s. Raise the limit with --limit seconds=N"
    )
