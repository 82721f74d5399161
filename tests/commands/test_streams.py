"""Standard streams that are closed, full or read by nobody; outputs that no place is left for."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .helpers import SAMPLES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors and devices of Linux")

ROOT = Path(__file__).parents[2]
QUICK = "--seeds 1 --batch 4 --threads 1 --no-parity"
COMMANDS = {
    "help": "--help",
    "ops": "ops",
    "inspect": "inspect jax_cnn.onnx --all",
    "inspect as JSON": "inspect jax_cnn.onnx --json",
    "compare": "compare jax_cnn.onnx jax_cnn.onnx",
    "score": f"score jax_cnn.onnx {QUICK}",
    "report to it": f"score jax_cnn.onnx {QUICK} -o -",
    "audit": f"audit jax_cnn.onnx {QUICK} -o json=kept.json",
    "audit as SARIF": f"audit jax_cnn.onnx {QUICK} --format sarif -o json=kept.json",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(SAMPLES / "jax_cnn.onnx", tmp_path)
    return tmp_path


def shell(folder: Path, arguments: str, then: str) -> subprocess.CompletedProcess[str]:
    """A command line of Bash; its exit code is that of the program."""
    program = f"{shlex.quote(sys.executable)} -m intrain_onnx {arguments} {then}"
    return subprocess.run(
        ["bash", "-c", f"{program}; exit ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def outputs_are_kept(folder: Path, command: str) -> bool:
    wanted = {"score": "jax_cnn.intrain.json", "audit": "kept.json", "audit as SARIF": "kept.json"}
    return command not in wanted or (folder / wanted[command]).stat().st_size > 1000


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_is_gone_ends_it_in_silence(folder: Path, command: str):
    """With the code of SIGPIPE, which no verdict of an audit has."""
    done = shell(folder, COMMANDS[command], "| true")
    assert (done.returncode, done.stderr) == (141, "")
    assert outputs_are_kept(folder, command)


@pytest.mark.parametrize(
    ("command", "then", "why"),
    [
        *((command, ">/dev/full", "No space left") for command in COMMANDS if command != "audit as SARIF"),
        *((command, ">&-", "Bad file descriptor") for command in ("help", "inspect", "audit as SARIF")),
    ],
)
def test_what_cannot_be_printed_is_an_error_of_one_line(folder: Path, command: str, then: str, why: str):
    done = shell(folder, COMMANDS[command], then)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot write to standard output: {why}")
    assert done.stderr.count("\n") == 1
    assert outputs_are_kept(folder, command)


@pytest.mark.parametrize("then", ["2>&-", "2>/dev/full", "<&- 2>&-"])
@pytest.mark.parametrize(("command", "code"), [("inspect", 0), ("inspect none.onnx", 3)])
def test_a_lost_standard_error_changes_no_verdict(folder: Path, command: str, code: int, then: str):
    done = shell(folder, COMMANDS.get(command, command), then)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)
    assert outputs_are_kept(folder, command)


def test_no_file_takes_the_place_of_a_closed_descriptor(folder: Path):
    """What a library prints would land in it."""
    done = shell(folder, COMMANDS["score"], "<&- >&- 2>&-")
    assert done.returncode == 2
    assert (folder / "jax_cnn.intrain.json").read_text().startswith("{\n")


@pytest.mark.parametrize("command", ["inspect", "inspect as JSON"])
def test_any_encoding_of_the_terminal_will_do(folder: Path, command: str):
    """Documents are in UTF-8 always; text has an escape for what the encoding lacks."""
    shutil.move(folder / "jax_cnn.onnx", folder / "\u00e9\u0416.onnx")
    line = COMMANDS[command].replace("jax_cnn", "\u00e9\u0416")
    program = [sys.executable, "-m", "intrain_onnx", *line.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    told = subprocess.run(program, cwd=folder, env=env, capture_output=True, check=True).stdout.decode()
    assert ("\u00e9\u0416" if "JSON" in command else "\\xe9\\u0416") in told


@pytest.mark.parametrize(
    "arguments",
    [
        f"score jax_cnn.onnx {QUICK} -o out.json",
        f"score jax_cnn.onnx {QUICK} --annotate out.onnx",
        f"audit jax_cnn.onnx {QUICK} -o json=out.json -o html=out.html",
    ],
)
def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(folder: Path, arguments: str):
    """A limit on the size of files fails in the same place, at the same call."""
    old = [name for name in ("out.json", "out.onnx") if name in arguments]
    for name in old:
        (folder / name).write_text("old")
    before = {p.name for p in folder.iterdir()}
    program = f"ulimit -f 4; {shlex.quote(sys.executable)} -m intrain_onnx {arguments}"
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    [line] = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert "cannot write" in line
    assert "File too large" in line
    assert {p.name for p in folder.iterdir()} - before <= {"jax_cnn.intrain.json"}
    assert all((folder / name).read_text() == "old" for name in old)
