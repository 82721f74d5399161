"""The walk over a graph's nodes, against that of onnx_ir."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from intrain_onnx.network.subgraphs import every_node

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("samples/*.onnx"), *ROOT.glob("tests/forms/*.onnx")])


def nested() -> onnx.ModelProto:
    """A branch in a branch, whose operators are nobody's, and one node with a list of graphs."""

    def body(name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
        last = onnx.helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, [2])
        return onnx.helper.make_graph(nodes, name, [], [last])

    node = onnx.helper.make_node
    inner = body("inner", node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["b"]))
    outer = body("outer", node("Branch", ["c"], ["d"], domain="own", body=inner), node("Neg", ["d"], ["e"]))
    nodes = [
        node("Magic", ["x"], ["f"], body=outer, axis=1),
        node("Cases", ["f"], ["g"], domain="own", cases=[inner, outer]),
        node("Relu", ["g"], ["y"]),
    ]
    value = onnx.helper.make_tensor_value_info
    inputs = [value("x", onnx.TensorProto.FLOAT, [2]), value("c", onnx.TensorProto.BOOL, [])]
    outputs = [value("y", onnx.TensorProto.FLOAT, [2])]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", inputs, outputs))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_node_of_a_file_comes_in_the_same_order(path: Path) -> None:
    graph = ir.load(path).graph
    assert list(every_node(graph)) == list(graph.all_nodes())


def test_nodes_of_subgraphs_come_after_the_node_that_holds_them() -> None:
    graph = ir.from_proto(nested()).graph
    found = list(every_node(graph))
    assert found == list(graph.all_nodes())
    assert [n.op_type for n in found[:6]] == ["Magic", "Branch", "Relu", "Relu", "Neg", "Cases"]
    assert len(found) == 13
