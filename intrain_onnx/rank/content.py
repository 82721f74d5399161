"""Digests of model files, by which identical ones are told: of the file, and of its external data."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from intrain_onnx.errors import LimitError, ModelFileError
from intrain_onnx.loading.limits import Limits

_BLOCK = 1 << 20
_MOST = Limits().file_bytes


def digest(path: str | Path, most: int = _MOST) -> str:
    """SHA-256 of a regular file, in hexadecimal.

    Raises:
        ModelFileError: it cannot be read, or is a pipe, a device or a folder.
        LimitError: it is larger than ``most`` bytes.
    """
    found = hashlib.sha256()
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb", buffering=0) as stream:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileError("not a regular file", path=str(path), hint="Name a file")
            if status.st_size > most:
                raise LimitError(
                    f"the file has {status.st_size} bytes, over the limit of {most}",
                    path=str(path),
                    hint="Keep the weights in external files",
                )
            while block := stream.read(_BLOCK):
                found.update(block)
    except OSError as error:
        raise ModelFileError(f"cannot be read: {error.strerror}", path=str(path)) from error
    return found.hexdigest()


def same_external(model: str | Path, known: Mapping[str, str]) -> bool:
    """Whether the external data of a model has the digests that are known of it, by location.

    Only locations that the loader has accepted for a model of the same content are looked at.
    """
    folder = Path(model).parent
    try:
        return all(digest(folder / place, most=1 << 42) == sha for place, sha in known.items())
    except (ModelFileError, LimitError):
        return False
