"""Renders reports as one self-contained HTML document: template, style and script inlined."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from intrain_onnx.report.csp import digest
from intrain_onnx.report.document import Report
from intrain_onnx.report.page import view


def page(reports: Sequence[Report]) -> str:
    """One HTML document for one or more reports; deterministic.

    Raises:
        ModelFileError: a report does not follow its schema.
    """
    return rendered("page.html", page=view.page(reports), bins=range(view.BINS), health_top=view.HEALTH_TOP)


def rendered(template: str, **shown: Any) -> str:
    """A template with its style and script inlined."""
    style, script = _file("page.css"), _file("page.js")
    made = _environment().get_template(template)
    return made.render(style=style, script=script, policy=_policy(style, script), **shown)


def _file(name: str) -> str:
    return resources.files("intrain_onnx.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    """Jinja2 environment with autoescape; an undefined name is an error."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


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
