"""Hash sources of Content Security Policies."""

from __future__ import annotations

import base64
import hashlib


def digest(text: str) -> str:
    """The hash source (SHA-256, base64) that allows an inline style or script of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
