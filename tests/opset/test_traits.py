"""Every operator that has a handler has a row of traits, and the row agrees with ONNX's own definitions."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from intrain_onnx.opset import support, traits
from intrain_onnx.opset.kinds import EVERY_INPUT, Kind, Property
from intrain_onnx.opset.table import ROWS

HANDLED = sorted(
    ("" if domain == "ai.onnx" else domain, op_type)
    for domain, rows in support.table().items()
    for op_type in rows
)
DEFINED = [key for key in HANDLED if onnx.defs.has(key[1], key[0])]


def schema(key: tuple[str, str]) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(key[1], key[0])


def types(of: onnx.defs.OpSchema, parameter: onnx.defs.OpSchema.FormalParameter) -> set[str]:
    constraints = {c.type_param_str: set(c.allowed_type_strs) for c in of.type_constraints}
    return constraints.get(parameter.type_str, {parameter.type_str})


@pytest.mark.parametrize("key", HANDLED, ids="::".join)
def test_every_handled_operator_has_a_row(key: tuple[str, str]):
    assert key in ROWS


def test_every_row_is_of_a_handled_operator():
    assert sorted(ROWS) == HANDLED


@pytest.mark.parametrize("key", DEFINED, ids="::".join)
def test_parameters_are_stated_where_an_input_may_be_a_float(key: tuple[str, str]):
    of = schema(key)
    floats = [i for i, p in enumerate(of.inputs) if "tensor(float)" in types(of, p)]
    stated = ROWS[key].parameters
    assert stated is not None or not floats
    variadic = bool(of.inputs) and of.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    for index in stated or ():
        assert index in floats or variadic or ROWS[key].kind is Kind.QUANTISED, index


@pytest.mark.parametrize("key", DEFINED, ids="::".join)
def test_names_of_inputs_agree_with_roles(key: tuple[str, str]):
    """ONNX calls weights, biases and scales by their names: what it calls so must not be left out."""
    named = {"W": "weight", "B": "bias", "R": "weight", "scale": "scale", "Scale": "scale", "slope": "slope"}
    named |= {"weight": "weight", "bias": "bias"}
    if ROWS[key].kind in (Kind.QUANTISED, Kind.ELEMENTWISE, Kind.PRODUCT, Kind.LOSS):
        return  # there, B is an operand, scale a step of quantisation, and weight a class's
    for index, parameter in enumerate(schema(key).inputs):
        if parameter.name in named:
            assert (ROWS[key].parameters or {}).get(index) == named[parameter.name], parameter.name


@pytest.mark.parametrize("key", DEFINED, ids="::".join)
def test_data_inputs_exist(key: tuple[str, str]):
    count = len(schema(key).inputs)
    assert all(i == EVERY_INPUT or i < count for i in ROWS[key].elements_of)
    assert all(i < len(schema(key).outputs) for i in ROWS[key].no_gradient_outputs)


@pytest.mark.parametrize("key", DEFINED, ids="::".join)
def test_an_operator_that_gives_no_floats_has_no_gradient(key: tuple[str, str]):
    of, row = schema(key), ROWS[key]
    gives = set().union(*(types(of, p) for p in of.outputs[:1]))
    floats = {t for t in gives if "float" in t or "double" in t}
    silent = row.has(Property.NO_GRADIENT) or row.has(Property.ON_INTEGERS) or row.has(Property.SHAPE_ONLY)
    silent = silent or 0 in row.no_gradient_outputs
    exempt = (Kind.GENERATOR, Kind.RANDOM, Kind.SEQUENCE, Kind.CONTROL, Kind.ELEMENTWISE, Kind.OTHER)
    assert floats or silent or row.kind in exempt, gives


@pytest.mark.parametrize("key", DEFINED, ids="::".join)
def test_subgraphs_make_a_control_operator(key: tuple[str, str]):
    holds = any(a.type == onnx.defs.OpSchema.AttrType.GRAPH for a in schema(key).attributes.values())
    assert holds == (ROWS[key].kind is Kind.CONTROL) or key == ("ai.onnx.preview", "FlexAttention")


def ungated(key: tuple[str, str]) -> bool:
    """Whether an operator of ONNX's takes one float tensor and needs no attribute."""
    of = schema(key)
    needed = [p for p in of.inputs if p.option == onnx.defs.OpSchema.FormalParameterOption.Single]
    settled = not any(a.required for a in of.attributes.values())
    return not key[0] and len(needed) == 1 and settled and "tensor(float)" in types(of, needed[0])


UNARY = [key for key in DEFINED if ungated(key) and ROWS[key].kind in (Kind.ACTIVATION, Kind.ELEMENTWISE)]


def run(key: tuple[str, str], x: np.ndarray) -> np.ndarray:
    node = onnx.helper.make_node(key[1], ["x"], ["y"])
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [onnx.ValueInfoProto(name="y")],
    )
    with np.errstate(all="ignore"):
        return np.asarray(ReferenceEvaluator(onnx.helper.make_model(graph)).run(None, {"x": x})[0])


@pytest.mark.parametrize("key", UNARY, ids="::".join)
def test_properties_hold_by_the_reference_implementation(key: tuple[str, str]):
    row, x = ROWS[key], np.random.default_rng(0).uniform(-2, 2, (2, 3, 4)).astype(np.float32)
    y = run(key, x)
    if row.has(Property.NEVER_NEGATIVE):
        assert np.nanmin(y) >= 0
    if row.has(Property.KEEPS_SIGN):
        assert np.nanmin(run(key, abs(x))) >= 0
    if row.has(Property.KEEPS_LENGTH):
        assert y.shape[-1] == x.shape[-1]
    if row.has(Property.KEEPS_CHANNELS):
        x[:, 1] += 1.0
        assert np.array_equal(run(key, x)[:, [0, 2]], y[:, [0, 2]], equal_nan=True)


def test_an_operator_without_a_row_claims_nothing():
    node = ir.Node("my.domain", "Conv", [None, None])
    assert traits.traits(node) is traits.UNKNOWN
    assert traits.trainable_inputs(node) == []
    assert traits.traits(ir.Node("ai.onnx", "Conv", [None, None])) is ROWS["", "Conv"]
