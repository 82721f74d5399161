"""Digests of model files, by which identical ones are told: of the file, and of its external data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from intrain_onnx import untrusted
from intrain_onnx.errors import LimitError, ModelFileError
from intrain_onnx.loading.limits import Limits

_MOST = Limits().file_bytes


def digest(path: str | Path, most: int = _MOST) -> str:
    """SHA-256 of a regular file, in hexadecimal.

    Raises:
        ModelFileError: it cannot be read, or is a pipe, a device or a folder.
        LimitError: it is larger than ``most`` bytes.
    """
    try:
        with untrusted.opened(Path(path)) as (stream, size):
            if size > most:
                raise LimitError(
                    f"the file has {size} bytes, over the limit of {most}",
                    path=str(path),
                    hint="Keep the weights in external files",
                )
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except untrusted.UnreadableError as error:
        raise ModelFileError(str(error), path=str(path), hint="Name the .onnx file itself") from None
    except OSError as error:
        raise ModelFileError(f"cannot read the file: {error.strerror}", path=str(path)) from error


def same_external(model: str | Path, known: Mapping[str, str]) -> bool:
    """Whether the external data of a model has the digests that are known of it, by location.

    Only locations that the loader has accepted for a model of the same content are looked at.
    """
    folder = Path(model).parent
    try:
        return all(digest(folder / place, most=1 << 42) == sha for place, sha in known.items())
    except (ModelFileError, LimitError):
        return False
