"""The loader against the corpus, and against healthy files that it must not refuse."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import (
    IntrainError,
    LimitError,
    ModelFileError,
    UnsafeModelError,
    UnsupportedError,
    printable,
)
from intrain_onnx.loading.file_contents import Contents
from intrain_onnx.loading.load import Limits, LoadedModel, _load, _parsed, load
from intrain_onnx.rewrites.inline_functions import InlineFunctions

from . import hostile, in_parts
from .hostile import builders, cage, functions, sizes

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))


def summary(path: Path) -> str:
    """Load in the cage; say how many nodes there are."""
    loaded = load(path)
    return f"{sum(1 for _ in loaded.fresh().graph.all_nodes())} nodes"


def summary_in_parts(path: Path) -> str:
    """The same of a file whose tensors, even of some bytes, stay in it."""
    in_parts.from_now_on()
    return summary(path)


@pytest.mark.parametrize("read", [summary, summary_in_parts])
@pytest.mark.parametrize("case", hostile.STATIC, ids=str)
def test_hostile_file_is_refused(case: hostile.Case, read: Callable[[Path], str], tmp_path: Path):
    path = case.build(tmp_path)
    before = list(cage.files_below(tmp_path))
    outcome = cage.caged(read, path, tmp_path)
    assert outcome.error == case.error.__name__, outcome
    assert case.says in outcome.message
    assert outcome.message.startswith(printable(path, 4096))
    assert outcome.message.isprintable()
    assert len(outcome.message) < 5000
    assert [t for t in outcome.touched if t != "open /dev/zero"] == []
    assert list(cage.files_below(tmp_path)) == before


@pytest.mark.parametrize("case", hostile.RUNTIME, ids=str)
def test_file_that_harms_when_run_loads(case: hostile.Case, tmp_path: Path):
    path = case.build(tmp_path)
    before = list(cage.files_below(tmp_path))
    outcome = cage.caged(summary, path, tmp_path)
    assert outcome.error is None, outcome
    assert outcome.touched == []
    assert outcome.megabytes < 600
    assert list(cage.files_below(tmp_path)) == before


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem)
def test_light_models_load(path: Path):
    loaded = load(path)
    assert loaded.warnings == ()
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.bytes == path.stat().st_size
    assert loaded.opset_imports == {"": 9}
    assert len(loaded.fresh().graph) > 10


def test_there_are_nine_light_models():
    assert len(LIGHT) == 9


def external(folder: Path) -> tuple[Path, np.ndarray]:
    array = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    path = folder / "net.onnx"
    proto = builders.linear(numpy_helper.from_array(array, "w"))
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    return path, array


def test_external_data_beside_the_model(tmp_path: Path):
    path, array = external(tmp_path)
    loaded = load(path)
    assert loaded.external_sha256() == {
        "net.data": hashlib.sha256((tmp_path / "net.data").read_bytes()).hexdigest()
    }
    tensor = loaded.fresh().graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_external_data_in_a_folder_below_and_a_linked_model(tmp_path: Path):
    (tmp_path / "real" / "sub").mkdir(parents=True)
    path, array = external(tmp_path / "real")
    (tmp_path / "real" / "net.data").rename(tmp_path / "real" / "sub" / "net.data")
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "./sub/net.data"
    path.write_bytes(proto.SerializeToString())
    (tmp_path / "link.onnx").symlink_to(path)
    tensor = load(tmp_path / "link.onnx").fresh().graph.initializers["w"].const_value
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_external_data_that_changes_is_noticed(tmp_path: Path):
    path, _ = external(tmp_path)
    loaded = load(path)
    (tmp_path / "net.data").unlink()
    (tmp_path / "net.data").write_bytes(bytes(64))
    with pytest.raises(UnsafeModelError, match="changed"):
        loaded.external_sha256()


def test_external_data_of_constants_subgraphs_and_functions_gets_the_folder(tmp_path: Path):
    path, array = external(tmp_path)
    tensor = onnx.load(path, load_external_data=False).graph.initializer[0]
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["b"])], "b", [], [builders.value("b", [4, 4])], [tensor]
    )
    function = helper.make_function(
        "d",
        "F",
        [],
        ["r"],
        [helper.make_node("Constant", [], ["r"], value=tensor)],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("F", [], ["z"], domain="d"),
    ]
    inputs = [builders.value("c", [], TensorProto.BOOL)]
    outputs = [builders.value("y", [4, 4]), builders.value("z", [4, 4])]
    proto = builders.model(nodes, inputs=inputs, outputs=outputs, functions=[function], domains=("d",))
    model = load(builders.write(tmp_path, proto)).fresh()
    InlineFunctions()(model)
    inner = model.graph[0].attributes["then_branch"].as_graph().initializers["w"].const_value
    constant = model.graph[1].attributes["value"].as_tensor()
    np.testing.assert_array_equal(inner.numpy(), array)
    np.testing.assert_array_equal(constant.numpy(), array)


def huge(path: Path) -> str:
    started = time.perf_counter()
    loaded = load(path)
    loaded.fresh()
    return f"{loaded.tensor_bytes} {time.perf_counter() - started:.3f}"


def test_three_gigabytes_of_external_data_take_no_memory(tmp_path: Path):
    tensor = TensorProto(name="w", dims=[4, 187_500_000], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").touch()
    os.truncate(tmp_path / "w.bin", 3 * 10**9)
    outcome = cage.caged(huge, builders.write(tmp_path, builders.linear(tensor)), tmp_path)
    assert outcome.error is None, outcome
    size, seconds = outcome.message.split()
    assert int(size) == 3 * 10**9
    assert float(seconds) < 5
    assert outcome.megabytes < 100


def test_functions_expand_in_linear_time():
    model = load(functions.doubling(14)).fresh()
    InlineFunctions()(
        model
    )  # onnx_ir's own pass runs into the timeout: 113 s for 13 levels, 6 times that for 14
    assert [n.op_type for n in model.graph] == ["Relu"] * 2**14
    assert not model.functions


def test_functions_that_nothing_calls_are_dropped():
    proto = functions.doubling(29)
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "Relu", ""
    model = load(proto).fresh()
    InlineFunctions()(model)
    assert not model.functions


def test_expanded_functions_compute_the_same():
    def branch(op: str, out: str, domain: str = "") -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(op, ["b"], [out], domain=domain)], "g", [], [builders.value(out)]
        )

    leaky = helper.make_node("LeakyRelu", ["a"], ["r"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    choice = helper.make_node(
        "If", ["c"], ["r"], then_branch=branch("G", "t", "d"), else_branch=branch("Neg", "t2")
    )
    functions = [
        helper.make_function("d", "G", ["a", "unused"], ["r"], [leaky], opsets[:1], attributes=["slope"]),
        helper.make_function(
            "d", "F", ["c", "b"], ["r", "b"],
            [choice], opsets,
        ),
    ]  # fmt: skip
    nodes = [
        helper.make_node("F", ["c", "x"], ["p", "same"], domain="d"),
        helper.make_node("G", ["p"], ["q"], domain="d", slope=0.3),
        helper.make_node("F", ["c", "q"], ["s"], domain="d"),
        helper.make_node("Add", ["s", "same"], ["y"]),
    ]
    inputs = [builders.value("x"), builders.value("c", [], TensorProto.BOOL)]
    proto = builders.model(nodes, inputs=inputs, functions=functions, domains=("d",))
    model = load(proto).fresh()
    InlineFunctions()(model)
    assert not model.functions
    feeds = {"x": np.array([[-1, 2, -3, 4]], np.float32)}
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def leaky_relu(v: np.ndarray, slope: float) -> np.ndarray:
        return np.where(v < 0, slope * v, v)

    for condition in (True, False):
        feeds["c"] = np.array(condition)
        f = (lambda v: leaky_relu(v, 0.01)) if condition else np.negative
        expected = f(leaky_relu(f(feeds["x"]), 0.3)) + feeds["x"]
        np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-6)


def test_fresh_models_share_no_names_or_nodes(tmp_path: Path):
    loaded = load(builders.linear())
    first = loaded.fresh()
    first.graph.initializers["w"].name = "renamed"
    first.graph[0].outputs[0].name = "other"
    second = loaded.fresh()
    assert list(second.graph.initializers) == ["w"]
    assert second.graph.initializers["w"].const_value.name == "w"
    assert second.graph.outputs[0].name == "y"
    np.testing.assert_array_equal(second.graph.initializers["w"].const_value.numpy(), np.ones((4, 4)))


def test_a_model_from_memory_is_copied(tmp_path: Path):
    proto = builders.linear()
    kept = copy.deepcopy(proto)
    loaded = load(proto)
    assert loaded.path is None
    assert proto == kept
    proto.graph.node[0].op_type = "Add"
    assert loaded.fresh().graph[0].op_type == "MatMul"
    again = load(loaded.fresh())
    assert again.fresh().graph[0].op_type == "MatMul"
    path, array = external(tmp_path)
    from_ir = load(load(path).fresh()).fresh()
    np.testing.assert_array_equal(from_ir.graph.initializers["w"].const_value.numpy(), array)
    with pytest.raises(ModelFileError, match="no folder"):
        load(onnx.load(path, load_external_data=False))


def codes(loaded: LoadedModel) -> set[str]:
    return {warning.code for warning in loaded.warnings}


def test_what_onnxruntime_runs_is_a_warning():
    unsorted = builders.model([helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])])
    assert codes(load(unsorted)) == {"unsorted", "onnx-checker"}
    custom = builders.model([helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")])
    assert codes(load(custom)) == {"opset-missing", "onnx-checker"}
    dynamic = builders.linear()
    dynamic.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    loaded = load(dynamic)
    assert "negative-dim" in codes(loaded)
    assert loaded.fresh().graph.inputs[0].shape[0] == ir.SymbolicDim(None)
    future = builders.linear()
    future.opset_import[0].version = 99
    future.ir_version = 99
    assert {"opset-new", "ir-version"} <= codes(load(future))


def test_initializers_that_are_inputs_too():
    proto = builders.linear()
    proto.graph.input.append(builders.value("w", [4, 4]))
    assert "w" in load(proto).fresh().graph.initializers


@pytest.mark.parametrize(
    "kind", [k for k in TensorProto.DataType.values() if k not in (0, TensorProto.STRING)]
)
def test_every_element_type_loads_as_raw_and_as_typed_data(kind: int):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    array = np.ones((3, 5)).astype(dtype)
    raw = numpy_helper.from_array(array, "w")
    assert raw.data_type == kind
    typed = helper.make_tensor("w", kind, [3, 5], np.ones(15).astype(dtype).tolist())
    for tensor in (raw, typed):
        proto = builders.model([helper.make_node("Identity", ["x"], ["y"])], [tensor])
        held = load(proto).fresh().graph.initializers["w"].const_value
        np.testing.assert_array_equal(held.numpy().astype(np.complex64), np.ones((3, 5)))


def test_string_tensors_and_empty_tensors_load():
    tensors = [
        helper.make_tensor("s", TensorProto.STRING, [2], [b"a", b"b"]),
        numpy_helper.from_array(np.zeros((0, 3), np.float32), "e"),
        TensorProto(name="n", dims=[0], data_type=TensorProto.FLOAT),
    ]
    load(builders.model([helper.make_node("Relu", ["x"], ["y"])], tensors)).fresh()


def test_limits_are_raised_by_the_caller(tmp_path: Path):
    path = sizes.forty_nested_ifs(tmp_path)
    with pytest.raises(LimitError, match="graph_depth"):
        load(path)
    path.write_bytes(sizes.nested_ifs(25))
    with pytest.raises(LimitError, match="graph_depth"):
        load(path)
    assert load(path, replace(Limits(), graph_depth=25)).fresh()


def test_loading_imports_no_torch():
    code = "import sys, intrain_onnx.loading.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_truncation_anywhere_is_an_error_of_ours():
    data = LIGHT[0].read_bytes()
    for end in range(0, len(data) - 1, 97):
        proto_or_error: object
        try:
            proto_or_error = load_bytes(data[:end])
        except ModelFileError as error:
            proto_or_error = error
        assert isinstance(proto_or_error, ModelFileError)


def load_bytes(data: bytes) -> LoadedModel:
    contents = Contents(data, len(data))
    return _load(contents, _parsed(contents, Limits()), None, None, Limits())


def test_flipped_bytes_never_escape_as_other_errors():
    """A few thousand mutants of two seeds: an error of ours, or a model that onnx_ir reads."""
    random = np.random.default_rng(0)
    seeds = [
        sizes.nested_ifs(3),
        functions.doubling(3).SerializeToString(),
        builders.linear().SerializeToString(),
    ]
    for _ in range(3000):
        data = bytearray(seeds[random.integers(len(seeds))])
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        try:
            load_bytes(bytes(data)).fresh()
        except IntrainError:
            continue


def test_functions_that_return_inputs_or_are_asked_for_less():
    relu, opsets = helper.make_node("Relu", ["a"], ["r"]), [helper.make_opsetid("", 17)]
    function = helper.make_function("d", "F", ["a", "b"], ["a", "r", "r", "b"], [relu], opsets)

    def expanded(nodes: list[onnx.NodeProto]) -> ir.Model:
        proto = builders.model(nodes, functions=[function], domains=("d",))
        model = load(proto).fresh()
        InlineFunctions()(model)
        onnx.checker.check_model(ir.to_proto(model))
        return model

    model = expanded([
        helper.make_node("F", ["x", "x"], ["", "", "t"], domain="d"),
        helper.make_node("F", ["t", "t"], ["y"], domain="d"),
    ])  # fmt: skip
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert [v.name for v in model.graph.outputs] == ["y"]
    with pytest.raises(UnsupportedError, match="leaves out"):
        expanded([helper.make_node("F", ["x"], ["y"], domain="d")])
