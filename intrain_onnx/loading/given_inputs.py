"""Values that a user gives for inputs: numbers, lists, arrays, and files of arrays, which are not trusted."""

from __future__ import annotations

import io
import lzma
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy

from intrain_onnx import memory
from intrain_onnx.config import as_text
from intrain_onnx.errors import LimitError, SettingsError

Array = np.ndarray[Any, Any]
Source = Literal["value", "file", "array"]

FORM = "NAME=1.0, NAME=1,2,3 or NAME=@FILE.npy"
"""How a value is written on the command line."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_HEADER_BYTES = 2**14
"""What numpy accepts of a header is shorter; the file may say that it has gigabytes."""

_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What reading a damaged, encrypted or foreign file raises; RuntimeError also for an unknown compression."""


@dataclass(frozen=True, eq=False)
class Given:
    """What one input is to be fed with.

    Attributes:
        array: a number without axes, the list, or the array as it was stored.
        source: ``value`` a number or a list, ``file`` one that was read, ``array`` one in memory.
        told: how it was asked for.
    """

    array: Array
    source: Source
    told: str


def read(told: Mapping[str, Any], names: Sequence[str]) -> dict[str, Given]:
    """Read what is given for the inputs of a model; what was read before stays as it is.

    Args:
        told: by input name: a number or a list of numbers, as such or as text, an array, ``"@FILE.npy"`` or
            ``"@FILE.npz"`` (the array of the input's name, or the only one).
        names: of the model's inputs.

    Raises:
        SettingsError: no such input, a file that holds no such array, or no number.
        LimitError: an array that does not fit into memory.
    """
    found = {}
    for key, value in told.items():
        name, plain = _named(key, value, names)
        if name not in names:
            known = ", ".join(map(repr, names))
            raise SettingsError(f"the model has no input {name!r}", hint=f"Its inputs are {known}")
        found[name] = plain if isinstance(plain, Given) else _given(name, plain)
    return found


def split(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` as its two parts, where the name may hold ``=``.

    The name ends at the last ``=@`` before a file, else at the last ``=``. Where that is not the name of an
    input, :func:`read` looks for one that is.

    Raises:
        SettingsError: it is not of that form.
    """
    sign = "=@" if "=@" in text else "="
    name, found, rest = text.rpartition(sign)
    value = f"{sign[1:]}{rest}"
    if not found or not name or not _is_value(value):
        raise SettingsError(f"{text!r} is not {FORM}")
    return name, value


def files(told: Mapping[str, Any]) -> list[Path]:
    """The files that :func:`read` may open; more than one for a name or a file that holds ``=@``."""
    texts = (f"{name}={value}" for name, value in told.items() if isinstance(value, str))
    return [Path(text[found.end() :]) for text in texts for found in re.finditer("=@", text)]


def listed(place: Path) -> dict[str, str]:
    """The arrays in a .npz, or the files NAME.npy in a folder, by input name as :func:`read` takes them.

    Raises:
        SettingsError: there are none.
    """
    with _reading(place):
        if place.is_dir():
            found = {file.stem: f"@{file}" for file in sorted(place.glob("*.npy"))}
        else:
            with zipfile.ZipFile(place) as archive:
                found = dict.fromkeys(_members(archive), f"@{place}")
    if not found:
        raise SettingsError(
            f"{place} holds no arrays", hint="Write one NAME.npy for each input, or a .npz with numpy.savez"
        )
    return found


def _named(key: str, value: Any, names: Sequence[str]) -> tuple[str, Any]:
    """Name and value; of a text, the longest name of an input that leaves a value."""
    if not isinstance(value, str):
        return key, value
    text = f"{key}={value}"
    for name in sorted(names, key=len, reverse=True):
        rest = text.removeprefix(f"{name}=")
        if rest != text and _is_value(rest):
            return name, rest
    return key, value


def _is_value(text: str) -> bool:
    return text[1:] != "" if text.startswith("@") else _numbers(text) is not None


def _numbers(text: str) -> int | float | list[int | float] | None:
    try:
        parts = [_number(part) for part in text.split(",")]
    except ValueError:
        return None
    return parts if "," in text else parts[0]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _given(name: str, value: Any) -> Given:
    found = Given(*_array(name, value), as_text(value))
    if found.array.dtype.kind in "fc" and np.isnan(found.array).any():
        raise SettingsError(f"what is given for input {name!r} holds NaN", hint="Give numbers")
    return found


def _array(name: str, value: Any) -> tuple[Array, Source]:
    if isinstance(value, str) and value.startswith("@"):
        return _from_file(Path(value[1:]), name), "file"
    if hasattr(value, "__array__") and np.ndim(value):
        return np.asarray(value), "array"
    return _from_numbers(name, value), "value"


def _from_numbers(name: str, value: Any) -> Array:
    told = _numbers(value) if isinstance(value, str) else value
    try:
        array = np.asarray(told)
    except ValueError:  # lists of unequal length
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" or array.ndim > 1 or not array.size:
        hint = "Give a number, a list of numbers, an array, or @FILE.npy"
        raise SettingsError(f"what is given for input {name!r} is {value!r}", hint=hint)
    return array


def _from_file(file: Path, name: str) -> Array:
    with _reading(file):
        if not zipfile.is_zipfile(file):
            with file.open("rb") as stream:
                return _checked(stream, name)
        with zipfile.ZipFile(file) as archive:
            members = _members(archive)
            key = name if name in members or len(members) != 1 else members[0]
            if key not in members:
                held = ", ".join(map(repr, members)) or "none"
                raise SettingsError(f"{file} has no array {name!r}", hint=f"Its arrays are {held}")
            with archive.open(f"{key}.npy") as stream:
                return _checked(stream, name)


def _checked(stream: IO[bytes], name: str) -> Array:
    """An array without Python objects, whose size its header told before it was read."""
    shape, dtype = _header(io.BytesIO(stream.read(_HEADER_BYTES)))
    if dtype.hasobject or dtype.names is not None or dtype.kind in "SUMm":
        raise ValueError(f"an array of {dtype}")
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    try:
        memory.require_for_inputs(math.prod(shape) * dtype.itemsize)
    except LimitError as error:
        error.message = f"input {name!r}: {error.message}"
        raise
    stream.seek(0)
    array: Array = npy.read_array(stream, allow_pickle=False)
    return array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    try:
        shape, _, dtype = _HEADERS[version](stream)
    except Exception as error:  # it is parsed as Python, and fails as that may
        raise ValueError(f"its header is damaged: {error}") from error
    return shape, dtype


def _members(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        if not (file.is_file() or file.is_dir()):
            raise SettingsError(f"cannot read {file}: no such file", hint="Write it with numpy.save or savez")
        yield
    except _BROKEN as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or "it ends early"
        hint = "Write it with numpy.save or numpy.savez, without Python objects"
        raise SettingsError(f"cannot read {os.fspath(file)}: {reason}", hint=hint) from error
