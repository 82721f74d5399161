"""Models of remote stores, through fsspec: fetched with their external data into a bounded cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from intrain_onnx.errors import LimitError, ModelFileError, SettingsError
from intrain_onnx.loading import load

_EXTRA = "Install intrain-onnx[remote], and fsspec's package for that store"


def _fsspec() -> ModuleType:
    try:
        import fsspec  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingsError("addresses of stores need fsspec", hint=_EXTRA) from None
    return fsspec  # type: ignore[no-any-return]


def _store(address: str) -> tuple[Any, str]:
    """The store of an address, and the path in it."""
    try:
        store, path = _fsspec().core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise SettingsError(f"{address}: {error}", hint=_EXTRA) from None
    return store, path


def listed(address: str, endings: Sequence[str]) -> Iterator[str]:
    """Addresses of the models of a file, a folder that ends in ``/``, or a glob.

    Raises:
        SettingsError: the store cannot be asked, or needs a package that is not installed.
    """
    store, path = _store(address)
    if address.endswith("/"):
        wanted = [f"{path.rstrip('/')}/**/*{ending}" for ending in endings]
    elif any(c in path for c in "*?["):
        wanted = [path]
    else:
        yield address
        return
    try:
        found = sorted({name for pattern in wanted for name in store.glob(pattern)})
    except Exception as error:  # each store has errors of its own
        raise SettingsError(f"{address} cannot be listed: {error}") from error
    yield from (store.unstrip_protocol(name) for name in found)


def version_of(address: str) -> str | None:
    """What the store says of the version of a file, such as size and time or a tag; None if nothing."""
    store, path = _store(address)
    try:
        return str(store.ukey(path))
    except Exception:  # the run itself says what is wrong with it
        return None


def fetched(address: str, cache: Path, most: int) -> tuple[str, str | None]:
    """Fetch a model with its external data; returns the local path and the version.

    The files that were used longest ago make room.

    Raises:
        LimitError: it has more bytes than the cache may hold.
        ModelFileError: it cannot be fetched.
    """
    store, path = _store(address)
    version = version_of(address)
    folder = cache / hashlib.sha256(f"{address}\n{version}".encode()).hexdigest()[:32]
    target = folder / PurePosixPath(path).name
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        left = _get(store, path, target, address, most, cache)
        for place in load.external_locations(target):
            source = str(PurePosixPath(path).parent / place)
            left = _get(store, source, folder / place, address, left, cache)
        (folder / ".complete").touch()
    os.utime(folder)
    return str(target), version


def _get(store: Any, source: str, target: Path, address: str, most: int, cache: Path) -> int:
    """Fetch one file; returns how many bytes may still be fetched."""
    try:
        size = int(store.info(source)["size"] or 0)
        if size > most:
            raise LimitError(
                f"{source} has {size} bytes, and {most} are left of the cache",
                path=address,
                hint="Raise it with --cache-bytes",
            )
        _make_room(cache, most - size, keep=target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(source, str(target))
    except LimitError:
        raise
    except Exception as error:  # each store has errors of its own
        raise ModelFileError(f"cannot be fetched: {error}", path=address) from error
    return most - target.stat().st_size


def _make_room(cache: Path, size: int, keep: Path) -> None:
    """Remove what was used longest ago until at most so many bytes are held."""
    held = sorted(
        (folder.stat().st_mtime, folder) for folder in cache.iterdir() if folder.is_dir() and folder != keep
    )
    total = sum(_bytes(folder) for _, folder in held)
    for _, folder in held:
        if total <= size:
            return
        total -= _bytes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
