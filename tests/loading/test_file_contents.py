"""Files read with the data of their tensors left in them, against protobuf's reading of the whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import IntrainError
from intrain_onnx.loading import embedded_data, file_contents
from intrain_onnx.loading.embedded_data import HeldFile
from intrain_onnx.loading.file_contents import Contents, split
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.load import load
from intrain_onnx.loading.protobuf_scan import scan

from . import in_parts
from .hostile import builders
from .hostile.builders import field, varint

DATA = np.arange(100, dtype=np.float32).reshape(10, 10)
RAW = DATA.tobytes()
DIMS = field(1, 10) + field(1, 10)
FLOAT = field(2, 1)
NAME = field(8, b"w")


def tensor(name: str = "w", dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(DATA.astype(dtype), name)


def everywhere() -> onnx.ModelProto:
    """Data in the graph, in subgraphs, functions and attributes of nodes, and where it is never left."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor("v", np.float64))
    branch = helper.make_graph(
        [helper.make_node("Add", ["b", "b"], ["o"])],
        "branch",
        [],
        [builders.value("o", [10, 10])],
        [tensor("b")],
    )
    condition = helper.make_node("If", ["yes"], ["i"], then_branch=branch, else_branch=branch)
    custom = helper.make_node("Custom", ["x"], ["u"], domain="d")
    custom.attribute.append(helper.make_attribute("many", [tensor("m"), tensor("n")]))
    inner = helper.make_node("Constant", [], ["k"], value=tensor("k"))
    function = helper.make_function("d", "F", ["a"], ["k"], [inner], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("default", tensor("f")))
    model = builders.model(
        [constant, condition, custom, helper.make_node("F", ["x"], ["y"], domain="d")],
        [tensor(), numpy_helper.from_array(np.array(True), "yes")],
        functions=[function],
        domains=("d",),
    )
    training = model.training_info.add().algorithm
    training.name = "t"
    training.initializer.append(tensor("t"))
    model.graph.initializer.append(TensorProto(name="s", data_type=1, dims=[50], float_data=range(50)))
    return model


def one(*parts: bytes) -> bytes:
    """A model with one weight, of encoded fields."""
    return builders.raw_model(field(2, b"g") + field(5, b"".join(parts)))


def long_lengths(raw: bytes) -> bytes:
    """A weight whose data has a length of five bytes, where two are enough."""
    length = bytes([*(b | 128 for b in varint(len(raw))), 128, 128, 0])
    return one(DIMS, FLOAT, varint(9 << 3 | 2) + length + raw, NAME)


ENCODED = {
    "everywhere": everywhere().SerializeToString(),
    "the data first": one(field(9, RAW), DIMS, FLOAT, NAME),
    "data twice": one(DIMS, FLOAT, field(9, RAW[::-1]), field(9, RAW), NAME),
    "large data, then small": one(DIMS, FLOAT, field(9, RAW), field(9, b"1234"), NAME),
    "small data, then large": one(DIMS, FLOAT, field(9, b"1234"), field(9, RAW), NAME),
    "two fields of data": one(DIMS, FLOAT, field(9, RAW), field(4, RAW), NAME),
    "data that is too short": one(DIMS, FLOAT, field(9, RAW[:-4]), NAME),
    "data that is too long": one(DIMS, FLOAT, field(9, RAW + RAW), NAME),
    "data of strings": one(DIMS, field(2, 8), field(9, RAW), NAME),
    "data of an unknown type": one(DIMS, field(2, 99), field(9, RAW), NAME),
    "data beside an external file": one(DIMS, FLOAT, field(9, RAW), field(14, 1), NAME),
    "no shape": one(FLOAT, field(9, RAW), NAME),
    "a length of five bytes": long_lengths(RAW),
    "a number where data belongs": one(DIMS, FLOAT, field(9, 7), field(9, RAW), NAME),
    "a graph in two parts": one(DIMS, FLOAT, field(9, RAW), NAME)
    + field(7, field(5, DIMS + FLOAT + field(9, RAW[::-1]) + field(8, b"z"))),
    "a constant in two parts": builders.raw_model(
        field(2, b"g")
        + field(
            1,
            field(4, b"Constant")
            + field(2, b"y")
            + field(
                5,
                field(1, b"value")
                + field(20, 4)
                + field(5, DIMS + FLOAT + field(9, RAW))
                + field(5, field(9, RAW[::-1])),
            ),
        )
    ),
    "a sparse weight": builders.raw_model(field(15, field(1, DIMS + FLOAT + field(9, RAW)))),
    "unknown fields": one(DIMS, FLOAT, field(99, RAW), field(9, RAW), field(99, 5), NAME),
    "a field after the graph overruns": one(DIMS, FLOAT, field(9, RAW), NAME) + b"\x0a\x05a",
    "a bad tag after the data": one(DIMS, FLOAT, field(9, RAW), b"\x0b", NAME),
    "a name that is no text": one(DIMS, FLOAT, field(9, RAW), field(8, b"\xff\xfe")),
}


