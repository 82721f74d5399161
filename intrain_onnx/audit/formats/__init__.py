"""Output formats, one file each: functions from the audits of a run to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from intrain_onnx.audit.formats import bom, github, html, json_document, junit, sarif
from intrain_onnx.audit.run import Audits

FORMATS: Mapping[str, Callable[[Audits], str]] = {
    "json": json_document.write,
    "sarif": sarif.write,
    "junit": junit.write,
    "github": github.write,
    "html": html.write,
    "cyclonedx": bom.write,
}
"""Writers by format name on the command line; ``terminal`` is drawn by its own module."""
