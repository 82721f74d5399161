"""Errors that a user can act on.

    IntrainError                  what went wrong, where, and the next step
    ├── SettingsError       (2)   a setting or an option that cannot be used with this model
    ├── ModelFileError      (3)   not a valid ONNX model
    │   └── UnsafeModelError (3)  valid, but it reaches outside its folder or is built to do harm
    ├── UnsupportedError    (4)   a valid model that this version cannot score
    │   └── MissingOpsError (4)   operators without a handler, all of them
    ├── NumericalError      (5)   a non-finite activation or gradient; says where it began
    └── LimitError          (6)   a limit on size, time or memory was exceeded

The number is the exit code of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar


def printable(text: object, limit: int = 200) -> str:
    r"""Text from an untrusted file, safe to show on a terminal and in a log: one line, of bounded length.

    Control characters, ANSI escapes, line breaks, bidirectional overrides and lone surrogates are shown as
    Python escapes, bytes of a path that are not UTF-8 as those of bytes; letters of any alphabet stay. Text
    over ``limit`` characters is cut, and says by how much.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    >>> printable("abcdef", limit=3)
    'abc… (+3 characters)'
    """
    whole = str(text)
    kept = whole[:limit]
    shown = "".join(c if c.isprintable() else _escaped(c) for c in kept)
    return f"{shown}… (+{len(whole) - limit:,} characters)" if len(whole) > limit else shown


def _escaped(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # how Python holds a byte of a path
        return path_text(character)
    return character.encode("unicode_escape").decode("ascii")


def path_text(path: str | os.PathLike[str]) -> str:
    r"""A path, or a message with one, as text of valid Unicode: bytes that are not UTF-8 become ``\xff``."""
    return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def described(error: BaseException) -> str:
    """Class and first line of the message of an exception that says no more to a user."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class IntrainError(Exception):
    """Base of all errors that are shown as one line.

    Every part may hold text from the model file: ``str(error)`` is made safe to print by `printable`.

    Args:
        message: what is wrong, without the place.
        path: the model file.
        node: name of the ONNX node, if the error concerns one.
        op: its operator, as ``domain::OpType`` or ``OpType``.
        hint: the next step for the user.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        node: str | None = None,
        op: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.node = node
        self.op = op
        self.hint = hint

    def at(self, *, path: str | None = None, node: str | None = None, op: str | None = None) -> IntrainError:
        """Set the places that are still None; returns the error itself."""
        self.path = self.path or path
        self.node = self.node or node
        self.op = self.op or op
        return self

    def __str__(self) -> str:
        place = ""
        if self.node is not None or self.op is not None:
            node = f"node '{printable(self.node)}'" if self.node is not None else ""
            place = f" (at {' '.join(part for part in (printable(self.op or ''), node) if part)})"
        parts = [f"{printable(self.path, 4096)}: " if self.path else "", printable(self.message, 4000), place]
        if self.hint:
            hint = printable(self.hint, 1000)
            parts.append(f". {hint}" if not self.message.endswith(".") or place else f" {hint}")
        return "".join(parts)


class SettingsError(IntrainError):
    """A setting that does not exist or does not fit this model."""

    exit_code = 2


class ModelFileError(IntrainError):
    """The file is not a valid ONNX model."""

    exit_code = 3


class UnsafeModelError(ModelFileError):
    """The file asks for something that no model needs, such as a path outside its folder."""


class UnsupportedError(IntrainError):
    """A valid model with something that this version cannot run."""

    exit_code = 4


class MissingOpsError(UnsupportedError):
    """Operators without a handler.

    Args:
        counts: number of nodes for each missing operator, such as ``{"com.acme::Magic-1": 3}``.
    """

    def __init__(
        self, counts: Mapping[str, int], *, path: str | None = None, node: str | None = None
    ) -> None:
        self.counts = dict(sorted(counts.items()))
        listing = ", ".join(f"{name} ({n} node{'s' if n > 1 else ''})" for name, n in self.counts.items())
        super().__init__(
            f"unsupported operators: {listing}",
            path=path,
            node=node,
            hint="Export with another opset or exporter, or add a handler (see docs/add-an-operator.md)",
        )


class NumericalError(IntrainError):
    """An activation or a gradient is not finite."""

    exit_code = 5


class LimitError(IntrainError):
    """A limit was exceeded.

    Args:
        limit: its name (see ``loading.limits``); None for memory that ran out, and for settings of a score.
    """

    exit_code = 6

    def __init__(
        self,
        message: str,
        *,
        limit: str | None = None,
        path: str | None = None,
        node: str | None = None,
        op: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, path=path, node=node, op=op, hint=hint)
        self.limit = limit
