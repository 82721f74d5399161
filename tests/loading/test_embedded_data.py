"""Weights inside a model file: what is read of them and when, and what happens if the file changes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import intrain_onnx
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import ModelFileError, UnsafeModelError
from intrain_onnx.loading.embedded_data import EmbeddedTensor, HeldFile
from intrain_onnx.loading.load import LoadedModel, external_locations, load

from . import in_parts
from .hostile import builders
from .test_file_contents import ENCODED, everywhere

SIDE = 300
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def layers(count: int = 4, side: int = SIDE) -> onnx.ModelProto:
    """A chain of linear layers, each with large weights."""
    random = np.random.default_rng(0)
    nodes, weights, at = [], [], "x"
    for i in range(count):
        array = (random.normal(size=(side, side)) / side**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [at, f"w{i}"], [f"m{i}"], name=f"layer{i}"))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"], name=f"relu{i}"))
        at = f"r{i}"
    shape: list[int | str] = ["N", side]
    return builders.model(
        nodes, weights, inputs=[builders.value("x", shape)], outputs=[builders.value(at, shape)]
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return builders.write(tmp_path, layers())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Places in files that data was read from."""
    places: list[int] = []
    read = HeldFile.read

    def count(self: HeldFile, offset: int, length: int) -> bytes:
        places.append(offset)
        return read(self, offset, length)

    monkeypatch.setattr(HeldFile, "read", count)
    return places


def weight(loaded: LoadedModel, name: str = "w0") -> ir.TensorProtocol:
    found = loaded.fresh().graph.initializers[name].const_value
    assert found is not None
    return found


def test_weights_are_read_when_they_are_used(path: Path, reads: list[int]):
    loaded = load(path)
    tensor = weight(loaded)
    assert isinstance(tensor, EmbeddedTensor)
    assert reads == []
    held = loaded.fresh().graph.initializers["w1"].const_value
    assert (held.dtype, list(held.shape), held.nbytes) == (ir.DataType.FLOAT, [SIDE, SIDE], 4 * SIDE**2)
    assert reads == []
    array = tensor.numpy()
    assert len(reads) == 1
    np.testing.assert_array_equal(array, numpy_helper.to_array(layers().graph.initializer[0]))
    assert array.flags.aligned
    assert not array.flags.writeable


@pytest.mark.parametrize(("protocol", "most"), [("architecture", 1), ("checkpoint", 4)])
def test_a_protocol_that_draws_weights_does_not_read_them(
    protocol: str, most: int, path: Path, reads: list[int]
):
    config = ScoreConfig.for_protocol(protocol, seeds=1, batch=4, parity=False, device="cpu")
    intrain_onnx.score(path, config)
    assert len(set(reads)) == most  # whether the first rows are looked up is seen by the values


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint"])
def test_scores_and_parity_are_those_of_weights_in_memory(protocol: str, path: Path):
    config = ScoreConfig.for_protocol(protocol, seeds=1, batch=4, device="cpu")
    lazy, held = intrain_onnx.score(path, config), intrain_onnx.score(onnx.load(path), config)
    assert lazy.document.layers == held.document.layers
    assert lazy.document.score == held.document.score
    assert lazy.document.parity == held.document.parity
    assert lazy.document.parity is not None
    assert lazy.document.warnings == held.document.warnings


