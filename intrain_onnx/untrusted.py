"""Reads files that are not trusted: regular files alone, of bounded size; JSON and TOML of bounded depth.

Every integer that comes out fits into 64 bits, so that arithmetic on it cannot fail for its size.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
DOCUMENT_BYTES = 128 * MEBIBYTE
"""Of a JSON document, which takes some 20 times that in memory: reports of 100,000 layers are smaller."""

SETTINGS_BYTES = MEBIBYTE
"""Of a file that people write."""

_DEPTH = 64
_PARTS = 32
_LARGEST = 2**63 - 1
_DIGITS = 19
_GREATEST = 1e150
"""Magnitude of a float in JSON: the sum of many squares is finite still."""

_KEY = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-]){_KEY}(?:[ \t]*+\.[ \t]*+{_KEY}){{{_PARTS}}}")
"""A dotted key of more parts than any policy has: tomllib takes quadratic time for it."""


class UnreadableError(ValueError):
    """Why a file is not read: what it is, or what it holds."""


class NotRegularError(UnreadableError):
    """It is a folder, a pipe, a socket or a device."""


def kind_of(found: os.stat_result) -> str:
    """Type of a file in words, from its mode."""
    kinds = [
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISREG, "a regular file"),
    ]
    return next((words for test, words in kinds if test(found.st_mode)), "a special file")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file, open for reading, and its size. A pipe would block, and a device may never end.

    Raises:
        OSError: it cannot be opened.
        NotRegularError: it is something else.
        UnreadableError: the path holds a null character.
    """
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        _require_regular(os.stat(path))
        handle = os.open(path, flags)
    except UnreadableError:
        raise
    except ValueError as error:
        raise UnreadableError(str(error)) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        _require_regular(found)
        yield file, found.st_size


def text_of(path: Path, most: int) -> str:
    """The text of a file in UTF-8, without a byte order mark.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
        UnreadableError: it is no regular file, too large, or not in UTF-8.
    """
    with opened(path) as (file, size):
        if size > most:
            raise UnreadableError(f"it has {size:,} bytes, over the limit of {most:,}")
        data = file.read(most + 1)  # it may grow, and what /proc shows has no size
    if len(data) > most:
        raise UnreadableError(f"it has over {most:,} bytes")
    return decoded(data)


def decoded(data: bytes) -> str:
    """Text in UTF-8, without a byte order mark.

    Raises:
        UnreadableError: it is in another encoding.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"it is not text in UTF-8: {error.reason} at byte {error.start}") from None


def json_value(text: str) -> Any:
    """The value of a JSON document: strict JSON, no name twice in an object.

    Raises:
        UnreadableError: it is not JSON, nested too deep, or holds a number that does not fit into 64 bits.
    """
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_distinct
        )
    except RecursionError:
        raise UnreadableError(_too_deep()) from None
    except UnreadableError:
        raise
    except ValueError as error:
        raise UnreadableError(f"it is not JSON: {error}") from None
    return _bounded(value)


def toml_table(text: str) -> dict[str, Any]:
    """The table of a TOML document. Floats may be infinite or NaN, as TOML's may.

    Raises:
        UnreadableError: it is not TOML, nested too deep, or holds a number that does not fit into 64 bits.
    """
    if _LONG_KEY.search(text):
        raise UnreadableError(f"it has a key of more than {_PARTS} parts")
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise UnreadableError(_too_deep()) from None
    except tomllib.TOMLDecodeError as error:
        raise UnreadableError(f"it is not TOML: {error}") from None
    except ValueError:  # Python's own limit on digits
        raise UnreadableError("it holds a number of thousands of digits; 64 bits are the limit") from None
    return dict(_bounded(value))


def _require_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotRegularError(f"this is {kind_of(found)}, not a regular file")


def _integer(text: str) -> int:
    if len(text) > _DIGITS + 1 or abs(int(text)) > _LARGEST:
        raise UnreadableError(f"{text[:_DIGITS]}… is a number of more than 64 bits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) <= _GREATEST:
        raise UnreadableError(f"{text[:_DIGITS]} is not a finite number of at most {_GREATEST:g}")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise UnreadableError("an object names a key twice")
    return table


def _bounded(value: Any) -> Any:
    """The value itself, after a walk in which no level is a call."""
    level = [value]
    for _ in range(_DEPTH):
        for item in level:
            _require_small(item)
            _require_text(item)
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return value
    raise UnreadableError(_too_deep())


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return itertools.chain(value, value.values())
    return value if isinstance(value, list) else ()


def _require_text(value: Any) -> None:
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UnreadableError("it holds half of a surrogate pair, which is no text") from None


def _require_small(value: Any) -> None:
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise UnreadableError(f"it holds a number of {value.bit_length()} bits; 64 is the limit")


def _too_deep() -> str:
    return f"it is nested more than {_DEPTH} levels deep"
