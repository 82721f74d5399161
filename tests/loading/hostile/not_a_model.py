"""Files that are no ONNX model: empty, truncated, of another format, no files at all."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np

from intrain_onnx.errors import LimitError, ModelFileError

from .builders import linear, weights, write
from .cases import refused


@refused(ModelFileError, "empty")
def empty_file(folder: Path) -> Path:
    return write(folder, b"")


@refused(ModelFileError, "truncated")
def truncated(folder: Path) -> Path:
    return write(folder, linear().SerializeToString()[:-20])


@refused(ModelFileError, "")
def random_bytes(folder: Path) -> Path:
    return write(folder, np.random.default_rng(0).bytes(100_000))


@refused(ModelFileError, "ZIP archive (a Keras .keras file")
def zip_archive(folder: Path) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    return write(folder, buffer.getvalue())


@refused(ModelFileError, "PNG image")
def png_image(folder: Path) -> Path:
    return write(folder, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100))


@refused(ModelFileError, "pickle")
def pickled(folder: Path) -> Path:
    class Harm:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(folder / "unpickled"),)

    return write(folder, pickle.dumps(Harm()))


@refused(ModelFileError, "HDF5 file (a Keras .h5")
def hdf5(folder: Path) -> Path:
    return write(folder, b"\x89HDF\r\n\x1a\n" + bytes(100))


@refused(ModelFileError, "Git LFS pointer")
def lfs_pointer(folder: Path) -> Path:
    return write(folder, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")


@refused(ModelFileError, "web page")
def web_page(folder: Path) -> Path:
    return write(folder, b"<!DOCTYPE html><html><body>404</body></html>")


@refused(ModelFileError, "not an ONNX model")
def other_protobuf(folder: Path) -> Path:
    return write(folder, weights().SerializeToString())


@refused(ModelFileError, "a folder")
def a_folder(folder: Path) -> Path:
    (folder / "model.onnx").mkdir()
    return folder / "model.onnx"


@refused(ModelFileError, "a named pipe")
def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


@refused(ModelFileError, "a device")
def a_device(folder: Path) -> Path:
    return Path("/dev/zero")


@refused(ModelFileError, "No such file")
def a_missing_file(folder: Path) -> Path:
    return folder / "model.onnx"


@refused(ModelFileError, "")
def a_path_with_a_null(folder: Path) -> Path:
    return folder / "a\0b.onnx"


@refused(ModelFileError, "not UTF-8")
def names_not_utf8(folder: Path) -> Path:
    return write(folder, linear().SerializeToString().replace(b"dense", b"\xff\xfe\xfd\xfc\xfb"))


@refused(LimitError, "file_bytes")
def a_sparse_file_of_3_gb(folder: Path) -> Path:
    path = write(folder, linear())
    os.truncate(path, 3 * 10**9)
    return path
