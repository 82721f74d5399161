"""Weight tying: a linear layer whose weight equals an embedding's table shares it again.

    logits = h W, W a copy of E^T  ->  logits = h Transpose(E)

Constant folding stores a tied weight twice, once transposed. At least 1,024 equal elements are taken as
evidence of a tie. Valid only if the weights are re-initialised afterwards.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.values import node_id, shape_of
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import kind
from intrain_onnx.rewrites.protocol.step import Changes, Declined, Draft

_NO_ACCIDENT = 1024
"""Fewest equal elements that count as a tie."""


def tie_embeddings(draft: Draft) -> Changes:
    """Tie each linear layer to the embedding whose table its weight is a copy of."""
    model = draft.model
    tables = dict.fromkeys(x.weights[0].name for x in draft.layers.layers if x.kind == "embedding")
    if not tables:
        return Changes()
    nodes = {v.name: node for node in model.graph for v in node.outputs}
    tied, declined = [], []
    for layer in draft.layers.layers:
        node = nodes.get(layer.node_output)
        weight = _weight(layer, node)
        if node is None or weight is None or weight.name in tables:
            continue
        for name in tables:
            table = model.graph.initializers[name]
            if shape_of(table) != layer.weights[0].shape:
                continue
            reason = _difference(table, weight)
            if reason is None:
                transposed = node.attributes.get_int("transB", 0) == 1
                _use_table(model, node, table, transposed=transposed)
                tied.append(layer.name)
                break
            declined.append(Declined(layer.name, f"{reason} {name!r}"))
    return Changes(places=tied, declined=declined)


def _weight(layer: Layer, node: ir.Node | None) -> ir.Value | None:
    """The initializer that is the right operand of a linear layer's product; None if there is none."""
    if (
        layer.kind != "linear"
        or layer.channel_axes != (-1,)
        or node is None
        or kind(node) is not Kind.PRODUCT
    ):
        return None
    weight = node.inputs[1]
    return weight if weight is not None and weight.is_initializer() else None


def _difference(table: ir.Value, weight: ir.Value) -> str | None:
    """Why a weight is no copy of a table of its canonical shape; None if it is one."""
    if math.prod(shape_of(table)) < _NO_ACCIDENT:
        return f"fewer than {_NO_ACCIDENT} elements are no evidence that it holds the table"
    assert table.const_value is not None
    assert weight.const_value is not None
    a, b = table.const_value.numpy(), weight.const_value.numpy()
    b = b if b.shape == a.shape and (a.shape[0] != a.shape[1] or np.array_equal(a, b)) else b.T
    equal = a.dtype == b.dtype and bool((a != a.flat[0]).any()) and np.array_equal(a, b)
    return None if equal else "its numbers are not those of the table"


def _use_table(model: ir.Model, node: ir.Node, table: ir.Value, *, transposed: bool) -> None:
    value = table
    if not transposed:
        value = ir.Value(name=f"{node_id(node)}.tied", type=table.type, shape=ir.Shape(shape_of(table)[::-1]))
        turn = ir.Node("", "Transpose", [table], attributes=[ir.AttrInt64s("perm", [1, 0])], outputs=[value])
        turn.name = value.name
        model.graph.insert_before(node, turn)
    node.replace_input_with(1, value)
