"""The example notebook runs, and shows what is stored in it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "notebook.py"
NUMBER = re.compile(r"-?\d+\.\d+(?:e[-+]\d+)?")


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("notebook", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(book: nbformat.NotebookNode) -> list[str]:
    """What each cell shows: as text, and where it has one as HTML."""
    outputs = [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]
    assert [o for o in outputs if o.output_type != "execute_result"] == []  # no warning, no error
    return [str(o.data.get(kind, "")) for o in outputs for kind in ("text/plain", "text/html")]


def test_the_notebook_shows_what_it_shows_today():
    script = loaded()
    stored, now = shown(nbformat.read(script.FILE, as_version=4)), shown(script.executed())
    assert len(stored) == len(now) >= 10
    for before, after in zip(stored, now, strict=True):
        words = [NUMBER.sub("#", re.sub(r"\s+", " ", text)) for text in (before, after)]
        assert words[0] == words[1], "stale: python scripts/notebook.py"
        assert [float(x) for x in NUMBER.findall(after)] == pytest.approx(
            [float(x) for x in NUMBER.findall(before)], rel=2e-3, abs=2e-3
        )
