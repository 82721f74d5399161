"""What a case is, and how one is entered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from intrain_onnx.errors import IntrainError

Build = Callable[[Path], Path]


@dataclass(frozen=True)
class Case:
    """A file, the error that it must end in, and words of its message."""

    name: str
    build: Build
    error: type[IntrainError] = IntrainError
    says: str = ""

    def __str__(self) -> str:
        return self.name


STATIC: list[Case] = []
RUNTIME: list[Case] = []


def refused(error: type[IntrainError], says: str) -> Callable[[Build], Build]:
    """Enter a file that the loader refuses, with words of the message."""

    def register(build: Build) -> Build:
        STATIC.append(Case(build.__name__, build, error, says))
        return build

    return register


def harmful_when_run(build: Build) -> Build:
    """Enter a file that loads."""
    RUNTIME.append(Case(build.__name__, build))
    return build
