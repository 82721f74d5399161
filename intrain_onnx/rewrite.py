"""Graph rewrites that come before conversion. Each changes the model it is given, in place."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

LITERAL = "intrain_onnx.literal"
"""Key in ``Value.meta`` of an initializer that was a Constant node in the file."""


def normalise(model: ir.Model) -> None:
    """Bring a model to the form that the graph pass and the converter take.

    Ensures: no model-local functions, Constant nodes only where a graph output needs one, every initializer
    in the main graph and none among the inputs, nodes in topological order, each node named.

    Raises:
        ValueError: the graph has a cycle.
    """
    common.InlinePass()(model)
    for node in model.graph.all_nodes():
        if node.op_type == "Constant":
            node.outputs[0].meta[LITERAL] = True
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.LiftSubgraphInitializersToMainGraphPass()(model)
    common.RemoveInitializersFromInputsPass()(model)
    common.TopologicalSortPass()(model)
