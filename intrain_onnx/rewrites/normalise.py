"""Normalisation of a graph: the rewrites that all protocols share, in order."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx import memory
from intrain_onnx.network.marks import DECLARED
from intrain_onnx.network.subgraphs import every_graph, every_node
from intrain_onnx.rewrites.check_inlined import check_inlined
from intrain_onnx.rewrites.expand_operators import expand_fused, expand_missing
from intrain_onnx.rewrites.fold_weights import fold_weights
from intrain_onnx.rewrites.inline_functions import InlineFunctions
from intrain_onnx.rewrites.lift_constants import lift_constants
from intrain_onnx.rewrites.remove_dropout import remove_dropout
from intrain_onnx.rewrites.unroll import capture_unchanging, unroll


def _drop_omitted(model: ir.Model) -> None:
    """Drop inputs that are left out at the end, so that a node has as many as it needs."""
    for node in every_node(model.graph):
        count = len(node.inputs)
        while count and node.inputs[count - 1] is None:
            count -= 1
        if count < len(node.inputs):
            node.resize_inputs(count)


def _is_in_order(model: ir.Model) -> bool:
    """Whether there are no subgraphs, and each node follows those that it reads: it need not be sorted."""
    if model.functions or len(list(every_graph(model.graph))) > 1:
        return False
    before: set[ir.Node | None] = {None}
    for node in model.graph:
        if any(value is not None and value.producer() not in before for value in node.inputs):
            return False
        before.add(node)
    return True


@memory.collector_paused()
def normalise(model: ir.Model, *, unrolled: bool = True) -> int:
    """Rewrite a model, in place, to the form that the static analysis and the converter require.

    With ``unrolled``, loops over layers are unrolled (see ``unroll``): their weights are then slices of the
    file's initializers.

    Ensures: no model-local functions; no fused operator, or operator without a handler, that has a body (see
    ``expand_operators``); Constant nodes only as graph outputs; every initializer is in the main graph and
    not among the inputs; no two values of different subgraphs share a name; nodes are in topological order,
    and none ends in inputs that are left out.

    Returns:
        The number of nodes folded into initializers.

    Raises:
        ValueError: the graph has a cycle.
        ModelFileError: a function is called with what its operators do not take.
        LimitError: a constant is too large.
    """
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.meta[DECLARED] = value.shape.copy() if value.shape is not None else None
    if model.functions:
        InlineFunctions()(model)
        check_inlined(model)
    _drop_omitted(model)
    expand_fused(model)
    expand_missing(model)
    remove_dropout(model)
    before = sum(1 for _ in every_node(model.graph))
    lift_constants(model)
    if not _is_in_order(model):
        common.TopologicalSortPass()(model)
    lifted = before - sum(1 for _ in every_node(model.graph))
    capture_unchanging(model)
    if unrolled:
        unroll(model)
    return lifted + fold_weights(model)
