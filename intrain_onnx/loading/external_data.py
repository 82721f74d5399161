"""External data: checks of the files that hold weights, against path traversal and links.

The model names these files, so the model could name any file: ``../../etc/passwd``, a link, a device. What is
accepted is a regular file without further hard links, below the model's folder, reached without a link.

Known holes of this kind in ONNX's own loader: CVE-2022-25882, CVE-2024-27318, CVE-2024-5187 (paths that leave
the folder), CVE-2026-27489 and CVE-2026-34446 (symbolic and hard links), CVE-2026-34447 (symbolic links of
parent folders), CVE-2026-34445 (keys such as ``__class__``, and lengths beyond the file).
"""

from __future__ import annotations

import hashlib
import ntpath
import os
import posixpath
import stat
from dataclasses import dataclass
from pathlib import Path

import onnx

from intrain_onnx.errors import LimitError, ModelFileError, UnsafeModelError, printable
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits, option
from intrain_onnx.loading.warnings import Notes
from intrain_onnx.untrusted import kind_of

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_MAX_PATH = 4096
_READ_BYTES = 2**24
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file that holds weights, with its size in bytes and identity when the model was loaded."""

    location: str
    path: Path
    bytes: int
    identity: tuple[int, int, int]
    """Device, inode and time of the last change in ns."""

    def sha256(self) -> str:
        """SHA-256 of the whole file, in hexadecimal.

        Raises:
            UnsafeModelError: the file was changed or exchanged since the model was loaded.
            LimitError: it takes too long.
        """
        fd = _open_inside(self.path.parents[len(parts(self.location)) - 1], self.location)
        with os.fdopen(fd, "rb") as file:
            if _identity(os.fstat(fd)) != self.identity:
                raise UnsafeModelError(
                    f"external file '{printable(self.location)}' changed while it was in use"
                )
            found, allowed = hashlib.sha256(), allowance.current()
            while part := file.read(_READ_BYTES):
                found.update(part)
                allowed.check_time()
            return found.hexdigest()


class ExternalFiles:
    """The external files of one model, each opened and checked once.

    Args:
        folder: the model's real folder; None for a model in memory, which may not have external data.
    """

    def __init__(self, folder: Path | None, limits: Limits, notes: Notes) -> None:
        self.folder = folder
        self.limits = limits
        self.notes = notes
        self.files: dict[str, ExternalFile] = {}
        self._sum = 0

    def check(self, tensor: onnx.TensorProto, nbytes: int) -> None:
        """Check that a tensor's external data is ``nbytes`` bytes inside an allowed file.

        Raises:
            UnsafeModelError: an unknown key, a path that leaves the folder, a link, not a regular file.
            ModelFileError: a missing file, or offset and length that do not fit the file or the shape.
            LimitError: the files together are over ``external_bytes``, or over ``hashed_bytes``: they are not
                hashed before the model has run, which would be in vain.
        """
        entries = self._entries(tensor)
        offset, length = _number(entries, "offset", 0), _number(entries, "length", nbytes)
        if length != nbytes:
            raise ModelFileError(f"external data of {length:,} bytes for a shape that needs {nbytes:,}")
        file = self._file(entries.get("location", ""))
        if offset + length > file.bytes:
            raise ModelFileError(
                f"external data at {offset:,} of {length:,} bytes, but '{printable(file.location)}' ends at "
                f"{file.bytes:,}",
                hint="The data file is short or belongs to another model: copy both again",
            )

    def _entries(self, tensor: onnx.TensorProto) -> dict[str, str]:
        entries: dict[str, str] = {}
        for entry in tensor.external_data:
            if entry.key in entries:
                raise UnsafeModelError(f"external data names '{printable(entry.key)}' twice")
            if entry.key == "basepath" or entry.key.startswith("prepacked_"):
                # onnx's and onnxruntime's own savers write these; neither changes where the data is.
                self.notes.add("external-key", f"external data key '{printable(entry.key)}' is ignored", None)
            elif entry.key not in _KEYS:
                raise UnsafeModelError(f"external data has the unknown key '{printable(entry.key)}'")
            entries[entry.key] = entry.value
        return entries

    def _file(self, location: str) -> ExternalFile:
        if location in self.files:
            return self.files[location]
        if self.folder is None:
            raise ModelFileError(
                "external data, but a model in memory has no folder to find it in",
                hint="Give the path of the model file, or load the data first with onnx.load",
            )
        fd = _open_inside(self.folder, location)
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        self._sum += found.st_size
        for name in ("external_bytes", "hashed_bytes"):
            most = getattr(self.limits, name)
            if self._sum > most:
                raise LimitError(
                    f"{self._sum:,} bytes of external data, over the limit {name}={most:,}",
                    limit=name,
                    hint=option(name, self._sum),
                )
        path = self.folder.joinpath(*parts(location))
        file = self.files[location] = ExternalFile(location, path, found.st_size, _identity(found))
        return file


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UnsafeModelError(f"external data has the {key} '{printable(text, 40)}', not a count of bytes")
    return int(text)


def parts(location: str) -> list[str]:
    """The components of a relative location.

    Raises:
        UnsafeModelError: it is empty, absolute, climbs with ``..``, or is a name that other programs read as
            something else (a Windows drive, onnxruntime's marker for an address in memory).
    """
    shown = printable(location)
    found = [part for part in location.split("/") if part not in ("", ".")]
    hint = "External data must lie in the model's own folder; load and save the model again with onnx"
    if not found or len(location) > _MAX_PATH or not location.isprintable():
        raise UnsafeModelError(f"external data has no usable location: '{shown}'", hint=hint)
    if posixpath.isabs(location) or ntpath.isabs(location) or ntpath.splitdrive(location)[0]:
        raise UnsafeModelError(f"external data at the absolute path '{shown}'", hint=hint)
    if ".." in location.replace("\\", "/").split("/"):
        raise UnsafeModelError(f"external data outside the model's folder: '{shown}'", hint=hint)
    if "_ORT_MEM_ADDR_" in location:
        raise UnsafeModelError(f"external data at an address in memory: '{shown}'", hint=hint)
    return found


def _open_inside(folder: Path, location: str) -> int:
    """Open a regular file below a folder for reading, following no link and waiting for no device.

    Each component is opened relative to the one before, so that nobody can exchange a checked folder for a
    link. Where the system cannot do this (Windows), links are looked for before the file is opened.
    """
    components = parts(location)
    shown = printable(location)
    held = -1
    try:
        if os.open in os.supports_dir_fd:
            held = os.open(folder, _READ | os.O_DIRECTORY)
            for part in components[:-1]:
                inner = os.open(part, _READ | os.O_DIRECTORY | _NO_LINK, dir_fd=held)
                os.close(held)
                held = inner
            before = os.stat(components[-1], dir_fd=held, follow_symlinks=False)
            _require_plain(before, shown)
            fd = os.open(components[-1], _READ | _NO_LINK, dir_fd=held)
        else:
            for depth in range(1, len(components)):
                _require_folder(os.lstat(folder.joinpath(*components[:depth])), shown)
            path = folder.joinpath(*components)
            _require_plain(os.lstat(path), shown)
            fd = os.open(path, _READ)
    except FileNotFoundError:
        raise ModelFileError(
            f"the external data file '{shown}' is missing",
            hint=f"It must lie in {printable(folder, _MAX_PATH)}",
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnsafeModelError(
            f"external data at '{shown}' is not a plain file in plain folders: {reason}", hint=_COPY
        ) from None
    finally:
        if held >= 0:
            os.close(held)
    try:
        _require_plain(os.fstat(fd), shown)
    except UnsafeModelError:
        os.close(fd)
        raise
    return fd


_COPY = "Links are refused: copy the model and its data into a folder of their own (cp -L)"


def _require_folder(found: os.stat_result, shown: str) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeModelError(f"external data at '{shown}' is reached through a link", hint=_COPY)


def _require_plain(found: os.stat_result, shown: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeModelError(f"external data at '{shown}' is a symbolic link", hint=_COPY)
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeModelError(f"external data at '{shown}' is {kind_of(found)}, not a regular file")
    if found.st_nlink > 1:
        raise UnsafeModelError(
            f"external data at '{shown}' is a hard link: the file has other names", hint=_COPY
        )


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_mtime_ns
