"""Exceptions as records that another process can be sent, and that a command shows as one line."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from intrain_onnx import memory
from intrain_onnx.errors import IntrainError, described, printable
from intrain_onnx.loading import allowance


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as a record, which another process can be sent.

    Attributes:
        kind: name of its class.
        message: one line that is safe to print: file, cause, node, op, next step.
        exit_code: of the command line.
        trace: the traceback.
        node: name of the ONNX node, if it concerns one.
        op: its operator.
    """

    kind: str
    message: str
    exit_code: int
    trace: str = ""
    node: str | None = None
    op: str | None = None

    @classmethod
    def of(cls, error: Exception, path: str | None = None) -> Failure:
        """The record of an error; one that is no `IntrainError` is an internal one, or of the file system."""
        trace = "".join(traceback.format_exception(error))
        if memory.ran_out(error):
            error = allowance.out_of_memory(error)
        kind = type(error).__name__
        place = f"{path}: " if path is not None else ""
        if isinstance(error, IntrainError):
            error.at(path=path)
            return cls(kind, printable(error, 5000), error.exit_code, trace, error.node, error.op)
        if isinstance(error, OSError):
            named = place or (f"{error.filename}: " if error.filename else "")
            code = 2 if path is None else 3
            return cls(kind, printable(f"{named}{error.strerror or error}", 5000), code, trace)
        return cls(kind, printable(internal(described(error), path), 5000), 1, trace)


def internal(detail: str, path: str | None = None) -> IntrainError:
    """The error for a fault of this package."""
    return IntrainError(f"internal error: {detail}", path=path, hint="Run with --debug and report it")
