"""More of something than a model needs: levels, tensors, nodes, fields, letters of a name."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, helper

from intrain_onnx.errors import LimitError, ModelFileError

from .builders import field, linear, model, raw_model, value_bytes, write
from .cases import refused


def _relu(name: str) -> bytes:
    return field(1, field(1, b"x") + field(2, name.encode()) + field(4, b"Relu")) + field(
        12, value_bytes(name)
    )


def nested_ifs(levels: int) -> bytes:
    """If in If in If …, written by hand: protobuf itself does not write more than 31."""
    graph = _relu("y0")
    for level in range(1, levels + 1):
        branches = b"".join(
            field(5, field(1, name) + field(6, body) + field(20, 5))
            for name, body in ((b"then_branch", graph), (b"else_branch", _relu(f"e{level}")))
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
