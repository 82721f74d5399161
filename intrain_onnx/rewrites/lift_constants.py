"""Constant nodes and initializers of subgraphs, lifted to uniquely named initializers of the main graph."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx.network.marks import LITERAL
from intrain_onnx.network.subgraphs import every_graph, every_node
from intrain_onnx.opset.traits import is_op


def lift_constants(model: ir.Model) -> None:
    """Turn Constant nodes into initializers of the main graph, with unique value names, in place.

    Initializers of subgraphs are moved there, too. A Constant that is a graph output stays. Initializers
    that are also graph inputs are removed from the inputs: they keep the file's value.
    """
    literals = [node.outputs[0] for node in every_node(model.graph) if is_op(node, "Constant")]
    for value in literals:
        value.meta[LITERAL] = True
    if literals:
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    graphs = list(every_graph(model.graph))
    for graph in graphs if literals else ():
        for value in graph.initializers.values():
            _name_literal(value)
    if len(graphs) > 1:
        common.LiftSubgraphInitializersToMainGraphPass()(model)
    if any(value.is_initializer() for graph in graphs for value in graph.inputs):
        common.RemoveInitializersFromInputsPass()(model)
    if len(graphs) > 1:
        _rename_twins(model)


def _name_literal(value: ir.Value) -> None:
    """Name the tensor of a lifted Constant: it has no name, and onnx drops initializers without one."""
    tensor = value.const_value
    if LITERAL in value.meta and tensor is not None and tensor.dtype != ir.DataType.STRING:
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)


def _rename_twins(model: ir.Model) -> None:
    """Rename values so that no two subgraphs share a name: ONNX lets both branches of an If use the same."""
    main = model.graph
    taken = {*main.initializers, *(v.name for v in main.inputs), *(v.name for n in main for v in n.outputs)}
    numbers: Counter[str] = Counter()
    for graph in every_graph(main):
        made = () if graph is main else (*graph.inputs, *(v for node in graph for v in node.outputs))
        for value in made:
            name = value.name
            while name and value.name in taken:
                numbers[name] += 1
                value.name = f"{name}_{numbers[name]}"
            taken.add(value.name)
