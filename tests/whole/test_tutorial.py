"""The tutorial: every command and example on the page runs, in order, in one folder."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
from shell import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
WITHOUT_KERAS = "cp samples/keras_mobile.onnx mobile.onnx"


def export(script: str) -> str:
    """The first step: Keras where this environment has it, else what the page says to do without."""
    if all(importlib.util.find_spec(name) for name in ("keras", "tf2onnx")):
        return script.replace("uv run ", "python ")
    return WITHOUT_KERAS


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_every_block_runs_in_order(tmp_path: Path):
    for name in ("samples", "converters"):
        shutil.copytree(ROOT / name, tmp_path / name)
    assert WITHOUT_KERAS in PAGE
    printed = []
    for language, text in BLOCKS:
        if language == "shell":
            printed.append(run(export(text) if text.startswith("uv run") else text, tmp_path))
        elif language == "python":
            run(f"python - <<'END'\n{text}\nEND", tmp_path)
        else:
            assert language == "toml"
            (tmp_path / "policy.toml").write_text(text, encoding="utf-8")
    audits = [text for text in printed if re.match(r"\S+\.onnx (passed|failed)", text)]
    passed, broken, regressed, converted, shuffled = audits
    assert "mobile.onnx passed" in passed
    assert "1 waived" in passed
    assert "broken.onnx failed" in broken
    assert "dead-layers" in broken
    assert "score-regression" in regressed
    assert "mobile_int8.onnx passed" in converted
    assert "shuffled.onnx passed" in shuffled
    assert "shuffled.onnx failed" in shuffled
    assert "reference-activations" in shuffled
    assert "they part at layer" in shuffled
    assert (tmp_path / "diff.html").stat().st_size > 1000
    assert (tmp_path / "audit.sarif").stat().st_size > 1000
    assert (tmp_path / "audit.xml").stat().st_size > 1000


def test_the_page_has_every_kind_of_block():
    assert [language for language, _ in BLOCKS].count("shell") >= 8
    assert {language for language, _ in BLOCKS} == {"shell", "python", "toml"}
