"""Renders reports as one self-contained HTML document: template, style and script inlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intrain_onnx.report.document import Report
from intrain_onnx.report.page import view
from intrain_onnx.report.templates import digest, file, filled


def page(reports: Sequence[Report]) -> str:
    """One HTML document for one or more reports; deterministic.

    Raises:
        ModelFileError: a report does not follow its schema.
    """
    return rendered("page.html", page=view.page(reports), bins=range(view.BINS), health_top=view.HEALTH_TOP)


def rendered(template: str, **shown: Any) -> str:
    """A template with its style and script inlined."""
    style, script = file("page.css"), file("page.js")
    return filled(template, style=style, script=script, policy=_policy(style, script), **shown)


def _policy(style: str, script: str) -> str:
    """Content Security Policy that allows only this inline style and script, by hash."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {digest(style)}",
            f"script-src {digest(script)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
