"""The log of a series on disk, and the document that is made of its rows. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from intrain_onnx.checkpoints.alarms import alarms
from intrain_onnx.checkpoints.rows import FORMAT, SCHEMA_VERSION, Document, SeriesSettings, Step
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.log import Log, decoded
from intrain_onnx.rank.results import changes, settings_of
from intrain_onnx.report.decode import encode
from intrain_onnx.report.document import stored_schema, strict_json
from intrain_onnx.report.json_schema import text_of
from intrain_onnx.report.rows import Tool
from intrain_onnx.versions import version

LOG = "series.jsonl"


def opened(folder: Path, config: ScoreConfig) -> Log:
    """The log of a folder for appending; one that is there is gone on with.

    Raises:
        SettingsError: it was made with other settings, or see `Log`.
    """
    header = {"format": FORMAT, "settings": settings_of(config)}
    return Log(folder / LOG, header, resume=True, changes=changes, again="the same command")


def read(folder: Path) -> dict[str, Step]:
    """The last row of each checkpoint, by its path.

    Raises:
        SettingsError: a line is no row.
    """
    return {row.path: row for row in decoded(folder / LOG, Step, "series")}


def in_order(steps: Sequence[Step]) -> list[Step]:
    """By step, then by path."""
    return sorted(steps, key=lambda row: (row.step, row.path))


def document(steps: Sequence[Step], config: ScoreConfig, limits: Mapping[str, float]) -> Document:
    """The document of measured checkpoints, with their alarms."""
    ordered = in_order(steps)
    told = config.as_dict()
    settings = SeriesSettings(**{name: told[name] for name in SeriesSettings.__struct_fields__})
    return Document(
        schema_version=SCHEMA_VERSION,
        tool=Tool("intrain-onnx", version("intrain-onnx")),
        settings=settings,
        thresholds=limits,
        steps=tuple(ordered),
        alarms=tuple(alarms(ordered, limits)),
    )


def json_text(found: Document) -> str:
    """Strict JSON with a fixed key order, following ``series.schema.json``."""
    return strict_json(encode(found))


def schema_text() -> str:
    """The text of series.schema.json."""
    return text_of(Document, "series", SCHEMA_VERSION)


def schema() -> dict[str, Any]:
    """The stored JSON Schema."""
    return stored_schema("intrain_onnx.checkpoints", "series.schema.json")


def line_of(row: Step) -> dict[str, Any]:
    """The line of a row in the log."""
    return encode(row)
