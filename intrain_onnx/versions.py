"""Versions of installed distributions."""

from __future__ import annotations

from functools import cache
from importlib import metadata


@cache
def version(package: str) -> str | None:
    """Version of an installed distribution; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
