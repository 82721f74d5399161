"""Why a proxy has no value."""

from __future__ import annotations


class NoValueError(Exception):
    """A network has no value of a proxy; the message is the reason."""
