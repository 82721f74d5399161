"""Weights in other files: outside the folder, through links, in devices, past the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from intrain_onnx.errors import ModelFileError, UnsafeModelError

from .builders import linear, value, weights, write
from .cases import refused


def external(folder: Path, location: str, *, data: bytes | None = bytes(64), **entries: str) -> Path:
    """A model with its weights at a location; ``data`` is written beside it as w.bin."""
    tensor = weights()
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    inner = folder / "inner"
    inner.mkdir(exist_ok=True)
    if data is not None:
        (inner / "w.bin").write_bytes(data)
    (folder / "secret.bin").write_bytes(bytes(64))
    return write(inner, linear(tensor))


@refused(UnsafeModelError, "outside the model's folder: '../secret.bin'")
def parent_folder(folder: Path) -> Path:
    return external(folder, "../secret.bin")


@refused(UnsafeModelError, "outside the model's folder")
def parent_folder_twice(folder: Path) -> Path:
    (folder / "inner" / "a").mkdir(parents=True)
    return external(folder, "a/../../secret.bin")


@refused(UnsafeModelError, "outside the model's folder")
def parent_folder_with_backslash(folder: Path) -> Path:
    return external(folder, "a\\..\\..\\secret.bin")


@refused(UnsafeModelError, "absolute path")
def absolute_path(folder: Path) -> Path:
    return external(folder, str(folder / "secret.bin"))


@refused(UnsafeModelError, "absolute path")
def windows_drive(folder: Path) -> Path:
    return external(folder, "C:secret.bin")


@refused(UnsafeModelError, "absolute path '/dev/zero'")
def device_zero(folder: Path) -> Path:
    return external(folder, "/dev/zero")


@refused(UnsafeModelError, "absolute path '/proc/self/environ'")
def environment(folder: Path) -> Path:
    return external(folder, "/proc/self/environ")


@refused(UnsafeModelError, "no usable location")
def empty_location(folder: Path) -> Path:
    return external(folder, "")


@refused(UnsafeModelError, "no usable location")
def location_with_a_null(folder: Path) -> Path:
    return external(folder, "w.bin\0.txt")


@refused(UnsafeModelError, "address in memory")
def onnxruntime_memory_address(folder: Path) -> Path:
    return external(folder, "*/_ORT_MEM_ADDR_/*", offset="4096")


@refused(UnsafeModelError, "symbolic link")
def symlink(folder: Path) -> Path:
    path = external(folder, "link.bin")
    (folder / "inner" / "link.bin").symlink_to(folder / "secret.bin")
    return path


@refused(UnsafeModelError, "symbolic link")
def symlink_inside(folder: Path) -> Path:
    path = external(folder, "link.bin")
    (folder / "inner" / "link.bin").symlink_to("w.bin")
    return path


@refused(UnsafeModelError, "not a plain file in plain folders")
def symlink_of_a_parent(folder: Path) -> Path:
    path = external(folder, "data/secret.bin")
    (folder / "inner" / "data").symlink_to(folder)
    return path


@refused(UnsafeModelError, "hard link")
def hardlink(folder: Path) -> Path:
    path = external(folder, "hard.bin")
    (folder / "inner" / "hard.bin").hardlink_to(folder / "secret.bin")
    return path


@refused(UnsafeModelError, "a named pipe")
def external_pipe(folder: Path) -> Path:
    path = external(folder, "pipe")
    os.mkfifo(folder / "inner" / "pipe")
    return path


@refused(UnsafeModelError, "a folder")
def external_folder(folder: Path) -> Path:
    path = external(folder, "sub")
    (folder / "inner" / "sub").mkdir()
    return path


@refused(ModelFileError, "missing")
def external_missing(folder: Path) -> Path:
    return external(folder, "w.bin", data=None)


@refused(UnsafeModelError, "offset '-8'")
def negative_offset(folder: Path) -> Path:
    return external(folder, "w.bin", offset="-8", length="64")


@refused(UnsafeModelError, "offset '\\x1b[1m'")
def offset_of_escapes(folder: Path) -> Path:
    return external(folder, "w.bin", offset="\x1b[1m", length="64")


@refused(ModelFileError, "1,000,000,000,000,000 bytes")
def huge_length(folder: Path) -> Path:
    return external(folder, "w.bin", length=str(10**15))


@refused(ModelFileError, "ends at 64")
def offset_past_the_end(folder: Path) -> Path:
    return external(folder, "w.bin", offset="4096")


@refused(ModelFileError, "ends at 32")
def external_short(folder: Path) -> Path:
    return external(folder, "w.bin", data=bytes(32))


@refused(UnsafeModelError, "unknown key '__class__'")
def unknown_key(folder: Path) -> Path:
    return external(folder, "w.bin", __class__="x")


@refused(UnsafeModelError, "twice")
def location_twice(folder: Path) -> Path:
    path = external(folder, "w.bin")
    proto = onnx.ModelProto.FromString(path.read_bytes())
    proto.graph.initializer[0].external_data.add(key="location", value="../secret.bin")
    return write(path.parent, proto)


def _external_elsewhere(folder: Path, put: Callable[[onnx.ModelProto, onnx.TensorProto], None]) -> Path:
    path = external(folder, "../secret.bin")
    tensor = onnx.ModelProto.FromString(path.read_bytes()).graph.initializer[0]
    proto = linear()
    put(proto, tensor)
    return write(path.parent, proto)


@refused(UnsafeModelError, "outside the model's folder")
def external_in_a_constant(folder: Path) -> Path:
    def put(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
        proto.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))

    return _external_elsewhere(folder, put)


@refused(UnsafeModelError, "outside the model's folder")
def external_in_a_subgraph(folder: Path) -> Path:
    def put(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
        branch = helper.make_graph([helper.make_node("Relu", ["w"], ["b"])], "b", [], [value("b")], [tensor])
        proto.graph.input.append(value("c", [], TensorProto.BOOL))
        proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch))

    return _external_elsewhere(folder, put)


@refused(UnsafeModelError, "outside the model's folder")
def external_in_a_function(folder: Path) -> Path:
    def put(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
        nodes = [helper.make_node("Constant", [], ["r"], value=tensor)]
        proto.functions.append(
            helper.make_function("d", "F", [], ["r"], nodes, [helper.make_opsetid("", 17)])
        )

    return _external_elsewhere(folder, put)


@refused(UnsafeModelError, "outside the model's folder")
def external_in_an_unused_field(folder: Path) -> Path:
    def put(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
        attribute = proto.graph.node[0].attribute.add(name="note", type=onnx.AttributeProto.INT, i=1)
        attribute.tensors.append(tensor)

    return _external_elsewhere(folder, put)
