"""Constants as initializers of the main graph, under names that no two values share."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx.network.marks import LITERAL
from intrain_onnx.opset.traits import is_op


def lift_constants(model: ir.Model) -> None:
    """Make Constant nodes initializers, move all initializers to the main graph, and rename twins, in place.

    A Constant that is a graph output stays. Initializers that are graph inputs too lose that: their value is
    the file's.
    """
    for node in model.graph.all_nodes():
        if is_op(node, "Constant"):
            node.outputs[0].meta[LITERAL] = True
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for graph in model.graphs():
        for value in graph.initializers.values():
            _name_literal(value)
    common.LiftSubgraphInitializersToMainGraphPass()(model)
    common.RemoveInitializersFromInputsPass()(model)
    _rename_twins(model)


def _name_literal(value: ir.Value) -> None:
    """Tensors of Constant nodes have no name, and onnx drops initializers without one."""
    tensor = value.const_value
    if LITERAL in value.meta and tensor is not None and tensor.dtype != ir.DataType.STRING:
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)


def _rename_twins(model: ir.Model) -> None:
    """Give values of sibling subgraphs names of their own: ONNX lets both branches of an If use the same."""
    main = model.graph
    taken = {*main.initializers, *(v.name for v in main.inputs), *(v.name for n in main for v in n.outputs)}
    numbers: Counter[str] = Counter()
    for graph in model.graphs():
        made = () if graph is main else (*graph.inputs, *(v for node in graph for v in node.outputs))
        for value in made:
            name = value.name
            while name and value.name in taken:
                numbers[name] += 1
                value.name = f"{name}_{numbers[name]}"
            taken.add(value.name)
