"""Weights that a graph puts together from constants, as initializers. No torch.

Exporters without constant folding leave the reordering of gates, or the splitting of a joined projection, to
the runtime. The static pass looks for initializers, and a framework trains what they were made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from intrain_onnx.roles import trainable_inputs
from intrain_onnx.values import VIEW_OPS, add_initializer, source

_REARRANGING = VIEW_OPS | {"Concat", "Gather", "Slice", "Split"}
_MAX_NODES = 256
"""Some ten for each gate are usual; a longer chain is no weight."""

Array = np.ndarray[Any, Any]


def fold_made_weights(model: ir.Model) -> int:
    """Replace weights and biases that are rearranged constants by initializers, in place.

    Requires: every initializer is in the main graph.

    Returns:
        The number of initializers made.
    """
    made = 0
    for value, array in list(_made_weights(model)):
        name = value.name or f"made_weight_{made}"
        old = value.producer()
        assert old is not None
        weight = add_initializer(model, f"{name}.made", array)
        value.replace_all_uses_with(weight)
        _remove_unused(old)
        made += 1
    return made


def _made_weights(model: ir.Model) -> Iterator[tuple[ir.Value, Array]]:
    seen: set[ir.Value] = set()
    for node in model.graph.all_nodes():
        for index, role in trainable_inputs(node):
            value = node.inputs[index]
            if role not in ("weight", "bias") or value is None or value in seen:
                continue
            seen.add(value)
            if value.producer() is None or value.is_graph_output() or source(value) is not None:
                continue
            array = _evaluate(value, model.opset_imports.get("", 1))
            if array is not None and array.dtype.kind == "f" and array.size > 1:
                yield value, array


def _evaluate(value: ir.Value, opset: int) -> Array | None:
    """The value, where it only rearranges constants; None where it does not, or grows beyond their size."""
    order = _ancestors(value)
    if order is None:
        return None
    known: dict[ir.Value, Array] = {}
    limit = 0
    for node in order:
        for operand in node.inputs:
            if operand is not None and operand not in known and operand.const_value is not None:
                known[operand] = operand.const_value.numpy()
                limit += operand.const_value.size
    for node in order:
        operands = [v for v in dict.fromkeys(node.inputs) if v is not None]
        if node.op_type == "Concat" and sum(known[v].size for v in node.inputs if v is not None) > limit:
            return None
        try:
            results = _run(node, {v.name or "": known[v] for v in operands}, opset)
        except (ValueError, IndexError, TypeError, RuntimeError, KeyError):
            return None
        known.update(zip(node.outputs, results, strict=True))
        if any(array.size > limit for array in results):
            return None
    return known[value]


def _ancestors(value: ir.Value) -> list[ir.Node] | None:
    """The nodes that make a value, in topological order; None where anything but constants goes in."""
    order: dict[ir.Node, None] = {}
    stack: list[tuple[ir.Value | None, bool]] = [(value, False)]
    while stack:
        current, done = stack.pop()
        if current is None or current.const_value is not None:
            continue
        node = current.producer()
        if node is None or node.domain or node.op_type not in _REARRANGING or len(order) > _MAX_NODES:
            return None
        if node in order:
            continue
        if done:
            order[node] = None
            continue
        stack.append((current, True))
        stack.extend((v, False) for v in node.inputs)
    return list(order)


def _run(node: ir.Node, feeds: dict[str, Array], opset: int) -> list[Array]:
    """Run one node by ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 - slow to import, and rarely needed

    names = [v.name or "" for v in node.outputs]
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "node",
        [onnx.ValueInfoProto(name=name) for name in feeds],
        [onnx.ValueInfoProto(name=name) for name in names],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, feeds)]


def _remove_unused(node: ir.Node) -> None:
    """Remove a node that nothing reads, and then those that only it read."""
    stack: list[ir.Node | None] = [node]
    while stack:
        current = stack.pop()
        if current is None or current.graph is None:
            continue
        if any(v.uses() or v.is_graph_output() for v in current.outputs):
            continue
        before = [v.producer() for v in current.inputs if v is not None]
        current.graph.remove(current, safe=True)
        stack.extend(before)
