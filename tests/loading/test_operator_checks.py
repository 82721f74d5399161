"""Nodes against their operators' definitions: what is refused here onnxruntime refuses too."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import pytest
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import ModelFileError
from intrain_onnx.inspection import inspect
from intrain_onnx.loading.load import load
from intrain_onnx.parity.onnxruntime_process import NoReferenceError, run_reference

INPUTS = {
    "x": np.ones((1, 4, 8, 8), np.float32),
    "m": np.ones((2, 4), np.float32),
    "s": np.ones((3, 1, 4), np.float32),
}
WEIGHTS = {
    "w": np.ones((6, 4, 3, 3), np.float32),
    "w1": np.ones((6, 4, 3), np.float32),
    "bias": np.ones(6, np.float32),
    "short": np.ones(5, np.float32),
    "four": np.ones(4, np.float32),
    "five": np.ones(5, np.float32),
    "v": np.ones((4, 5), np.float32),
    "v3": np.ones((1, 4, 5), np.float32),
    "whole": np.ones((4, 5), np.int32),
    "double": np.ones((4, 5), np.float64),
    "lw": np.ones((1, 20, 4), np.float32),
    "lr": np.ones((1, 20, 5), np.float32),
    "lr4": np.ones((1, 20, 4), np.float32),
    "lflat": np.ones((20, 4), np.float32),
    "lb": np.ones((1, 40), np.float32),
    "list": np.array([4, 2], np.int64),
    "table": np.array([[4, 2]], np.int64),
    "yes": np.array(True),
}


def made(body: str, opset: int = 17, domains: str = "") -> onnx.ModelProto:
    """A graph of the inputs and the weights that the text names, and the output y."""
    nodes = onnx.parser.parse_graph(f"g () => () {{ {body} }}").node
    named = set(re.findall(r"\w+", body))
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in INPUTS.items()
        if n in named
    ]
    weights = [numpy_helper.from_array(a, n) for n, a in WEIGHTS.items() if n in named]
    graph = helper.make_graph(nodes, "g", inputs, [onnx.ValueInfoProto(name="y")], weights)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains.split())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def onnxruntime_takes(proto: onnx.ModelProto) -> bool:
    """Whether onnxruntime loads it and runs it on ones, in a process of its own: it aborts on some."""
    try:
        run_reference(proto.SerializeToString(), INPUTS, cuda=False, threads=1, timeout=60)
    except NoReferenceError:
        return False
    return True


REFUSED = {
    "attribute of another type": ('y = Conv<strides = "ab">(x, w)', "'strides' has the type STRING"),
    "number instead of numbers": ("y = Conv<kernel_shape = 3>(x, w)", "'kernel_shape' has the type INT,"),
    "attribute of another operator": ("y = Relu<axis = 1>(x)", "no attribute 'axis' in version 14"),
    "attribute of another version": ("y = Squeeze<axes = [0]>(x)", "no attribute 'axes' in version 13"),
    "no required attribute": ("y = Concat(x, x)", "'axis' is missing"),
    "too few inputs": ("y = Conv(x)", "1 input, and the operator has at least 2"),
    "too many inputs": ("y = Relu(x, x)", "2 inputs, and the operator has at most 1"),
    "too many outputs": ("y, z = Relu(x)", "2 outputs, and the operator has at most 1"),
    "a needed input left out": ('y = MatMul("", v)', "input 0 (A) is left out"),
    "element type that is not taken": ('y = Conv(x, whole)', "input 1 (W) is a tensor of INT32, which"),
    "element types that differ": ("y = MatMul(m, double)", "of DOUBLE, and another one"),
    "made of another type": ("c = Cast<to = 7>(m)\n y = MatMul(c, v)", "of FLOAT, and another one"),
    "a sequence for a tensor": ("q = SequenceConstruct(m, m)\n y = MatMul(q, v)", "input 0 (A) is no tensor"),
    "a tensor for a sequence": ("y = SequenceLength(m)", "input 0 (input_sequence) is a tensor of FLOAT"),
    "stride of 0": ("y = Conv<strides = [0, 1]>(x, w)", "'strides' is [0, 1]: the least is 1"),
    "group of 0": ("y = Conv<group = 0>(x, w)", "'group' is 0: the least is 1"),
    "groups that do not divide": ("y = Conv<group = 4>(x, w)", "4 groups cannot share the 6 outputs"),
    "pads of another length": ("y = Conv<pads = [1, 1]>(x, w)", "axes differ (pads: 1, input: 2"),
    "window of another rank": ("y = MaxPool<kernel_shape = [2]>(x)", "spatial axes differ"),
    "weight of another rank": ("y = Conv(x, w1)", "spatial axes differ (input: 2, weight: 1)"),
    "unlike the weight": ("y = Conv<kernel_shape = [2, 2]>(x, w)", "[2, 2], and the weight's is [3, 3]"),
    "bias of another length": ("y = Conv(x, w, short)", "the bias has 5 elements, and the weight makes 6"),
    "convolution with a matrix": ("y = Conv(x, v)", "input 1 has 2 axes, and the operator takes at least 3"),
    "Gemm of three axes": ("y = Gemm(m, v3)", "input 1 has 3 axes, and the operator takes 2"),
    "vectors of two lengths": ("y = BatchNormalization(x, four, four, four, five)", "4 and 5 elements"),
    "no permutation": ("y = Transpose<perm = [0, 0, 1, 2]>(x)", "no permutation of the 4 axes"),
    "short permutation": ("y = Transpose<perm = [1, 0]>(x)", "no permutation of the 4 axes"),
    "unknown padding": ('y = Conv<auto_pad = "MAYBE">(x, w)', "'auto_pad' is 'MAYBE': it is one of NOTSET"),
    "unknown direction": ('y, z = LSTM<hidden_size = 5, direction = "up">(s, lw, lr)', "'direction' is 'up'"),
    "axis out of range": ("y = Concat<axis = 4>(x, x)", "'axis' is 4, and the input has 4 axes"),
    "element type that does not exist": ("y = Cast<to = 99>(x)", "the element type 99 does not exist"),
    "recurrent weight of two axes": ("y, z = LSTM<hidden_size = 5>(s, lflat, lr)", "input 1 has 2 axes"),
    "hidden size unlike the weight": ("y, z = LSTM<hidden_size = 5>(s, lw, lr4)", "has the shape [1, 20, 4]"),
    "sizes that are no list": ("y = Reshape(m, table)", "input 1 has 2 axes, and is a list of numbers"),
    "constant of nothing": ("y = Constant()", "and this one 0"),
    "branches of two outputs": (
        "y = If(yes) <then_branch = t () => (a, b) { a = Identity(m)\n b = Identity(m) }, "
        "else_branch = e () => (c) { c = Identity(m) }>",
        "'then_branch' has 0 inputs and 2 outputs, and the node calls for 0 and 1",
    ),
    "a body that takes too little": (
        'y, k = Loop("", yes, m) <body = b (int64 n) => (bool c, float[2,4] d, float[2,4] e) '
        "{ c = Identity(yes)\n d = Identity(m)\n e = Identity(m) }>",
        "'body' has 1 inputs and 3 outputs, and the node calls for 3 and 3",
    ),
    "operator of a later opset": ("y = Gelu(x)", "not in opset 17, which the file imports, but from 20 on"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_the_definition_is_refused(name: str):
    body, says = REFUSED[name]
    proto = made(body)
    assert not onnxruntime_takes(proto)
    with pytest.raises(ModelFileError) as caught:
        load(proto)
    assert says in str(caught.value)
    assert "(at " in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert caught.value.hint


TAKEN = {
    "inputs left out at the end": ('y = Conv(x, w, "")', 17),
    "an optional input left out": ('y = Clip(x, "", four0)', 17),
    "an output left out": ('"", y = LSTM<hidden_size = 5>(s, lw, lr, lb)', 17),
    "an attribute of an old opset": ("y = Squeeze<axes = [0]>(x)", 11),
    "a negative axis": ("y = Concat<axis = -4>(x, x)", 17),
    "an axis past the end of an old Softmax": ("y = Softmax<axis = -4>(x)", 11),
    "an operator of onnxruntime": ("y = com.microsoft.FusedConv<activation = \"Relu\">(x, w, bias)", 17),
    "flags that are neither 0 nor 1": ("y = Gemm<transA = 2>(v4, v)", 17),
}  # fmt: skip
WEIGHTS |= {"four0": np.array(4.0, np.float32), "v4": np.ones((4, 2), np.float32)}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_odd_and_valid_is_taken(name: str):
    body, opset = TAKEN[name]
    proto = made(body, opset, "com.microsoft")
    assert onnxruntime_takes(proto)
    assert load(proto).fresh()


def test_an_empty_list_is_not_what_is_left_out():
    proto = made("y = Conv<strides = [1]>(x, w)")
    proto.graph.node[0].attribute[0].ClearField("ints")
    assert not onnxruntime_takes(proto)
    with pytest.raises(ModelFileError, match="spatial axes differ"):
        load(proto)


def test_a_constant_has_one_value():
    """onnxruntime takes the first; the specification says there is one."""
    proto = made("y = Constant<value_int = 1, value_float = 2.0>()")
    with pytest.raises(onnx.shape_inference.InferenceError, match="One and only one"):
        onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    with pytest.raises(ModelFileError, match="has one value, and this one 2"):
        load(proto)


def test_an_operator_without_a_schema_is_taken():
    """Whatever attributes and operands it has: it may have a handler in another package."""
    assert load(made('y = com.acme.Magic<axis = "x", to = [1]>(x, x, w)', domains="com.acme"))
    assert load(made("y = com.microsoft.NewerThanKnown<axis = 1>(x)", domains="com.microsoft"))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda a: setattr(a, "i", 3), "of type INTS holds a value of another type (i)"),
        (lambda a: a.floats.append(1.0), "of type INTS holds a value of another type (floats)"),
        (lambda a: a.CopyFrom(onnx.AttributeProto(name="sizes", type=11)), "SPARSE_TENSOR, and holds none"),
        (lambda a: setattr(a, "type", onnx.AttributeProto.INT), "INT holds a value of another type (ints)"),
    ],
)  # fmt: skip
def test_an_attribute_holds_what_its_type_says(edit: Callable[[onnx.AttributeProto], None], says: str):
    """Of operators without a schema, too."""
    proto = made("y = com.acme.Magic<sizes = [1, 2]>(x)", domains="com.acme")
    edit(proto.graph.node[0].attribute[0])
    with pytest.raises(ModelFileError) as caught:
        load(onnx.ModelProto.FromString(proto.SerializeToString()))
    assert says in str(caught.value)


def test_text_is_text():
    proto = made('y = Conv<auto_pad = "VALID">(x, w)')
    proto.graph.node[0].attribute[0].s = b"\xff\xfe"
    assert not onnxruntime_takes(proto)
    with pytest.raises(ModelFileError, match="'auto_pad' is not UTF-8 text"):
        load(proto)


def test_inputs_left_out_at_the_end_are_as_none():
    """Of an operator that the static pass evaluates from the shape alone."""
    proto = made('n = Shape(x, "")\n y = Reshape(x, n)')
    assert inspect(proto).data["warnings"] is not None


def test_a_node_makes_something():
    proto = made("y = Relu(x)")
    proto.graph.node.append(helper.make_node("Relu", ["x"], []))
    with pytest.raises(ModelFileError, match="without outputs"):
        load(proto)


@pytest.mark.parametrize("where", ["output", "value_info"])
def test_what_is_declared_is_what_is_made(where: str):
    proto = made("h = Relu(m)\n y = MatMul(h, v)")
    if where == "output":
        proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, None))
    else:
        proto.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.INT64, None))
    assert not onnxruntime_takes(proto)
    with pytest.raises(
        ModelFileError, match="declared as a tensor of INT64, and the operator makes a tensor of FLOAT"
    ):
        load(proto)


@pytest.mark.parametrize("version", [0, -1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("domain", ["", "com.acme"])
def test_opsets_that_cannot_be(version: int, domain: str):
    proto = made("y = Relu(x)")
    proto.opset_import.append(helper.make_opsetid("com.acme", 1))
    for opset in proto.opset_import:
        if opset.domain == domain:
            opset.version = version
    with pytest.raises(ModelFileError, match=f"opset {version} of .* does not exist"):
        load(proto)


def test_what_stands_in_a_subgraph_or_a_function_is_checked():
    inside = (
        "y = If(yes) <then_branch = t () => (a) { a = Conv<strides = [0, 1]>(x, w) }, "
        "else_branch = e () => (c) { c = Conv(x, w) }>"
    )
    with pytest.raises(ModelFileError, match=r"'strides' is \[0, 1\]"):
        load(made(inside))
    function = helper.make_function(
        "com.acme",
        "Twice",
        ["p"],
        ["r"],
        [helper.make_node("Relu", ["p", "p"], ["r"])],
        [helper.make_opsetid("", 17)],
    )
    proto = made("y = com.acme.Twice(x)", domains="com.acme")
    proto.functions.append(function)
    with pytest.raises(ModelFileError, match="at most 1"):
        load(proto)


def test_it_is_linear():
    """A value that is read from deep inside costs no more than one look at each graph around it."""
    body = "\n".join(f"h{i} = Conv<pads = [1, 1, 1, 1], strides = [1, 1]>(x, w)" for i in range(2000))
    few, many = made(f"{body[: body.index('h200 ')]}y = Relu(x)"), made(f"{body}\ny = Relu(x)")

    def seconds(proto: onnx.ModelProto) -> float:
        took = []
        for _ in range(3):
            began = time.process_time()
            load(proto)
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(many) < 30 * seconds(few) + 0.1


def test_an_input_has_an_element_type_and_other_values_need_none():
    proto = made("h = Relu(m)\n y = MatMul(h, v)")
    proto.graph.value_info.add(name="h").type.tensor_type.shape.dim.add(dim_value=2)
    assert load(proto).fresh()
    proto.graph.input[0].type.tensor_type.elem_type = 0
    assert not onnxruntime_takes(proto)
    with pytest.raises(ModelFileError, match="the input 'm' has no element type"):
        load(proto)


def test_a_split_has_as_many_outputs_as_it_says():
    """onnx's shape inference reads past the end of a vector for some."""
    proto = made("y, a, b = Split<axis = 1, num_outputs = 2>(m)", 18)
    assert not onnxruntime_takes(proto)
    with pytest.raises(ModelFileError, match="'num_outputs' is 2, and there are 3 outputs"):
        load(proto)
