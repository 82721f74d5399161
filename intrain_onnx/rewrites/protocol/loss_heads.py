"""Heads of the loss: removes the operators after the logits.

A final Softmax, LogSoftmax or Sigmoid is removed, since cross-entropy takes logits, and so are operators
without a gradient (ArgMax, casts to integers, comparisons, NonMaxSuppression).
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.network.gradient_reach import blocks_gradient, is_integer, to_integer
from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import node_id
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, is_view, kind
from intrain_onnx.rewrites.protocol.step import Changes, Declined, Draft, Head


def find_heads(model: ir.Model) -> dict[ir.Value, Head]:
    """Values that a loss can read, each with its output and the operators between them."""
    data = data_dependent(model.graph)
    selected = _selected(model.graph)
    heads: dict[ir.Value, Head] = {}
    for output in model.graph.outputs:
        values = _before_selection(output, selected) if output in selected else [(output, ())]
        for begin, passed in values:
            for value, through in _differentiable(begin, data):
                name = output.name or ""
                heads.setdefault(value, Head(value.name or "", name, (*passed, *through)))
    return heads


def _selected(graph: ir.Graph) -> set[ir.Value]:
    """Values whose number of rows depends on non-maximum suppression, which may select none."""
    found: set[ir.Value] = set()
    for node in graph:
        if is_op(node, "NonMaxSuppression") or any(v in found for v in node.inputs if v is not None):
            found.update(node.outputs)
    return found


def _before_selection(output: ir.Value, selected: set[ir.Value]) -> list[tuple[ir.Value, tuple[str, ...]]]:
    """Trace a detection tail back to the nearest layers or unselected values from which it selects rows.

    Index operands are not followed.
    """
    found: list[tuple[ir.Value, tuple[str, ...]]] = []
    seen = {output}
    waiting: list[tuple[ir.Value, tuple[str, ...]]] = [(output, ())]
    while waiting:
        value, passed = waiting.pop(0)
        node = value.producer()
        if (
            value not in selected
            or node is None
            or kind(node) in (Kind.CONVOLUTION, Kind.PRODUCT, Kind.RECURRENT)
        ):
            found.append((value, passed))
            continue
        chosen = (
            node.inputs[:1] if kind(node) is Kind.LOOKUP or is_op(node, "TopK", "GatherND") else node.inputs
        )
        for before in chosen:
            if before is not None and before not in seen and not is_integer(before):
                seen.add(before)
                waiting.append((before, (*passed, node.op_type)))
    return found


def cut_at_loss_heads(draft: Draft) -> Changes:
    """Make the values that a loss reads the graph's outputs: logits instead of probabilities.

    A final Softmax, LogSoftmax or Sigmoid is removed, and so are operators without a gradient (ArgMax, casts
    to integers, comparisons, NonMaxSuppression …). Outputs that do not depend on the data are dropped. A
    recurrence gets the output of all time steps, which is measured even if the network reads only the last.

    Raises:
        UnsupportedError: there is no such value.
    """
    model = draft.model
    outputs = [v.name or "" for v in model.graph.outputs]
    heads = find_heads(model)
    if not heads:
        raise UnsupportedError(
            "no output depends on the inputs through differentiable operators",
            hint="Trees, hashes and lookup tables have no gradient and cannot be scored",
        )
    model.graph.outputs.clear()
    model.graph.outputs.extend(heads)
    removed = common.RemoveUnusedNodesPass()(model).modified
    named = _name_sequences(model)
    found = tuple(heads.values())
    without = [name for name in outputs if name not in {head.output for head in found}]
    return Changes(
        places=[head.value for head in found if head.through],
        heads=found,
        declined=[
            Declined(name, "no gradient reaches this output, or another one reads the same")
            for name in without
        ],
        rewired=removed or named or outputs != [head.value for head in found],
    )


def _name_sequences(model: ir.Model) -> bool:
    """Name the sequence output of every recurrence, so that it is computed; whether one had no name."""
    named = False
    for node in every_node(model.graph):
        if kind(node) is Kind.RECURRENT and not node.outputs[0].name:
            node.outputs[0].name = f"{node_id(node)}.sequence"
            named = True
    return named


def _differentiable(output: ir.Value, data: set[ir.Value]) -> list[tuple[ir.Value, tuple[str, ...]]]:
    if output not in data or output.producer() is None:
        return []
    behind, views = output, []
    while (node := behind.producer()) is not None and is_view(node) and not to_integer(node):
        views.append(node.op_type)
        if node.inputs[0] is None:
            break
        behind = node.inputs[0]
    if node is not None and has(node, Property.TO_PROBABILITIES) and node.inputs[0] in data:
        assert node.inputs[0] is not None
        return [(node.inputs[0], (*views, node.op_type))]
    if node is not None and (blocks_gradient(node, behind) or to_integer(node)):
        found: list[tuple[ir.Value, tuple[str, ...]]] = []
        for value in node.inputs:
            if value is not None:
                inner = _differentiable(value, data)
                found.extend((v, (*views, node.op_type, *t)) for v, t in inner)
        return found
    return [(output, ())] if not is_integer(output) else []
