"""The scan of a serialised model against protobuf's own reader: what it counts, and what it refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf.message import DecodeError

from intrain_onnx.errors import LimitError, ModelFileError
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.protobuf_scan import scan

from .hostile import builders, functions, sizes

SAMPLES = Path(__file__).parents[2] / "samples"
FREE_TEXT = {"doc_string", "value"}
DEEP = replace(Limits(), graph_depth=1000)
WHOLE = {
    "linear": builders.linear().SerializeToString(),
    "nested": sizes.nested_ifs(5),
    "functions": functions.doubling(3).SerializeToString(),
    "keras": (SAMPLES / "keras_mobile.onnx").read_bytes(),
    "dynamo": (SAMPLES / "pytorch_encoder_dynamo.onnx").read_bytes(),
}


def counted(message: Any, levels: int = 0) -> Counter[str]:
    """The parts of a message that protobuf has read, by the names of their limits."""
    found: Counter[str] = Counter()
    depth, longest = levels, 0
    for item, value in message.ListFields():
        packed = item.has_options and item.GetOptions().packed
        values = list(value) if hasattr(value, "extend") and not packed else [value]
        found["fields"] += len(values)
        if item.type == item.TYPE_STRING and item.name not in FREE_TEXT:
            longest = max(longest, *(len(text.encode()) for text in values))
        if item.type != item.TYPE_MESSAGE:
            continue
        for child in values:
            name = child.DESCRIPTOR.name
            inner = counted(child, levels + (name == "GraphProto"))
            depth, longest = (
                max(depth, inner.pop("graph_depth", 0)),
                max(longest, inner.pop("name_length", 0)),
            )
            found += inner
            found["messages"] += 1
            found["nodes"] += name == "NodeProto"
            found["tensors"] += name == "TensorProto"
    return found + Counter({"graph_depth": depth, "name_length": longest})


def limits_of(data: bytes) -> dict[str, int]:
    found = counted(onnx.ModelProto.FromString(data))
    return {
        name: found[name] - (name == "graph_depth")  # the main graph is no level
        for name in ("fields", "messages", "nodes", "tensors", "graph_depth", "name_length")
    }


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_limits_of_what_protobuf_counts_are_kept_and_one_less_is_not(data: bytes):
    exact = limits_of(data)
    scan(data, replace(Limits(), **exact))
    for name, most in exact.items():
        if most:
            with pytest.raises(LimitError, match=f"over the limit {name}={most - 1:,}"):
                scan(data, replace(Limits(), **exact | {name: most - 1}))
    assert exact["graph_depth"] == (5 if data is WHOLE["nested"] else 0)


def is_read(data: bytes) -> bool:
    try:
        onnx.ModelProto.FromString(data)
    except DecodeError:
        return False
    return True


def is_accepted(data: bytes) -> bool:
    try:
        scan(data, DEEP)
    except (ModelFileError, LimitError):
        return False
    return True


@pytest.mark.parametrize("name", ["linear", "nested", "functions"])
def test_a_file_cut_anywhere_is_accepted_where_protobuf_reads_it(name: str):
    data = WHOLE[name]
    ends = [end for end in range(len(data) + 1) if is_accepted(data[:end])]
    assert ends == [end for end in range(len(data) + 1) if is_read(data[:end])]
    assert 2 < len(ends) < len(data) / 4


def nested(depth: int) -> bytes:
    """A sequence of sequences …: so many messages inside each other in the model."""
    inner = builders.field(1, b"") if depth % 2 == 0 else b""  # a tensor type is one more
    for _ in range((depth - 3) // 2):
        inner = builders.field(4, builders.field(1, inner))
    return builders.raw_model(builders.field(13, builders.field(2, inner)))


def test_messages_may_lie_as_deep_as_protobuf_reads_them():
    depths = range(90, 111)
    accepted = [depth for depth in depths if is_accepted(nested(depth))]
    assert accepted == [depth for depth in depths if is_read(nested(depth))]
    assert 5 < len(accepted) < 15
    assert is_accepted(sizes.nested_ifs(29))
    assert not is_accepted(sizes.nested_ifs(40))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x00\x01", "field number 0 at byte 2"),
        (b"\x0b", "wire type 3 at byte 0"),
        (b"\x0f", "wire type 7 at byte 0"),
        (b"\xff" * 11, "a number of more than 10 bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a number of more than 10 bytes"),
        (b"\x08", "truncated"),
        (b"\x08\x80", "truncated"),
        (b"\x3a\x05\x0a", "truncated"),
        (builders.field(7, b"\x08") + builders.field(1, 8), "a field overruns its message"),
        (builders.field(7, builders.field(2, b"\xff\xfe")), "GraphProto.name is not UTF-8 text: '\\xff"),
    ],
)
def test_what_is_no_protobuf_is_refused_with_its_place(data: bytes, says: str):
    with pytest.raises(ModelFileError) as caught:
        scan(data, Limits())
    assert says in str(caught.value)


def test_numbers_that_are_packed_count_by_their_least_size():
    """Protobuf reads repeated numbers packed or not; each becomes an object of Python."""
    for kind, size in ((8, 1), (7, 4)):  # ints, floats
        attribute = builders.field(1, b"a") + builders.field(kind, bytes(40))
        data = builders.raw_model(builders.field(1, builders.field(5, attribute)))
        read = onnx.ModelProto.FromString(data).graph.node[0].attribute[0]
        assert len(read.ints or read.floats) == 40 // size
        most = 8 + 40 // size  # 3 of the model; version, node, attribute; its name and its list
        scan(data, replace(Limits(), fields=most))
        with pytest.raises(LimitError, match="over the limit fields"):
            scan(data, replace(Limits(), fields=most - 1))


def test_documentation_may_be_of_any_length():
    proto = builders.linear()
    proto.doc_string = proto.graph.node[0].doc_string = "d" * 100_000
    proto.metadata_props.add(key="k", value="v" * 100_000)
    scan(proto.SerializeToString(), Limits())
    proto.metadata_props[0].key = "k" * 100_000
    with pytest.raises(LimitError, match=r"StringStringEntryProto\.key 'k+…' has 100,000 bytes"):
        scan(proto.SerializeToString(), Limits())
