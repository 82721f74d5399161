"""An append-only log: a header line, then one JSON object a line, on disk before the next is measured."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeVar

import msgspec

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from intrain_onnx import untrusted
from intrain_onnx.errors import LimitError, SettingsError

T = TypeVar("T")
_LINE_BYTES = untrusted.DOCUMENT_BYTES
_ELSEWHERE = "Name another place with -o"


class Log:
    """A results file that one process holds open for appending.

    Args:
        path: of the file; its folder exists.
        header: first line, as a JSON object; determines the values, so a file with another is refused.
        resume: go on with a file that exists. Its last line, if cut off, is dropped.
        changes: says in words how a file's header differs.
        again: what goes on with the file after a disk was full.

    Raises:
        SettingsError: the file exists and ``resume`` is not set, has another header, cannot be written, or
            another process writes to it.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        *,
        resume: bool,
        changes: Callable[[Mapping[str, Any], Mapping[str, Any]], str] | None = None,
        again: str = "--resume",
    ) -> None:
        self.path, self._again = path, again
        try:
            self._stream = path.open("a+b", buffering=0)
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            self._begin(json.loads(as_line(header)), resume, changes)
        except OSError as error:
            self.close()
            raise _cannot_write(path, error) from error
        except BaseException:
            self.close()
            raise

    def _begin(
        self,
        header: Mapping[str, Any],
        resume: bool,
        changes: Callable[[Mapping[str, Any], Mapping[str, Any]], str] | None,
    ) -> None:
        """Take the file for this process, and write its header or hold it against that."""
        if fcntl is not None:
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SettingsError(f"another run writes to {self.path}", hint=_ELSEWHERE) from None
        if self._stream.seek(0, os.SEEK_END) == 0:
            self._durably(as_line(header))
            _sync_folder(self.path.parent)
            return
        if not resume:
            raise SettingsError(
                f"{self.path} is there already", hint=f"Go on with --resume, or {_ELSEWHERE.lower()}"
            )
        self._stream.seek(0)
        self._require_same(self._stream.readline(), header, changes)
        self._stream.truncate(_end_of_last_line(self._stream))

    def _require_same(
        self,
        found: bytes,
        header: Mapping[str, Any],
        changes: Callable[[Mapping[str, Any], Mapping[str, Any]], str] | None,
    ) -> None:
        try:
            before = json.loads(found)
        except (ValueError, RecursionError):
            before = None
        if not isinstance(before, dict):
            raise SettingsError(f"{self.path} holds no results", hint=_ELSEWHERE)
        if before != header:
            told = f": {changes(before, header)}" if changes is not None else ""
            raise SettingsError(f"{self.path} was made with other settings{told}", hint=_ELSEWHERE)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row; it is on the disk when this returns.

        Raises:
            LimitError: the disk is full, or the folder is gone; no half line stays.
        """
        start = self._stream.seek(0, os.SEEK_END)
        try:
            self._durably(as_line(row))
            if os.fstat(self._stream.fileno()).st_nlink == 0:
                raise FileNotFoundError(2, "the file was removed")
        except OSError as error:
            self._take_back(start)
            raise LimitError(
                f"cannot write {self.path}: {error.strerror}", hint=f"Make room, and go on with {self._again}"
            ) from error

    def _durably(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[self._stream.write(left) :]
        os.fsync(self._stream.fileno())

    def _take_back(self, start: int) -> None:
        with contextlib.suppress(OSError):  # the next start drops a cut line
            os.ftruncate(self._stream.fileno(), start)

    def close(self) -> None:
        """Release the file."""
        with contextlib.suppress(OSError):  # what did not fit is said already
            self._stream.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lines(path: Path) -> Iterator[str]:
    """The complete lines of a log, its header first, each of bounded length.

    Raises:
        OSError: it cannot be read.
        UnreadableError: it is no regular file, has a line that is too long, or not in UTF-8.
    """
    with untrusted.opened(path) as (file, _):
        while line := file.readline(_LINE_BYTES):
            if len(line) == _LINE_BYTES:
                raise untrusted.UnreadableError(f"a line has over {_LINE_BYTES:,} bytes")
            if line.endswith(b"\n"):
                yield untrusted.decoded(line[:-1])


def rows(path: Path) -> Iterator[str]:
    """The lines after the header, without one that is cut off.

    Raises:
        SettingsError: the file cannot be read.
    """
    try:
        found = lines(path)
        next(found, None)
        yield from found
    except (OSError, untrusted.UnreadableError) as error:
        raise SettingsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def decoded(path: Path, kind: type[T], what: str) -> Iterator[T]:
    """The lines after the header, as rows of one type.

    Args:
        path: of the log.
        kind: of the rows.
        what: the log should hold, for the error.

    Raises:
        SettingsError: the file cannot be read, or a line is no such row.
    """
    for line in rows(path):
        try:
            row = msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise SettingsError(f"{path} holds no {what}: {error}") from error
        yield row


def as_line(row: Mapping[str, Any]) -> bytes:
    """One strict JSON object on a line, in UTF-8; a byte of a file name that is not stays an escape."""
    return json.dumps(row, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _end_of_last_line(stream: BinaryIO) -> int:
    """Offset behind the last line break."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        start = max(end - 65536, 0)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _cannot_write(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"cannot write {path}: {error.strerror or error}", hint=_ELSEWHERE)
