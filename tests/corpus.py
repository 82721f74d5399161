"""Hostile, broken and odd model files, and a cage to open them in.

Each builder writes what it needs below a folder and returns the path to open. ``STATIC`` holds files that the
loader itself must refuse, with the error and words of its message. ``RUNTIME`` holds files whose structure is
sound and whose harm comes with running them: they load, and whoever computes must stop them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import IntrainError, LimitError, ModelFileError, UnsafeModelError, UnsupportedError

Build = Callable[[Path], Path]


@dataclass(frozen=True)
class Case:
    name: str
    build: Build
    error: type[IntrainError] = IntrainError
    says: str = ""

    def __str__(self) -> str:
        return self.name


STATIC: list[Case] = []
RUNTIME: list[Case] = []


def refused(error: type[IntrainError], says: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        STATIC.append(Case(build.__name__, build, error, says))
        return build

    return register


def harmful_when_run(build: Build) -> Build:
    RUNTIME.append(Case(build.__name__, build))
    return build


# Small models


def value(
    name: str, shape: list[int | str] | None = None, kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [1, 4] if shape is None else shape)


def model(
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto] | None = None,
    *,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", [value("x")] if inputs is None else inputs, outputs or [value("y")], initializers or []
    )
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=8)


def weights(name: str = "w") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones((4, 4), np.float32), name)


def linear(tensor: onnx.TensorProto | None = None) -> onnx.ModelProto:
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], name="dense")], [tensor or weights()])


def write(folder: Path, content: onnx.ModelProto | bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def field(number: int, content: bytes | int) -> bytes:
    """One protobuf field, for what the protobuf library will not write."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def raw_model(graph: bytes) -> bytes:
    return field(1, 8) + field(7, graph) + field(8, field(2, 17))


def value_bytes(name: str, kind: int = 1, dims: int = 1) -> bytes:
    shape = field(2, b"".join(field(1, field(1, 1)) for _ in range(dims)))
    return field(1, name.encode()) + field(2, field(1, field(1, kind) + shape))


# Not a model


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


# External data


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


# Tensors


@refused(ModelFileError, "negative dimension in the shape [-4, -4]")
def negative_dims(folder: Path) -> Path:
    tensor = weights()
    tensor.dims[:] = [-4, -4]
    return write(folder, linear(tensor))


@refused(ModelFileError, "unknown element type 99")
def data_type_99(folder: Path) -> Path:
    tensor = weights()
    tensor.data_type = 99
    return write(folder, linear(tensor))


@refused(ModelFileError, "60 bytes of data for the shape [4, 4] of FLOAT, which needs 64")
def raw_data_short(folder: Path) -> Path:
    tensor = weights()
    tensor.raw_data = tensor.raw_data[:60]
    return write(folder, linear(tensor))


@refused(ModelFileError, "68 bytes of data")
def raw_data_long(folder: Path) -> Path:
    tensor = weights()
    tensor.raw_data += bytes(4)
    return write(folder, linear(tensor))


@refused(ModelFileError, "no data for the shape")
def no_data(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[2**17, 2**17], data_type=TensorProto.FLOAT)))


@refused(ModelFileError, "more than one field")
def data_twice(folder: Path) -> Path:
    tensor = weights()
    tensor.float_data.extend([0.0] * 16)
    return write(folder, linear(tensor))


@refused(ModelFileError, "3 numbers for the shape [4, 4]")
def typed_data_short(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[4, 4], data_type=1, float_data=[1, 2, 3])))


@refused(ModelFileError, "int64_data cannot hold")
def typed_data_wrong(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[1, 1], data_type=1, int64_data=[1])))


@refused(LimitError, "over the limit rank=32")
def rank_1000(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[1] * 1000, data_type=1, float_data=[1])))


@refused(LimitError, "over the limit rank=32")
def rank_1000_input(folder: Path) -> Path:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return write(folder, model(nodes, inputs=[value("x", [1] * 1000)]))


@refused(LimitError, "over the limit elements")
def dims_that_overflow(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[2**62, 2**62, 0], data_type=1)))


