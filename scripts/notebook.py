"""Run docs/notebook.ipynb, and store what its cells show; a test says when that is stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FILE = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def executed() -> Any:
    """The notebook as it runs now, from its own folder; times and counters left out."""
    book = nbformat.read(FILE, as_version=4)
    place = {"metadata": {"path": str(FILE.parent)}}
    NotebookClient(book, timeout=600, kernel_name="python3", resources=place).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)
    return book


if __name__ == "__main__":
    nbformat.write(executed(), FILE)
