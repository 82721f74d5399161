"""Small models, whole and in bytes that the protobuf library does not write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


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
