"""The lowest opset and IR version of a file: what is written with one less is another file, or none."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from builders import model
from onnx import TensorProto, helper

from intrain_onnx.loading.load import load
from intrain_onnx.network.values import name_of
from intrain_onnx.opset import least_versions
from intrain_onnx.opset.schemas import versions_of


def needs(proto: onnx.ModelProto) -> dict[str, least_versions.Use | None]:
    return least_versions.needing_most(least_versions.uses(ir.from_proto(proto), name_of))


def least_ir(proto: onnx.ModelProto) -> int:
    return least_versions.features(ir.from_proto(proto), name_of)[0].version


def single(op: str, opset: int, domain: str = "", **attributes: object) -> onnx.ModelProto:
    node = helper.make_node(op, ["x"], ["y"], name="one", domain=domain, **attributes)
    float_type = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    graph = helper.make_graph([node], "g", float_type[:1], float_type[1:])
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


@pytest.mark.parametrize("op", ["Relu", "Gelu", "Softmax", "Swish", "Mish", "Elu", "LeakyRelu"])
def test_the_least_opset_has_the_schema_and_the_one_before_has_not(op: str):
    """onnx itself says what an opset has."""
    for opset in range(max(7, versions_of("", op)[0]), onnx.defs.onnx_opset_version() + 1):
        use = needs(single(op, opset))[""]
        assert use is not None
        assert use.version is not None
        own = onnx.defs.get_schema(op, opset)
        assert onnx.defs.get_schema(op, use.version).since_version == own.since_version
        try:
            before = onnx.defs.get_schema(op, use.version - 1).since_version
        except onnx.defs.SchemaError:
            continue
        assert before < own.since_version


def test_the_node_that_needs_most_is_named():
    proto = model(
        "(float[2] x) => (float[2] y) { a = Relu(x) b = Gelu(a) c = Gelu(b) y = Relu(c) }", opset=21
    )
    uses = least_versions.uses(ir.from_proto(proto), name_of)
    assert [(u.op, u.version, u.nodes) for u in uses] == [("Relu", 14, 2), ("Gelu", 20, 2)]
    most = needs(proto)[""]
    assert most is not None
    assert (most.op, most.node, most.imported) == ("Gelu", "b", 21)


def test_nodes_in_functions_and_branches_count():
    inner = helper.make_function("own", "f", ["x"], ["y"], [helper.make_node("Gelu", ["x"], ["y"])],
                                 [helper.make_opsetid("", 22)])  # fmt: skip
    proto = single("f", 21, "own")
    proto.functions.append(inner)
    found = needs(proto)
    assert list(found) == [""]  # the call itself needs what its body needs
    assert found[""] is not None
    assert (found[""].version, found[""].imported) == (20, 22)
    branches = model(
        """(float[2] x, bool c) => (float[2] y) { y = If(c) <
        then_branch = th () => (float[2] p) { p = Gelu(x) },
        else_branch = el () => (float[2] q) { q = Relu(x) }> }""",
        opset=21,
    )
    uses = least_versions.uses(ir.from_proto(branches), name_of)
    assert {"Gelu", "Relu"} < {u.op for u in uses}


def test_what_no_schema_is_known_of_is_not_guessed():
    assert needs(single("Magic", 17, "com.acme")) == {"com.acme": None}
    known = needs(single("QuickGelu", 17, "com.microsoft"))["com.microsoft"]
    assert known is not None
    assert known.version == 1


@pytest.mark.parametrize(("kind", "version"), [
    ("FLOAT", 3), ("FLOAT16", 3), ("BFLOAT16", 4), ("FLOAT8E4M3FN", 9), ("INT4", 10), ("UINT4", 10),
    ("FLOAT4E2M1", 11), ("FLOAT8E8M0", 12), ("INT2", 13),
])  # fmt: skip
def test_element_types(kind: str, version: int):
    assert least_ir(single("Cast", 25, to=TensorProto.DataType.Value(kind))) == version


def test_every_element_type_of_onnx_has_its_version():
    """What onnx adds to the enumeration must be looked up in its history, and not taken for old."""
    old = {"UNDEFINED", "FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL",
           "FLOAT16", "DOUBLE", "UINT32", "UINT64", "COMPLEX64", "COMPLEX128"}  # fmt: skip
    assert {*least_versions._ELEMENT_TYPES, *old} == {*TensorProto.DataType.keys()}


def test_features_of_the_format():
    proto = single("Relu", 17)
    assert least_ir(proto) == 3
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0]))
    assert least_ir(proto) == 4
    proto.graph.quantization_annotation.add(tensor_name="x").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w"
    )
    assert least_ir(proto) == 5
    body = [helper.make_node("Relu", ["x"], ["y"])]
    proto.functions.append(
        helper.make_function("own", "f", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    )
    assert least_ir(proto) == 8
    proto.functions[0].attribute_proto.append(helper.make_attribute("a", 1.0))
    assert least_ir(proto) == 9
    proto.functions[0].overload = "other"
    assert least_ir(proto) == 10
    assert [f.version for f in least_versions.features(load(proto).fresh(), name_of)] == [10, 9, 8, 5, 4, 3]


def test_properties_of_nodes_do_not_count():
    proto = single("Relu", 17)
    proto.graph.node[0].metadata_props.add(key="k", value="v")
    assert least_ir(proto) == 3
