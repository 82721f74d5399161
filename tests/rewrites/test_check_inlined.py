"""What a call of a function gives its operators is checked once it is expanded."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import ModelFileError
from intrain_onnx.inspection import inspect
from intrain_onnx.loading.load import load


def calling(**attributes: object) -> onnx.ModelProto:
    """A function with a convolution whose strides are a parameter, called with some."""
    conv = helper.make_node("Conv", ["p", "q"], ["r"])
    conv.attribute.add(name="strides", ref_attr_name="steps", type=onnx.AttributeProto.INTS)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    function = helper.make_function("com.acme", "Filter", ["p", "q"], ["r"], [conv], opsets[:1], ["steps"])
    node = helper.make_node("Filter", ["x", "w"], ["y"], name="call", domain="com.acme", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((6, 4, 3, 3), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


@pytest.mark.parametrize("given", [{"steps": [2, 2]}, {}])
def test_a_call_that_fits(given: dict[str, object]):
    assert len(inspect(calling(**given)).data["layers"]) == 1


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("two", "'strides' has the type STRING, and the operator takes INTS"),
        ([2], "axes differ (strides: 1, weight: 2)"),
        ([0, 2], "'strides' is [0, 2]: the least is 1"),
    ],
)
def test_a_call_that_does_not(steps: object, says: str):
    proto = calling(steps=steps)
    assert load(proto)
    with pytest.raises(ModelFileError) as caught:
        inspect(proto)
    assert says in str(caught.value)
    assert caught.value.op == "Conv"


def test_an_input_that_the_call_leaves_out():
    proto = calling()
    del proto.graph.node[0].input[1]
    with pytest.raises(ModelFileError, match=r"and the operator (needs it|has at least 2)"):
        inspect(proto)
