"""The normal form of a graph: the order of the rewrites that every protocol shares."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx.network.marks import DECLARED
from intrain_onnx.rewrites.expand_operators import expand_fused, expand_missing
from intrain_onnx.rewrites.fold_weights import fold_weights
from intrain_onnx.rewrites.inline_functions import InlineFunctions
from intrain_onnx.rewrites.lift_constants import lift_constants
from intrain_onnx.rewrites.remove_dropout import remove_dropout
from intrain_onnx.rewrites.unroll import capture_unchanging, unroll


def normalise(model: ir.Model, *, unrolled: bool = True) -> int:
    """Bring a model to the form that the graph pass and the converter take.

    Layers that a Scan or Loop has one of in each round are written out (see ``unroll``) unless told
    otherwise: their weights are then slices of the file's initializers.

    Ensures: no model-local functions, no operator that is fused or lacks a handler but has a body (see
    ``expand_operators``), Constant nodes only where a graph output needs one, every initializer is in the
    main graph and none among the inputs, no two values of different subgraphs share a name, nodes are in
    topological order.

    Returns:
        The number of nodes that only made constants.

    Raises:
        ValueError: the graph has a cycle.
        LimitError: a constant is too large to be made.
    """
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.meta[DECLARED] = value.shape.copy() if value.shape is not None else None
    InlineFunctions()(model)
    expand_fused(model)
    expand_missing(model)
    remove_dropout(model)
    before = sum(1 for _ in model.graph.all_nodes())
    lift_constants(model)
    common.TopologicalSortPass()(model)
    lifted = before - sum(1 for _ in model.graph.all_nodes())
    capture_unchanging(model)
    if unrolled:
        unroll(model)
    return lifted + fold_weights(model)
