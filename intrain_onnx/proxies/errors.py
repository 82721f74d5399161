"""Why a proxy has no value."""

from __future__ import annotations

from collections.abc import Mapping


class NoValueError(Exception):
    """A network has no value of a proxy; the message is the reason.

    Args:
        message: the reason.
        values: those of the proxy's values that the network has all the same.
    """

    def __init__(self, message: str, values: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.values = dict(values or {})
