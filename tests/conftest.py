"""Before any test imports onnxruntime, or starts a program that does; and what the tests of rewrites say."""

import os
import secrets

import pytest

from intrain_onnx import telemetry

os.environ.update(telemetry.SWITCHES)
# Here, so that all processes of a run have the same one.
os.environ.setdefault("INTRAIN_REWRITING_SEED", str(secrets.randbelow(2**31)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed that repeats the chains of rewrites, and the tools that they went without."""
    from rewriting.editing import REWRITES

    missing = sorted(name for name, found in REWRITES.items() if not found.available)
    seed = os.environ["INTRAIN_REWRITING_SEED"]
    without = ", ".join(missing) or "none"
    line = f"chains of rewrites: INTRAIN_REWRITING_SEED={seed}, without their tools: {without}"
    terminalreporter.write_line(line)
