"""The exception for a proxy that is undefined for a network."""

from __future__ import annotations

from collections.abc import Mapping


class NoValueError(Exception):
    """A proxy, or a part of it, is undefined for a network.

    Args:
        message: the reason.
        values: the parts that are defined.
    """

    def __init__(self, message: str, values: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.values = dict(values or {})
