"""Reads a model file once, and hashes it; the data of large tensors is left in it (see `embedded_data`).

Of each large ``raw_data`` field only a stand-in is kept, so that protobuf parses a small message: the
weights are in memory neither as bytes of the file nor as those of the message. What is kept is a copy, made
before it is scanned and parsed: what happens to the file then changes no checked byte.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BufferedReader

import onnx

from intrain_onnx.errors import ModelFileError
from intrain_onnx.loading import allowance
from intrain_onnx.loading.embedded_data import WAYS, HeldFile, Payload
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.protobuf_scan import FIXED32, FIXED64, LENGTH, VARINT, varint

_LEAST_FILE = 2**20
_LEAST_DATA = 2**16
"""Bytes of a field from which on it stays in the file; and of a message to look for such fields in."""

_LARGEST_FILE = Limits().file_bytes
"""Of what protobuf parses: no more is made readable by leaving parts out."""

_PIECE = 2**18
_HEADER = 32
"""More bytes than a tag with a length or a number takes."""

_MOST_FIELDS = 1_000_000
"""In large messages: those of models have fewer, and a hostile file could have 1e9."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A model file, or the bytes of a model in memory.

    Attributes:
        data: its bytes, with a stand-in for the data of each large tensor.
        size: bytes of the whole.
        payloads: the data by its stand-in, which is random: no file can hold it.
    """

    data: bytes
    size: int
    payloads: Mapping[bytes, Payload] = field(default_factory=dict)
    _sha256: str | None = None

    @property
    def sha256(self) -> str:
        """Of the whole, in hexadecimal."""
        return self._sha256 or hashlib.sha256(self.data).hexdigest()


def split(file: BufferedReader, size: int) -> Contents | None:
    """Read a file once, and leave the data of its large tensors in it.

    What is kept is not checked. Protobuf reads it, or refuses it, as it does the whole.

    Args:
        file: at its beginning.
        size: its bytes; none is read beyond.

    Returns:
        None for a file to be read as a whole: it is small, no plain protobuf, or changes meanwhile, or the
        system cannot read at a place of a file (Windows).

    Raises:
        LimitError: it takes too long.
    """
    if not _LEAST_FILE <= size <= _LARGEST_FILE or not hasattr(os, "pread"):
        return None
    reader = _Reader(file, size)
    try:
        held = HeldFile(file.fileno(), size)
        cuts, lengths = _walk(reader, size)
    except (_NotPlainError, IndexError, ModelFileError):
        return None
    if not held.is_unchanged():
        return None
    payloads = {stand_in: Payload(held, offset, length) for stand_in, offset, length in cuts}
    return Contents(reader.rewritten(lengths), size, payloads, reader.digest.hexdigest())


class _NotPlainError(Exception):
    """A file that is left to the reading of the whole, which finds what is wrong with it."""


_Cut = tuple[bytes, int, int]
"""A stand-in, the place of its data in the file, and the bytes of that."""

_Length = tuple[int, int, int]
"""The place of a length in what is kept, the bytes that it takes, and its value."""


class _Reader:
    """Goes through a file, hashes all of it, and keeps all but what is cut."""

    def __init__(self, file: BufferedReader, size: int) -> None:
        self.digest = hashlib.sha256()
        self.removed = 0
        """Bytes by which what is kept is shorter than what it was made of."""
        self._file = file
        self._left = size
        self._kept = io.BytesIO()
        self._window = b""
        self._at = 0

    @property
    def kept(self) -> int:
        """Bytes that are kept, up to here."""
        return self._kept.tell() + self._at

    @property
    def position(self) -> int:
        """Place in the file."""
        return self.kept + self.removed

    def varint(self) -> int:
        """Go over a number; returns it."""
        number, self._at = varint(self._window, self._at)
        return number

    def look_ahead(self) -> None:
        """Have a tag and what follows in the window, unless the file ends."""
        if len(self._window) - self._at < _HEADER and self._left:
            self._window = self._pass_on() + self._read(_PIECE)

    def keep(self, length: int) -> None:
        """Go over so many bytes."""
        inside = min(length, len(self._window) - self._at)
        self._at += inside
        if inside < length:
            self._pass_on()
            for part in self._hashed(length - inside):
                self._kept.write(part)

    def cut(self, length: int, stand_in: bytes) -> None:
        """Go over so many bytes, of which only a stand-in is kept."""
        rest = self._pass_on()
        self.digest.update(rest[:length])
        self._window = rest[length:]
        for _ in self._hashed(length - min(length, len(rest))):
            pass
        self._kept.write(stand_in)
        self.removed += length - len(stand_in)

    def rewritten(self, lengths: list[_Length]) -> bytes:
        """What was kept, with new lengths."""
        self._pass_on()
        for place, width, length in lengths:
            self._kept.seek(place)
            self._kept.write(_padded(length, width))
        return self._kept.getvalue()

    def _pass_on(self) -> bytes:
        """Keep what was gone over of the window; returns its rest, which is no longer in it."""
        gone, rest = self._window[: self._at], self._window[self._at :]
        self.digest.update(gone)
        self._kept.write(gone)
        self._window, self._at = b"", 0
        return rest

    def _hashed(self, length: int) -> Iterator[bytes]:
        """The next bytes after the window, in pieces."""
        allowed = allowance.current()
        while length:
            part = self._read(min(length, _PIECE))
            self.digest.update(part)
            length -= len(part)
            yield part
            allowed.check_time()

    def _read(self, most: int) -> bytes:
        part = self._file.read(min(most, self._left))
        if not part:
            raise _NotPlainError
        self._left -= len(part)
        return part


def _walk(reader: _Reader, size: int) -> tuple[list[_Cut], list[_Length]]:
    """Go through the large messages of a model, and cut the data of large tensors.

    A length is written in as many bytes as it had, with zeros at its end: no outer length depends on that,
    and one that protobuf refuses for its bytes is refused still.

    Returns:
        What was cut, and the lengths to rewrite.
    """
    secret, ways = os.urandom(16), _ways()
    cuts: list[_Cut] = []
    lengths: list[_Length] = []
    outer: list[tuple[str, int, _Length, int]] = []
    name, end = "ModelProto", size
    for _ in range(_MOST_FIELDS):
        while reader.position == end:
            if not outer:
                return cuts, lengths
            name, end, (place, width, length), before = outer.pop()
            if reader.removed > before:
                lengths.append((place, width, length - (reader.removed - before)))
        reader.look_ahead()
        tag = reader.varint()
        if tag & 7 != LENGTH:
            _go_over_number(reader, tag & 7)
            if reader.position > end:
                raise _NotPlainError
            continue
        place = reader.kept
        length = reader.varint()
        width, start = reader.kept - place, reader.position
        if start + length > end:
            raise _NotPlainError
        child = ways[name].get(tag >> 3) if length >= _LEAST_DATA else None
        if child is None:
            reader.keep(length)
        elif child:
            outer.append((name, end, (place, width, length), reader.removed))
            name, end = child, start + length
        else:
            stand_in = secret + len(cuts).to_bytes(8, "little")
            cuts.append((stand_in, start, length))
            lengths.append((place, width, len(stand_in)))
            reader.cut(length, stand_in)
    raise _NotPlainError


def _go_over_number(reader: _Reader, kind: int) -> None:
    if kind == VARINT:
        reader.varint()
    elif kind in (FIXED32, FIXED64):
        reader.keep(4 if kind == FIXED32 else 8)
    else:
        raise _NotPlainError


@cache
def _ways() -> dict[str, dict[int, str]]:
    """`WAYS` by number: the message that a field holds, empty for data."""
    messages = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name
    found: dict[str, dict[int, str]] = {}
    for name, names in WAYS.items():
        fields = [messages[name].fields_by_name[each] for each in names]
        found[name] = {f.number: f.message_type.name if f.message_type else "" for f in fields}
    return found


def _padded(number: int, width: int) -> bytes:
    """A number in so many bytes, as protobuf writes one."""
    digits = [number >> 7 * place & 127 for place in range(width)]
    return bytes([*(d | 128 for d in digits[:-1]), digits[-1]])
