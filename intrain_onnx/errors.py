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

from collections.abc import Mapping
from typing import ClassVar


class IntrainError(Exception):
    """Base of all errors that are shown as one line.

    Args:
        message: what is wrong, without the place.
        path: the model file.
        node: name of the ONNX node, where there is one.
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
        """Fill in the places that are not known yet, and return the error itself."""
        self.path = self.path or path
        self.node = self.node or node
        self.op = self.op or op
        return self

    def __str__(self) -> str:
        place = ""
        if self.node is not None or self.op is not None:
            place = " ".join(
                part for part in (self.op, f"node {self.node!r}" if self.node is not None else None) if part
            )
            place = f" (at {place})"
        parts = [f"{self.path}: " if self.path else "", self.message, place]
        if self.hint:
            parts.append(f". {self.hint}" if not self.message.endswith(".") or place else f" {self.hint}")
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

    def __init__(self, counts: Mapping[str, int], *, path: str | None = None, node: str | None = None) -> None:
        self.counts = dict(sorted(counts.items()))
        listing = ", ".join(f"{name} ({n} node{'s' if n > 1 else ''})" for name, n in self.counts.items())
        super().__init__(
            f"unsupported operators: {listing}",
            path=path,
            node=node,
            hint="Export with another opset or exporter, or add a handler (see CONTRIBUTING.md)",
        )


class NumericalError(IntrainError):
    """An activation or a gradient is not finite."""

    exit_code = 5


class LimitError(IntrainError):
    """A limit was exceeded."""

    exit_code = 6