@refused(UnsupportedError, "sparse initializer 'w'")
def sparse_to_terabytes(folder: Path) -> Path:
    proto = linear()
    del proto.graph.initializer[:]
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**6, 10**6]))
    return write(folder, proto)


# Structure


@refused(ModelFileError, "the name 'w' is defined twice")
def initializer_twice(folder: Path) -> Path:
    return write(folder, model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weights(), weights()]))


@refused(ModelFileError, "the name 'y' is defined twice")
def output_twice(folder: Path) -> Path:
    return write(
        folder, model([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])])
    )


@refused(ModelFileError, "the name 'x' is defined twice")
def input_twice(folder: Path) -> Path:
    return write(folder, model([helper.make_node("Relu", ["x"], ["y"])], inputs=[value("x"), value("x")]))


@refused(ModelFileError, "the name 'a' is defined twice, in a subgraph")
def subgraph_redefines(folder: Path) -> Path:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "b", [], [value("a")])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    return write(folder, model(nodes, inputs=[value("x"), value("c", [], TensorProto.BOOL)]))


@refused(ModelFileError, "a cycle of 2 nodes: 'one', 'two'")
def a_cycle(folder: Path) -> Path:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
        helper.make_node("Neg", ["b"], ["y"], name="after"),
    ]
    return write(folder, model(nodes))


@refused(ModelFileError, "a cycle of 1 nodes: 'own'")
def a_cycle_through_a_subgraph(folder: Path) -> Path:
    branch = helper.make_graph([helper.make_node("Neg", ["y"], ["b"])], "b", [], [value("b")])
    nodes = [helper.make_node("If", ["c"], ["y"], name="own", then_branch=branch, else_branch=branch)]
    return write(folder, model(nodes, inputs=[value("x"), value("c", [], TensorProto.BOOL)]))


@refused(ModelFileError, "the input 'nowhere' is never made (at Add node 'adder')")
def dangling_input(folder: Path) -> Path:
    return write(folder, model([helper.make_node("Add", ["x", "nowhere"], ["y"], name="adder")]))


@refused(ModelFileError, "the graph output 'y' is never made")
def dangling_output(folder: Path) -> Path:
    return write(folder, model([helper.make_node("Relu", ["x"], ["z"])]))


@refused(ModelFileError, "is a value of the graph around it")
def subgraph_returns_outer(folder: Path) -> Path:
    branch = helper.make_graph([], "b", [], [value("x")])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    return write(folder, model(nodes, inputs=[value("x"), value("c", [], TensorProto.BOOL)]))


@refused(ModelFileError, "without an operator")
def no_operator(folder: Path) -> Path:
    return write(folder, model([helper.make_node("", ["x"], ["y"])]))


@refused(ModelFileError, "no opset is imported")
def no_opset(folder: Path) -> Path:
    proto = linear()
    del proto.opset_import[:]
    return write(folder, proto)


@refused(ModelFileError, "refers to the unknown 'nothing'")
def attribute_refers_to_nothing(folder: Path) -> Path:
    proto = linear()
    proto.graph.node[0].attribute.add(name="a", type=onnx.AttributeProto.INT, ref_attr_name="nothing")
    return write(folder, proto)


@refused(ModelFileError, "holds nothing of its type")
def constant_of_nothing(folder: Path) -> Path:
    proto = model([helper.make_node("Constant", [], ["y"])])
    proto.graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    return write(folder, proto)


@refused(UnsupportedError, "'y' is a map")
def zip_map(folder: Path) -> Path:
    proto = linear()
    proto.graph.output[0].type.Clear()
    proto.graph.output[0].type.map_type.key_type = TensorProto.INT64
    return write(folder, proto)


# Functions


def _function(name: str, calls: list[str]) -> onnx.FunctionProto:
    nodes, last = [], "a"
    for index, callee in enumerate(calls):
        out = "r" if index == len(calls) - 1 else f"t{index}"
        nodes.append(helper.make_node(callee, [last], [out], domain="" if callee == "Relu" else "d"))
        last = out
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    return helper.make_function("d", name, ["a"], ["r"], nodes, opsets)


