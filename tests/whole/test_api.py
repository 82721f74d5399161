"""The top level of the package: what completion finds, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import intrain_onnx


def test_completion_finds_all_that_is_public_and_nothing_else():
    code = "import intrain_onnx; print(*(n for n in dir(intrain_onnx) if not n.startswith('_')))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == sorted(intrain_onnx.__all__)
    assert {"score", "inspect", "to_torch", "audit_model", "Ranking"} <= set(intrain_onnx.__all__)


def test_every_name_is_there_and_described():
    for name in intrain_onnx.__all__:
        assert getattr(intrain_onnx, name).__doc__


def test_the_version_is_that_of_the_distribution():
    assert intrain_onnx.__version__ == metadata.version("intrain-onnx")


def test_a_name_of_the_package_is_found_without_torch():
    names = "i.inspect, i.Ranking, i.Audits, i.audit_model"
    code = f"import sys, intrain_onnx as i; {names}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