@LINUX
def test_loading_takes_no_memory_for_the_weights(tmp_path: Path):
    large = builders.write(tmp_path, layers(16, 1024), "large.onnx")
    assert large.stat().st_size > 64e6
    small = builders.write(tmp_path, layers(), "small.onnx")
    code = f"""
from pathlib import Path
from intrain_onnx.loading.load import load

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

load({str(small)!r}).fresh()
before = peak()
loaded = load({str(large)!r})
model = loaded.fresh()
print(peak() - before, loaded.warnings)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    grown, warnings = said.split(maxsplit=1)
    assert int(grown) < 8e6
    assert warnings.strip() == "()"  # onnx's checker was asked, as the file is small enough for it


@pytest.mark.parametrize(
    "kind", [k for k in TensorProto.DataType.values() if k not in (0, TensorProto.STRING)]
)
def test_every_element_type(kind: int, tmp_path: Path):
    array = (np.arange(512) % 2).reshape(2, 256).astype(helper.tensor_dtype_to_np_dtype(kind))
    proto = builders.model(
        [helper.make_node("Identity", ["x"], ["y"])], [numpy_helper.from_array(array, "w")]
    )
    proto.graph.initializer[0].doc_string = "kept"
    whole = load(proto)
    with in_parts.inside():
        loaded = load(builders.write(tmp_path, proto))
    tensor, expected = weight(loaded, "w"), weight(whole, "w")
    assert loaded.warnings == whole.warnings
    assert tensor.tobytes() == expected.tobytes()
    assert tensor.numpy().dtype == expected.numpy().dtype
    np.testing.assert_array_equal(tensor.numpy().view(np.uint8), expected.numpy().view(np.uint8))
    assert np.asarray(tensor).tobytes() == np.asarray(expected).tobytes()
    assert ir.to_proto(tensor) == ir.to_proto(expected)
    assert loaded.serialised() == whole.serialised()


def test_data_in_subgraphs_functions_and_attributes(tmp_path: Path):
    whole = load(everywhere())
    with in_parts.inside():
        loaded = load(builders.write(tmp_path, everywhere()))
    assert len(loaded._payloads) == 7
    assert ir.to_proto(loaded.fresh()).SerializeToString(deterministic=True) == ir.to_proto(
        whole.fresh()
    ).SerializeToString(deterministic=True)
    assert loaded.serialised() == whole.serialised()


def test_a_tensor_is_renamed_for_itself(path: Path):
    loaded = load(path)
    model = loaded.fresh()
    tensor = model.graph.initializers["w0"].const_value
    tensor.name = "other"
    assert tensor.name == "other"
    assert weight(loaded).name == "w0"


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")


def cut(path: Path) -> None:
    os.truncate(path, 5000)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("change", [overwrite, cut, touch, append])
def test_a_file_that_changes_is_an_error_and_no_other_weights(change, path: Path):
    os.utime(path, ns=(10**18, 10**18))
    loaded = load(path)
    tensor = weight(loaded)
    before = tensor.numpy().copy()
    read = tensor.numpy()
    change(path)
    np.testing.assert_array_equal(read, before)
    for use in (tensor.numpy, tensor.tobytes, loaded.serialised, loaded.for_onnxruntime):
        with pytest.raises(UnsafeModelError, match="changed while it was in use"):
            use()
    loaded.fresh()


def test_what_is_changed_before_a_run_ends_it_with_the_name_of_the_file(path: Path):
    loaded = load(path)
    cut(path)
    config = ScoreConfig.for_protocol("checkpoint", seeds=1, parity=False, device="cpu")
    with pytest.raises(UnsafeModelError, match=r"model\.onnx: the file changed"):
        intrain_onnx.score(loaded, config)


def test_a_file_that_is_exchanged_or_removed_is_read_on(path: Path, tmp_path: Path):
    loaded = load(path)
    before = weight(loaded).numpy()
    other = builders.write(tmp_path, b"another", "other.onnx")
    other.replace(path)
    np.testing.assert_array_equal(weight(loaded).numpy(), before)
    path.unlink()
    np.testing.assert_array_equal(weight(loaded).numpy(), before)


def test_a_disk_that_fails_is_an_error_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch):
    tensor = weight(load(path))

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(ModelFileError, match="cannot read the file: Input/output error"):
        tensor.numpy()


def test_data_that_comes_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch):
    tensor = weight(load(path))
    whole, read = tensor.tobytes(), os.pread
    monkeypatch.setattr(os, "pread", lambda handle, length, place: read(handle, min(length, 1000), place))
    assert tensor.tobytes() == whole


def test_without_reads_at_a_place_the_whole_is_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "pread")
    loaded = load(path)
    cut(path)
    assert weight(loaded).numpy().shape == (SIDE, SIDE)
    assert loaded.serialised() == layers().SerializeToString()


@LINUX
def test_the_file_is_closed_with_the_last_tensor(path: Path):
    def handles() -> Iterator[str]:
        for entry in Path("/proc/self/fd").iterdir():
            try:
                yield str(entry.readlink())
            except OSError:
                continue

    loaded = load(path)
    tensor = weight(loaded)
    del loaded
    gc.collect()
    assert list(handles()).count(str(path)) == 1
    tensor.numpy()
    del tensor
    gc.collect()
    assert str(path) not in list(handles())


def test_the_places_of_external_data_need_no_data(tmp_path: Path, reads: list[int]):
    with in_parts.inside():
        assert external_locations(builders.write(tmp_path, ENCODED["everywhere"])) == []
    assert reads == []