def _calling(top: str, functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    return model([helper.make_node(top, ["x"], ["y"], domain="d")], functions=functions, domains=("d",))


@refused(ModelFileError, "a function calls itself: 'd::F' calls 'd::F'")
def recursion(folder: Path) -> Path:
    return write(folder, _calling("F", [_function("F", ["F"])]))


@refused(ModelFileError, "a function calls itself")
def mutual_recursion(folder: Path) -> Path:
    return write(folder, _calling("F", [_function("F", ["G"]), _function("G", ["F"])]))


def doubling(levels: int) -> onnx.ModelProto:
    """A model of a few lines that expands to ``2 ** levels`` nodes."""
    functions = [_function("F0", ["Relu"])]
    functions += [_function(f"F{i}", [f"F{i - 1}"] * 2) for i in range(1, levels + 1)]
    return _calling(f"F{levels}", functions)


@refused(LimitError, "536,870,912 nodes once its functions are expanded")
def functions_that_double(folder: Path) -> Path:
    return write(folder, doubling(29))


@refused(LimitError, "over the limit function_depth=100")
def functions_in_a_chain(folder: Path) -> Path:
    functions = [_function("F0", ["Relu"]), *(_function(f"F{i}", [f"F{i - 1}"]) for i in range(1, 5000))]
    return write(folder, _calling("F4999", functions))


@refused(ModelFileError, "is defined twice")
def function_twice(folder: Path) -> Path:
    return write(folder, _calling("F", [_function("F", ["Relu"]), _function("F", ["Relu"])]))


@refused(ModelFileError, "2 inputs and 1 outputs for a function of 1 and 1")
def too_many_arguments(folder: Path) -> Path:
    proto = _calling("F", [_function("F", ["Relu"])])
    proto.graph.node[0].input.append("x")
    return write(folder, proto)


# Numbers of things


def nested_ifs(levels: int) -> bytes:
    """If in If in If …, written by hand: protobuf itself does not write more than 31."""
    graph = field(1, field(1, b"x") + field(2, b"y0") + field(4, b"Relu")) + field(12, value_bytes("y0"))
    for level in range(1, levels + 1):
        branches = b"".join(
            field(5, field(1, name) + field(6, graph) + field(20, 5))
            for name in (b"then_branch", b"else_branch")[:1]
        )
        node = field(1, b"c") + field(2, f"y{level}".encode()) + field(4, b"If") + branches
        graph = field(1, node) + field(12, value_bytes(f"y{level}"))
    return raw_model(graph + field(11, value_bytes("x")) + field(11, value_bytes("c", TensorProto.BOOL, 0)))


@refused(LimitError, "over the limit graph_depth=20")
def forty_nested_ifs(folder: Path) -> Path:
    return write(folder, nested_ifs(40))


@refused(LimitError, "over the limit tensors")
def million_initializers(folder: Path) -> Path:
    tensor = field(1, 1) + field(2, 1) + field(8, b"w") + field(9, bytes(4))
    return write(folder, raw_model(field(5, tensor) * 10**6))


@refused(LimitError, "over the limit tensors")
def empty_tensors(folder: Path) -> Path:
    return write(folder, raw_model(b"\x2a\x00" * 5_000_000))


@refused(LimitError, "over the limit messages")
def empty_messages(folder: Path) -> Path:
    return write(folder, raw_model(b"\x6a\x00" * 6_000_000))


@refused(LimitError, "over the limit fields")
def packed_numbers(folder: Path) -> Path:
    attribute = field(1, b"axes") + field(8, bytes(30_000_000)) + field(20, 7)
    node = field(1, b"x") + field(2, b"y") + field(4, b"Relu") + field(5, attribute)
    return write(folder, raw_model(field(1, node)))


@refused(LimitError, "over the limit nodes")
def million_nodes(folder: Path) -> Path:
    return write(folder, raw_model(field(1, field(4, b"Relu")) * 10**6))


@refused(LimitError, "over the limit values")
def node_of_many_inputs(folder: Path) -> Path:
    node = field(1, b"x") * 2_100_000 + field(2, b"y") + field(4, b"Sum")
    return write(
        folder, raw_model(field(1, node) + field(11, value_bytes("x")) + field(12, value_bytes("y")))
    )


@refused(LimitError, "has 10,485,760 bytes, over the limit name_length")
def name_of_10_mb(folder: Path) -> Path:
    proto = linear()
    proto.graph.node[0].name = "n" * 10 * 2**20
    return write(folder, proto)


@refused(ModelFileError, "node 'a\\x1b[2J\\u202eb<script>alert(1)</script>\\n'")
def names_with_escapes(folder: Path) -> Path:
    nodes = [
        helper.make_node("Add", ["x", "no\x07"], ["y"], name="a\x1b[2J\u202eb<script>alert(1)</script>\n")
    ]
    return write(folder, model(nodes))


# Sound files that do harm when they are run


def _of_shape(folder: Path, dims: list[int], *nodes: onnx.NodeProto) -> Path:
    shape = numpy_helper.from_array(np.array(dims, np.int64), "shape")
    end = helper.make_node("Add", ["x", "big"], ["y"])
    return write(folder, model([*nodes, end], [shape]))


@harmful_when_run
def constant_of_shape_of_terabytes(folder: Path) -> Path:
    return _of_shape(folder, [10**6, 10**6, 4], helper.make_node("ConstantOfShape", ["shape"], ["big"]))


@harmful_when_run
def expand_to_terabytes(folder: Path) -> Path:
    return _of_shape(folder, [10**6, 10**6, 4], helper.make_node("Expand", ["x", "shape"], ["big"]))


@harmful_when_run
def tile_to_terabytes(folder: Path) -> Path:
    return _of_shape(folder, [10**6, 10**6], helper.make_node("Tile", ["x", "shape"], ["big"]))


@harmful_when_run
def range_to_terabytes(folder: Path) -> Path:
    ends = [numpy_helper.from_array(np.array(n, np.float32), s) for n, s in ((0, "a"), (1e12, "b"), (1, "c"))]
    nodes = [
        helper.make_node("Range", ["a", "b", "c"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"]),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    return write(folder, model(nodes, ends))


@harmful_when_run
def resize_a_millionfold(folder: Path) -> Path:
    scales = numpy_helper.from_array(np.array([1, 1, 1e6, 1e6], np.float32), "scales")
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"])
    shape: list[int | str] = [1, 1, 8, 8]
    return write(
        folder, model([node], [scales], inputs=[value("x", shape)], outputs=[value("y", ["a", 1, "b", "c"])])
    )


@harmful_when_run
def pad_to_terabytes(folder: Path) -> Path:
    pads = numpy_helper.from_array(np.array([0, 0, 10**6, 10**6], np.int64), "pads")
    return write(
        folder,
        model([helper.make_node("Pad", ["x", "pads"], ["y"])], [pads], outputs=[value("y", ["a", "b"])]),
    )


@harmful_when_run
def one_hot_to_terabytes(folder: Path) -> Path:
    depth = numpy_helper.from_array(np.array(10**12, np.int64), "depth")
    values = numpy_helper.from_array(np.array([0, 1], np.float32), "values")
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["i", "depth", "values"], ["h"]),
        helper.make_node("ReduceMean", ["h"], ["m"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["x", "m"], ["y"]),
    ]
    return write(folder, model(nodes, [depth, values]))


@harmful_when_run
def outer_product_of_terabytes(folder: Path) -> Path:
    nodes, last = [], "x"
    for i in range(5):
        nodes.append(helper.make_node("Concat", [last] * 100, [f"v{i}"], axis=1))
        last = f"v{i}"
    nodes.append(helper.make_node("Transpose", [last], ["t"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["t", last], ["y"]))
    return write(folder, model(nodes, outputs=[value("y", ["a", "b"])]))


@harmful_when_run
def input_of_terabytes(folder: Path) -> Path:
    inputs = [value("x", [10**6, 10**6])]
    return write(
        folder,
        model([helper.make_node("Relu", ["x"], ["y"])], inputs=inputs, outputs=[value("y", ["a", "b"])]),
    )


def _loop(folder: Path, trips: int, cond: str = "c") -> Path:
    body = helper.make_graph(
        [helper.make_node("Identity", ["ci"], ["co"]), helper.make_node("Mul", ["s", "one"], ["so"])],
        "body",
        [value("i", [], TensorProto.INT64), value("ci", [], TensorProto.BOOL), value("s")],
        [value("co", [], TensorProto.BOOL), value("so")],
    )
    initializers = [
        numpy_helper.from_array(np.array(trips, np.int64), "trips"),
        numpy_helper.from_array(np.array(True), "c"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    count = "trips" if trips else ""
    return write(
        folder, model([helper.make_node("Loop", [count, cond, "x"], ["y"], body=body)], initializers)
    )


@harmful_when_run
def loop_of_a_quadrillion_trips(folder: Path) -> Path:
    return _loop(folder, 10**15)


@harmful_when_run
def loop_without_end(folder: Path) -> Path:
    return _loop(folder, 0)


@harmful_when_run
def gather_chain_of_100_000(folder: Path) -> Path:
    index = numpy_helper.from_array(np.array([0], np.int64), "i")
    names = ["x", *(f"v{i}" for i in range(99_999)), "y"]
    nodes = [helper.make_node("Gather", [a, "i"], [b]) for a, b in pairwise(names)]
    return write(folder, model(nodes, [index]))


@harmful_when_run
def weights_shared_by_many_tensors(folder: Path) -> Path:
    """One sparse file of 1 GB that 2,000 tensors name: 2 TB once each is copied."""
    tensors = []
    for i in range(2000):
        tensor = TensorProto(name=f"w{i}", dims=[4, 2**26], data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        tensors.append(tensor)
    (folder / "w.bin").touch()
    os.truncate(folder / "w.bin", 2**30)
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"v{i}"]) for i in range(2000)]
    nodes.append(helper.make_node("Sum", [f"v{i}" for i in range(2000)], ["y"]))
    return write(folder, model(nodes, tensors, outputs=[value("y", ["a", "b"])]))


@harmful_when_run
def einsum_over_many_letters(folder: Path) -> Path:
    node = helper.make_node(
        "Einsum", ["x"] * 10, ["y"], equation="ab,cd,ef,gh,ij,kl,mn,op,qr,st->abcdefghijklmnopqrst"
    )
    return write(folder, model([node], outputs=[value("y", [1, 4] * 10)]))


@harmful_when_run
def unknown_domain(folder: Path) -> Path:
    return write(
        folder, model([helper.make_node("Magic", ["x"], ["y"], domain="com.acme")], domains=("com.acme",))
    )


@harmful_when_run
def ep_context(folder: Path) -> Path:
    node = helper.make_node(
        "EPContext",
        ["x"],
        ["y"],
        domain="com.microsoft",
        embed_mode=0,
        ep_cache_context="../../etc/passwd",
        source="QNN",
    )
    return write(folder, model([node], domains=("com.microsoft",)))


@harmful_when_run
def tree_ensemble(folder: Path) -> Path:
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_featureids=[0],
        nodes_modes=["LEAF"],
        nodes_nodeids=[0],
        nodes_treeids=[0],
        nodes_values=[0.0],
        nodes_truenodeids=[0],
        nodes_falsenodeids=[0],
        target_ids=[0],
        target_nodeids=[0],
        target_treeids=[0],
        target_weights=[1.0],
    )
    return write(folder, model([node], domains=("ai.onnx.ml",), outputs=[value("y", [1, 1])]))


@harmful_when_run
def string_tensors(folder: Path) -> Path:
    nodes = [helper.make_node("StringNormalizer", ["x"], ["y"])]
    inputs = [value("x", [1], TensorProto.STRING)]
    return write(folder, model(nodes, inputs=inputs, outputs=[value("y", [1], TensorProto.STRING)]))


def _filled(folder: Path, fill: float, dtype: type[np.generic] = np.float32) -> Path:
    proto = linear(numpy_helper.from_array(np.full((4, 4), fill, dtype), "w"))
    if dtype is np.float16:
        for info in (*proto.graph.input, *proto.graph.output):
            info.type.tensor_type.elem_type = TensorProto.FLOAT16
    return write(folder, proto)


@harmful_when_run
def weights_not_a_number(folder: Path) -> Path:
    return _filled(folder, float("nan"))


@harmful_when_run
def weights_infinite(folder: Path) -> Path:
    return _filled(folder, float("inf"))


@harmful_when_run
def weights_zero(folder: Path) -> Path:
    return _filled(folder, 0.0)


@harmful_when_run
def weights_denormal(folder: Path) -> Path:
    return _filled(folder, 1e-42)


@harmful_when_run
def weights_that_overflow_half(folder: Path) -> Path:
    return _filled(folder, 65504.0, np.float16)


# The cage


@dataclass(frozen=True)
class Outcome:
    """What became of a function in the cage."""

    error: str | None
    message: str
    megabytes: int
    """How much its peak memory grew."""
    touched: list[str]
    """What it did outside the folder: files opened, made or removed there, programs and connections."""
    code: int
    """0, or the exit code or negative signal of a child that did not end by itself."""


_LIBRARY = (
    sys.prefix,
    sys.base_prefix,
    os.path.dirname(os.__file__),
    os.path.dirname(os.path.dirname(__file__)),
)


def _watch(folder: Path, touched: list[str]) -> None:
    inside = (str(folder), os.path.realpath(folder))

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = args
            name = os.fspath(path) if isinstance(path, str | bytes | os.PathLike) else ""
            name = os.fsdecode(name)
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            relative = not os.path.isabs(name)  # opened in a folder that was opened before
            harmless = not writes and (relative or name.startswith((*inside, *_LIBRARY, "/proc/self/statm")))
            if writes or not harmless:
                touched.append(f"open {name}")
        elif event.split(".", 1)[0] in ("socket", "subprocess", "ctypes", "ftplib", "urllib") or event in (
            "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "os.remove", "os.rename",
            "os.link", "os.symlink", "os.rmdir", "os.truncate", "os.chmod", "os.utime",
            "pickle.find_class",
        ):  # fmt: skip
            touched.append(f"{event} {args}"[:200])

    sys.addaudithook(hook)


def _inside(
    function: Callable[[Path], object], path: Path, folder: Path, cap: int, cpu: int, pipe: object
) -> None:
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + cap, held + cap))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    touched: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _watch(folder, touched)
    try:
        message, error = str(function(path)), None
    except BaseException as caught:
        message, error = str(caught), type(caught).__name__
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    pipe.send_bytes(json.dumps([error, message, grown, touched]).encode())  # type: ignore[attr-defined]


def caged(
    function: Callable[[Path], object],
    path: Path,
    folder: Path,
    *,
    cap: int = 2**30,
    cpu: int = 60,
    wall: float = 120,
    preload: tuple[str, ...] = ("intrain_onnx.pipeline",),
) -> Outcome:
    """Run a module-level function in a child process with limits on memory, CPU time and wall time.

    Args:
        function: called with ``path``; what it returns or raises comes back as text.
        path: the file.
        folder: the only place where it may read and write.
        cap: bytes of address space on top of what an idle child has.
        cpu: seconds of CPU time.
        wall: seconds until the child is killed.
        preload: modules that the server which children are forked from has imported (the first call decides).
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_inside, args=(function, path, folder, cap, cpu, send))
    child.start()
    send.close()
    try:
        if not receive.poll(wall):
            return Outcome("TimeoutError", f"still running after {wall} s", 0, [], -9)
        error, message, grown, touched = json.loads(receive.recv_bytes())
    except EOFError:
        child.join(10)
        return Outcome("Killed", f"exit code {child.exitcode}", 0, [], child.exitcode or 0)
    finally:
        if child.is_alive():
            child.join(5)
        if child.is_alive():
            child.kill()
        child.join()
    return Outcome(error, message, grown, touched, 0)


def files_below(folder: Path) -> Iterator[tuple[str, int]]:
    """Every path below a folder and when it last changed, to see that nothing was written."""
    for path in sorted(folder.rglob("*")):
        yield str(path), path.lstat().st_mtime_ns
