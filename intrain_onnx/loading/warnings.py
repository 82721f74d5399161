"""Warnings about a model, gathered while it is read."""

from __future__ import annotations

from typing import NamedTuple

from intrain_onnx.errors import printable


class ModelWarning(NamedTuple):
    """Something that a user should know about a model that can be scored nevertheless."""

    code: str
    message: str
    node: str | None


class Notes:
    """Warnings, one for each code: what a hostile file repeats a million times is counted, not kept."""

    def __init__(self) -> None:
        self._first: dict[str, ModelWarning] = {}
        self._counts: dict[str, int] = {}

    def add(self, code: str, message: str, node: str | None) -> None:
        """Keep the first warning of a code, and count the others."""
        self._first.setdefault(code, ModelWarning(code, printable(message, 500), node))
        self._counts[code] = self._counts.get(code, 0) + 1

    def warnings(self) -> tuple[ModelWarning, ...]:
        """One warning for each code, in the order found."""
        return tuple(
            note if self._counts[code] == 1 else note._replace(message=f"{note.message} (and {n - 1:,} more)")
            for code, note in self._first.items()
            for n in (self._counts[code],)
        )
