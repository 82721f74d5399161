"""Measures again what `stored/` holds, under its own settings, after a change of the format.

    python -m tests.bench.make_stored

What failed then fails again with the same words; everything else is measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from intrain_onnx.bench import records, summary
from intrain_onnx.bench.measure import measure
from intrain_onnx.bench.records import Failed, Record, Settings
from intrain_onnx.bench.table import Entry
from intrain_onnx.engine.log import as_line

STORED = Path(__file__).parent / "stored"
ACCURACIES = (10.0, 60.0, 50.5, None)
"""Made up, one for each stored architecture."""


def again(row: dict[str, Any], settings: Settings) -> Record:
    """The record of an architecture, measured now."""
    found = measure(settings.space, row["architecture"], settings.size, settings.configs)
    kept = {p: Failed(old["error"]) for p, old in row["protocols"].items() if old["error"] is not None}
    return Record(found.architecture, {**found.protocols, **kept})


def summarised(found: list[Record]) -> tuple[str, str]:
    """The summary of records as JSON, and as Markdown."""
    entries = [Entry(r.architecture, {"CIFAR-10": y}) for r, y in zip(found, ACCURACIES, strict=True)]
    made = summary.summarise(entries, found, seed=0, rounds=20)
    text = json.dumps(msgspec.to_builtins(made), indent=1, allow_nan=False) + "\n"
    return text, summary.markdown(made, "A space", "Some settings.")


def main() -> None:
    """Write the three files."""
    results = STORED / "results.jsonl"
    head, *rows = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    settings = msgspec.convert(head["settings"], Settings)
    made = [again(row, settings) for row in rows]
    told = json.dumps(head | {"format": records.FORMAT}, sort_keys=True)
    results.write_bytes(f"{told}\n".encode() + b"".join(as_line(records.row(r)) for r in made))
    summary_json, table = summarised(records.read(results))
    (STORED / "summary.json").write_text(summary_json, encoding="utf-8")
    (STORED / "table.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
