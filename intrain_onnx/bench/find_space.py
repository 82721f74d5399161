"""Search spaces by name: those of this package, of a Python file, and of other packages by entry points.

A package declares a space in the group ``intrain_onnx.spaces``. The name is that of the space, the value the
object::

    [project.entry-points."intrain_onnx.spaces"]
    widths = "acme_spaces.widths:SPACE"

It is imported when it is asked for, so a broken package affects its own spaces only. A Python file is run as
code: name one that you trust.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from intrain_onnx.bench import model_files
from intrain_onnx.bench.spaces import SPACES, Space
from intrain_onnx.bench.spaces.base import Genome
from intrain_onnx.errors import IntrainError, SettingsError
from intrain_onnx.opset.plugins import distribution

GROUP: Final = "intrain_onnx.spaces"
_OBJECT = "SPACE"
"""The name that a space has in a file unless another is given."""

_HINT = "See docs/add-a-space.md"


@dataclass(frozen=True, slots=True)
class Found:
    """A space.

    Attributes:
        space: itself.
        reference: by which another process finds it again.
        label: what a log says of it, so that results of another version of it are not gone on with.
    """

    space: Space
    reference: str
    label: str


def find(reference: str) -> Found:
    """A space by the name of one of this package or of an entry point, or by ``FILE.py[:NAME]``.

    Raises:
        SettingsError: there is none, or what has it is broken; names file, line and cause.
    """
    if reference in SPACES:
        return Found(SPACES[reference], reference, reference)
    if reference == model_files.SPACE.name:
        return Found(model_files.SPACE, reference, reference)
    file, _, name = reference.rpartition(":") if ".py:" in reference else (reference, "", _OBJECT)
    if file.endswith(".py"):
        return _of_file(Path(file), name)
    return _of_package(reference)


@lru_cache(maxsize=1)
def declared() -> dict[str, list[metadata.EntryPoint]]:
    """Entry points by the name of the space."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def _of_package(name: str) -> Found:
    entries = declared().get(name, [])
    if not entries:
        known = ", ".join([*SPACES, *declared()])
        raise SettingsError(f"there is no space {name!r}", hint=f"Name one of {known}, or FILE.py")
    if len(entries) > 1:
        owners = " and ".join(map(distribution, entries))
        raise SettingsError(f"space {name!r} is declared by {owners}", hint="Uninstall one of them")
    owner = f"package '{distribution(entries[0])}'"
    try:
        space = entries[0].load()
    except Exception as error:  # whatever a module may raise when it is imported
        raise SettingsError(
            f"{owner} ({name} = {entries[0].value}) fails to import: {_cause(error)}", hint="Repair it"
        ) from error
    version = entries[0].dist.version if entries[0].dist is not None else ""
    return Found(_checked(space, owner), name, f"{name} of {distribution(entries[0])} {version}".strip())


def _of_file(file: Path, name: str) -> Found:
    path = Path(os.path.realpath(file))
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}", hint="Name a Python file with a space") from error
    return _of_version(path, digest[:16], str(file), name)


@lru_cache(maxsize=16)
def _of_version(path: Path, digest: str, file: str, name: str) -> Found:
    """The space of a file with this digest, which is run once."""
    module = _run(path, f"intrain_space_{digest}", file)
    if not hasattr(module, name):
        raise SettingsError(
            f"{file} has no {name}", hint=f"Assign the space to {name}, or name it: {file}:NAME"
        )
    space = _guarded(_checked(getattr(module, name), f"{file}: {name}"), path, file)
    return Found(space, f"{path}:{name}", f"{space.name} of {path.name} {digest}")


def _run(path: Path, name: str, shown: str) -> ModuleType:
    """Run a file as a module, which may import those beside it."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _told(error, path, shown) from error
    return module


def _checked(space: object, where: str) -> Space:
    if not isinstance(space, Space):
        raise SettingsError(f"{where} is a {type(space).__name__}, not a Space", hint=_HINT)
    return space


def _guarded(space: Space, path: Path, shown: str) -> Space:
    """The space with functions whose errors name their line."""

    def build(*arguments: Any, **options: Any) -> Any:
        made = guard(space.build)(*arguments, **options)
        if not isinstance(made, str) and not hasattr(made, "SerializeToString"):
            raise SettingsError(
                f"{shown}: build returned a {type(made).__name__}, not an onnx.ModelProto or a path",
                hint=_HINT,
            )
        return made

    def guard(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return function(*arguments, **options)
            except IntrainError:
                raise
            except Exception as error:  # whatever the user's code may raise
                raise _told(error, path, shown) from error

        return call

    def guarded(row: Any) -> dict[str, Any]:
        values = ((f.name, getattr(row, f.name)) for f in fields(row))
        return {name: guard(value) for name, value in values if callable(value)}

    genome: Genome | None = space.genome and replace(space.genome, **guarded(space.genome))
    return replace(space, **guarded(space) | {"build": build, "genome": genome})


def _told(error: Exception, path: Path, shown: str) -> SettingsError:
    """The one line for an error of a user's file."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    for frame in traceback.extract_tb(error.__traceback__):
        line = frame.lineno if frame.filename == str(path) else line
    return SettingsError(f"{shown}{f':{line}' if line else ''}: {_cause(error)}", hint="Repair it")


def _cause(error: Exception) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {said}".splitlines()[0][:300]
