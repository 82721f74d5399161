"""Graphs that are none: names made twice or never, cycles, attributes of nothing."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from intrain_onnx.errors import ModelFileError, UnsupportedError

from .builders import linear, model, value, weights, write
from .cases import refused


@refused(ModelFileError, "the name 'w' is defined twice")
def initializer_twice(folder: Path) -> Path:
    return write(folder, model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weights(), weights()]))


@refused(ModelFileError, "the name 'y' is defined twice")
def output_twice(folder: Path) -> Path:
    return write(
        folder, model([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])])
    )


@refused(ModelFileError, "the name 'x' is defined twice")
def input_twice(folder: Path) -> Path:
    return write(folder, model([helper.make_node("Relu", ["x"], ["y"])], inputs=[value("x"), value("x")]))


@refused(ModelFileError, "the name 'a' is defined twice, in a subgraph")
def subgraph_redefines(folder: Path) -> Path:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "b", [], [value("a")])
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    return write(folder, model(nodes, inputs=[value("x"), value("c", [], TensorProto.BOOL)]))


@refused(ModelFileError, "a cycle of 2 nodes: 'one', 'two'")
def a_cycle(folder: Path) -> Path:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
        helper.make_node("Neg", ["b"], ["y"], name="after"),
    ]
    return write(folder, model(nodes))


@refused(ModelFileError, "a cycle of 1 nodes: 'own'")
def a_cycle_through_a_subgraph(folder: Path) -> Path:
    branch = helper.make_graph([helper.make_node("Neg", ["y"], ["b"])], "b", [], [value("b")])
    nodes = [helper.make_node("If", ["c"], ["y"], name="own", then_branch=branch, else_branch=branch)]
    return write(folder, model(nodes, inputs=[value("x"), value("c", [], TensorProto.BOOL)]))


@refused(ModelFileError, "the input 'nowhere' is never made (at Add node 'adder')")
def dangling_input(folder: Path) -> Path:
    return write(folder, model([helper.make_node("Add", ["x", "nowhere"], ["y"], name="adder")]))


@refused(ModelFileError, "the graph output 'y' is never made")
def dangling_output(folder: Path) -> Path:
    return write(folder, model([helper.make_node("Relu", ["x"], ["z"])]))


@refused(ModelFileError, "is a value of the graph around it")
def subgraph_returns_outer(folder: Path) -> Path:
    branch = helper.make_graph([], "b", [], [value("x")])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    return write(folder, model(nodes, inputs=[value("x"), value("c", [], TensorProto.BOOL)]))


@refused(ModelFileError, "without an operator")
def no_operator(folder: Path) -> Path:
    return write(folder, model([helper.make_node("", ["x"], ["y"])]))


@refused(ModelFileError, "no opset is imported")
def no_opset(folder: Path) -> Path:
    proto = linear()
    del proto.opset_import[:]
    return write(folder, proto)


@refused(ModelFileError, "refers to the unknown 'nothing'")
def attribute_refers_to_nothing(folder: Path) -> Path:
    proto = linear()
    proto.graph.node[0].attribute.add(name="a", type=onnx.AttributeProto.INT, ref_attr_name="nothing")
    return write(folder, proto)


@refused(ModelFileError, "holds nothing of its type")
def constant_of_nothing(folder: Path) -> Path:
    proto = model([helper.make_node("Constant", [], ["y"])])
    proto.graph.node[0].attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    return write(folder, proto)


@refused(UnsupportedError, "'y' is a map")
def zip_map(folder: Path) -> Path:
    proto = linear()
    proto.graph.output[0].type.Clear()
    proto.graph.output[0].type.map_type.key_type = TensorProto.INT64
    return write(folder, proto)
