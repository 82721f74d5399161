"""Checks output paths: each can be written, and overwrites no input and no other output.

Two paths are the same file if device and inode agree (symbolic and hard links, relative paths, file systems
that fold case) or, for files that do not exist yet, if their real paths agree after NFC normalisation and
case folding.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from os.path import exists, isdir, isfile
from pathlib import Path

from intrain_onnx.errors import SettingsError

Named = tuple[str, Path]
"""Label of a path in messages (``-o x.json``, ``the model``), and the path."""

_HINT = "Name another file"
_SUFFIX = ".intrain.json"
_NAME_BYTES = 255
"""Of one part of a path, on the file systems in use."""
_NUMBER = 8
"""Bytes kept for what makes a name distinct."""


def check_outputs(outputs: Iterable[Named], inputs: Iterable[Named], models: Sequence[Path] = ()) -> None:
    """Refuse outputs that cannot be written, or would replace an input, a model's weights, or each other.

    Args:
        outputs: files to be written; existing non-regular files (pipes, devices) are skipped.
        inputs: files that are read, other than models.
        models: ONNX files. One is opened for the names of its external data only if an output already exists
            in the model's folder or below.

    Raises:
        SettingsError: names the output, and what is in its way or what it would replace.
    """
    outputs = list(outputs)
    for label, path in outputs:
        _require_writable(label, path)
    written = [(label, path) for label, path in outputs if isfile(path) or not exists(path)]
    read = [*(("the model", path) for path in models), *inputs]
    made: dict[object, str] = {}
    for label, path in written:
        for what, source in read:
            if _same(path, source):
                raise SettingsError(f"{label} is {what} {source}", hint=_HINT)
        key = _identity(path)
        if key in made:
            raise SettingsError(f"{label} and {made[key]} are one file", hint=_HINT)
        made[key] = label
    for model in models:
        _check_weights([x for x in written if _is_below(x[1], model)], model)


def report_names(models: Iterable[Path]) -> list[str]:
    """The names of the models' reports in one folder: ``<stem>.intrain.json``, distinct, of valid length."""
    return [f"{name}{_SUFFIX}" for name in distinct_names([_cut(model.stem) for model in models])]


def distinct_names(names: Sequence[str]) -> list[str]:
    """Make names distinct, ignoring case and Unicode form, by appending numbers to repeated ones.

    The first of equal names is kept, and no number is chosen that gives a name already in the list.

    >>> distinct_names(["x", "x-2", "x", "X"])
    ['x', 'x-2', 'x-3', 'X-4']
    """
    taken = {_folded(name) for name in names}
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    found = []
    for name in names:
        folded = unique = _folded(name)
        while unique in seen or (unique in taken and unique != folded):
            numbers[folded] = numbers.get(folded, 1) + 1
            unique = f"{folded}-{numbers[folded]}"
        seen.add(unique)
        found.append(name if unique == folded else f"{name}-{numbers[folded]}")
    return found


def _cut(stem: str) -> str:
    most = _NAME_BYTES - len(_SUFFIX) - _NUMBER
    while len(os.fsencode(stem)) > most:
        stem = stem[:-1]
    return stem


def _require_writable(label: str, path: Path) -> None:
    if len(os.fsencode(path.name)) > _NAME_BYTES:
        raise SettingsError(f"{label}: its name is too long", hint=f"Files take {_NAME_BYTES} bytes")
    folder = path.absolute().parent
    if not isdir(folder):
        raise SettingsError(f"{label}: its folder does not exist", hint="Create it first")
    if isdir(path):
        raise SettingsError(f"{label} is a folder", hint="Name a file")
    if not os.access(path if exists(path) and not isfile(path) else folder, os.W_OK):
        raise SettingsError(f"{label} cannot be written there", hint="Name another place")


def _same(a: Path, b: Path) -> bool:
    return exists(a) and exists(b) and a.samefile(b)


def _identity(path: Path) -> object:
    """A key that is equal for two paths to the same file."""
    if not exists(path):
        return _folded(os.path.realpath(path))
    found = path.stat()
    return found.st_dev, found.st_ino


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_below(path: Path, model: Path) -> bool:
    """Whether a path is an existing file in the model's folder or below, where external data must lie."""
    folder = os.path.dirname(os.path.realpath(model))
    return exists(path) and os.path.realpath(path).startswith(os.path.join(folder, ""))


def _check_weights(written: Sequence[Named], model: Path) -> None:
    if not written:
        return
    from intrain_onnx.loading.load import load  # noqa: PLC0415 - few need it, and it imports onnx

    try:
        files = [file.path for file in load(model).external]
    except Exception:  # the command itself reports what is wrong with the model
        return
    for label, path in written:
        if any(_same(path, file) for file in files):
            raise SettingsError(f"{label} holds the weights of {model}", hint=_HINT)
