"""Hashes as Content Security Policies take them."""

from __future__ import annotations

import base64
import hashlib


def digest(text: str) -> str:
    """The source expression that allows an inline style or script of exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