def mutants() -> Iterator[bytes]:
    random = np.random.default_rng(0)
    seeds = [ENCODED["everywhere"], ENCODED["a graph in two parts"], ENCODED["data twice"]]
    for seed in seeds:
        places = [p for p in range(len(seed)) if seed[p : p + 8] not in RAW]
        for _ in range(400):
            data = bytearray(seed)
            for place in random.choice(places, random.integers(1, 3)):
                data[place] = random.integers(256)
            yield bytes(data)
        for end in random.choice(len(seed), 50):
            yield seed[:end]


ALL = [*ENCODED.values(), *mutants()]


def read(data: bytes) -> onnx.ModelProto | None:
    try:
        return onnx.ModelProto.FromString(data)
    except DecodeError:
        return None


def is_sound(data: bytes) -> bool:
    try:
        scan(data, Limits())
    except IntrainError:
        return False
    return True


def in_file(data: bytes, folder: Path) -> Contents | None:
    path = builders.write(folder, data)
    with in_parts.inside(), path.open("rb") as file:
        return split(file, len(data))


def test_protobuf_reads_of_a_file_in_parts_what_it_reads_of_the_whole(tmp_path: Path):
    with_data = 0
    for data in ALL:
        contents = in_file(data, tmp_path)
        if contents is None:  # it is read as a whole
            assert not is_sound(data)
            continue
        assert contents.size == len(data)
        assert contents.sha256 == hashlib.sha256(data).hexdigest()
        assert is_sound(contents.data) == is_sound(data)
        part, whole = read(contents.data), read(data)
        if part is None or whole is None:
            assert part is whole
            continue
        assert embedded_data.filled(part, contents.payloads).SerializeToString() == whole.SerializeToString()
        with_data += bool(contents.payloads)
    assert with_data > 500


def outcome(path: Path) -> tuple[object, ...]:
    try:
        loaded = load(path)
        model = loaded.fresh()
    except IntrainError as error:
        return type(error), str(error)
    weights = {name: v.const_value.tobytes() for name, v in model.graph.initializers.items() if v.const_value}
    return loaded.sha256, loaded.bytes, loaded.tensor_bytes, loaded.warnings, loaded.serialised(), weights


def test_errors_warnings_and_weights_are_those_of_the_whole(tmp_path: Path):
    sound = 0
    for data in ALL:
        path = builders.write(tmp_path, data)
        whole = outcome(path)
        with in_parts.inside():
            assert outcome(path) == whole, data
        sound += len(whole) > 2
    assert 100 < sound < len(ALL) - 100


def test_data_is_left_on_all_ways_and_on_no_others(tmp_path: Path):
    contents = in_file(ENCODED["everywhere"], tmp_path)
    assert contents is not None
    held = [payload.tobytes() for payload in contents.payloads.values()]
    assert held == [DATA.astype(np.float64).tobytes(), *[RAW] * 6]
    assert contents.data.count(RAW) == 2  # in the training graph, and what a function takes by default
    assert len(contents.data) < contents.size - sum(map(len, held)) + 30 * len(held)


@pytest.mark.parametrize("size", [file_contents._LEAST_DATA - 1, file_contents._LEAST_DATA])
def test_small_data_is_kept(size: int, tmp_path: Path):
    large = numpy_helper.from_array(np.zeros(2**20, np.uint8), "z")
    data = builders.model([], [numpy_helper.from_array(np.ones(size, np.uint8), "w"), large])
    path = builders.write(tmp_path, data)
    with path.open("rb") as file:
        contents = split(file, path.stat().st_size)
    assert contents is not None
    assert [p.nbytes for p in contents.payloads.values()] == [
        n for n in (size, 2**20) if n >= file_contents._LEAST_DATA
    ]


def test_small_files_are_read_as_a_whole(tmp_path: Path):
    path = builders.write(tmp_path, everywhere())
    with path.open("rb") as file:
        assert split(file, path.stat().st_size) is None


def test_a_file_of_countless_fields_is_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_contents, "_MOST_FIELDS", 20)
    few, many = (builders.raw_model(field(2, b"g" * 50) * number) for number in (10, 30))
    assert in_file(few, tmp_path) is not None
    assert in_file(many, tmp_path) is None


def test_a_file_that_changes_meanwhile_is_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = ENCODED["everywhere"]
    assert in_file(data, tmp_path) is not None
    assert in_file(data[:-1], tmp_path) is None
    monkeypatch.setattr(HeldFile, "is_unchanged", lambda _: False)
    assert in_file(data, tmp_path) is None
