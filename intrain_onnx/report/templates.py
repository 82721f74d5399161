"""Templates of HTML, and the hash sources by which a policy allows what is inline."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2


def digest(text: str) -> str:
    """The hash source (SHA-256, base64) that allows an inline style or script of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def filled(template: str, **shown: Any) -> str:
    """A template with these values, escaped; an undefined name is an error."""
    return _environment().get_template(template).render(**shown)


def file(name: str) -> str:
    """Text of a template, style or script."""
    return resources.files("intrain_onnx.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
