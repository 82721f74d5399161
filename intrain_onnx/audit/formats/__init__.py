"""Output formats, one file each: functions from the audits of a run to a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from intrain_onnx.audit.formats import bom, github, html, json_document, junit, sarif, tables
from intrain_onnx.audit.run import Audits

FORMATS: Mapping[str, Callable[[Audits], str | bytes]] = {
    "json": json_document.write,
    "sarif": sarif.write,
    "junit": junit.write,
    "github": github.write,
    "html": html.write,
    "cyclonedx": bom.write,
    "csv": tables.csv,
    "parquet": tables.parquet,
}
"""Writers by format name on the command line; ``terminal`` is drawn by its own module."""
