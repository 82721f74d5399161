"""Output formats, one file each: functions from results to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from intrain_onnx.audit.formats import bom, github, html, json_document, junit, sarif
from intrain_onnx.audit.run import Result

FORMATS: Mapping[str, Callable[[Sequence[Result]], str]] = {
    "json": json_document.write,
    "sarif": sarif.write,
    "junit": junit.write,
    "github": github.write,
    "html": html.write,
    "cyclonedx": bom.write,
}
"""Writers by format name on the command line; ``terminal`` is drawn by its own module."""
