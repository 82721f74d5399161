"""Before any test imports onnxruntime, or starts a program that does; and what the tests of rewrites say."""

import multiprocessing
import os
import secrets
import subprocess
from pathlib import Path

import pytest

from intrain_onnx.engine import processes
from intrain_onnx.engine.serial import Serial
from intrain_onnx.parity import telemetry

os.environ.update(telemetry.SWITCHES)
# Workers of pytest have it, and what is no terminal would be as narrow as theirs.
os.environ.pop("COLUMNS", None)
# One server forks all children of a test run, and the first of them decides what it has loaded.
multiprocessing.set_forkserver_preload(["intrain_onnx.pipeline"])


def pytest_configure() -> None:
    """Most tests compare with onnxruntime, which comes with one of two extras."""
    if telemetry.missing() is not None:
        raise pytest.UsageError("the tests need onnxruntime: pip install -e '.[cpu,test]', or '.[gpu,test]'")


def seed_of_the_commit() -> int:
    """A seed that each commit draws anew and each run of it repeats: chance must not decide a run."""
    folder = Path(__file__).parent
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=folder
    )
    return int(found.stdout[:7], 16) if found.returncode == 0 else secrets.randbelow(2**28)


# Here, so that all processes of a run have the same one.
os.environ.setdefault("INTRAIN_REWRITING_SEED", str(seed_of_the_commit()))


@pytest.fixture(autouse=True)
def one_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process, but for tests that are marked: a worker takes seconds to load torch."""
    if request.node.get_closest_marker("workers") is None:
        monkeypatch.setattr(processes, "Processes", lambda *_, **__: Serial())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed that repeats the chains of rewrites, and the tools that they went without."""
    from rewriting.editing import REWRITES

    missing = sorted(name for name, found in REWRITES.items() if not found.available)
    seed = os.environ["INTRAIN_REWRITING_SEED"]
    without = ", ".join(missing) or "none"
    line = f"chains of rewrites: INTRAIN_REWRITING_SEED={seed}, without their tools: {without}"
    terminalreporter.write_line(line)
