"""Mutants of valid models end with a report or one clear error: those found before, and some more."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from fuzzing import drive, sources, targets
from fuzzing.mutate import DAMAGES, mutant
from loading.hostile import cage

from intrain_onnx.cli import main

ROOT = Path(__file__).parents[2]
CORPUS = sorted((ROOT / "tests/fuzzing/corpus").glob("*.onnx"))
QUICK = ("--no-parity", "--seeds", "1", "--batch", "2", "--threads", "1", "--device", "cpu")
COMMANDS = {"inspect": (), "score": QUICK, "audit": ()}
PROMISED = {0, 3, 4, 5, 6}
AUDITED = PROMISED | {1}
"""An audit ends with 1 for a model that violates the policy; an internal error says so."""


def run(path: Path) -> str:
    """Every command on a file, in a process that may die: their exit codes, and internal errors."""
    said = []
    os.chdir(path.parent)
    for command, options in COMMANDS.items():
        done = CliRunner().invoke(main, [command, str(path), *options])
        internal = "internal" if "internal error" in done.output or done.exit_code == 70 else ""
        said.append(f"{command}:{done.exit_code}:{internal}")
    return " ".join(said)


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_what_was_found_before_ends_as_promised(path: Path, tmp_path: Path):
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    outcome = cage.caged(run, copy, tmp_path, cap=3 * 2**30)
    assert outcome.error is None, outcome
    for one in outcome.message.split(" "):
        command, code, internal = one.split(":")
        assert not internal, outcome.message
        assert int(code) in (AUDITED if command == "audit" else PROMISED), outcome.message


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # Through a shell that forks: a process inherits the peak of the memory of the one that starts it.
    small = ["sh", "-c", '"$@"; exit $?', "sh"]
    return subprocess.run(
        [*small, sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_no_mutant_ends_in_an_internal_error():
    """The same 300 each time: chance must not decide. By hand, more (docs/fuzzing.md)."""
    done = python("tests.fuzzing", "--mutants", "300", "--seed", "900", "--seconds", "120")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 mutants" in done.stdout


def test_the_search_finds_what_is_broken():
    """An internal error, a death and a hang are told apart, and the jobs after them are done."""

    def work(job: int) -> tuple[str, str]:
        if job == 1:
            os.kill(os.getpid(), 11)
        while job == 2:
            pass
        return drive.judged(lambda: [0][job])

    found = [v.kind for v in drive.run(work, range(5), seconds=2)]
    assert found == ["ok", "CRASH", "TIMEOUT", "INTERNAL", "INTERNAL"]


def test_every_damage_is_drawn_and_repeats():
    drawn: set[str] = set()
    data = sources.networks()["jax_cnn"]
    for seed in range(400):
        once = mutant(data, seed)
        assert once == mutant(data, seed)
        drawn |= set(once[1])
    assert {d.__name__ for d in DAMAGES} == drawn - {"bytes"}


SHORT = {"policy": (1500, 1), "report": (1500, 1), "loader": (400, 40), "network": (120, 60)}
"""Executions, and one in how many files to start from: some 10 s each."""


@pytest.mark.skipif(
    not (sys.platform == "linux" and platform.machine() == "x86_64" and sys.implementation.name == "cpython"),
    reason="atheris has no wheels for this platform",
)
@pytest.mark.parametrize("target", targets.TARGETS)
def test_a_guided_search_of_some_seconds_finds_nothing(target: str, tmp_path: Path):
    assert find_spec("atheris"), "atheris is missing: pip install -e '.[test]'"
    executions, every = SHORT[target]
    options = ("--executions", str(executions), "--every", str(every), "--minutes", "3", "-o", str(tmp_path))
    done = python("tests.fuzzing.guided", target, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Done" in done.stderr, done.stderr[-2000:]
    assert list(tmp_path.glob(f"{target}-*")) == []
