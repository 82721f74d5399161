"""Generalises Reshape targets with a constant batch size to any batch size.

Reshape(x, [batch, a, b])  ->  Reshape(x, [0, a, b]),   0: the dimension of x
"""

from __future__ import annotations

import numpy as np

from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import add_initializer, constant_array, name_of
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.protocol.step import Changes, Declined, Draft


def free_batch(draft: Draft) -> Changes:
    """Replace the constant batch size in Reshape targets by 0, the dimension of the input.

    A heuristic on shapes: the caller must check that samples do not mix.
    """
    model, batch = draft.model, draft.single.fixed_batch if draft.single is not None else None
    data = data_dependent(model.graph)
    changed, declined = [], []
    for node in every_node(model.graph):
        if not is_op(node, "Reshape") or node.inputs[0] not in data or len(node.inputs) < 2:
            continue
        value, target = node.inputs[0], constant_array(node.inputs[1])
        if value is None or value.shape is None or target is None or target.size < 2:
            continue
        literal = "allowzero" in node.attributes and node.attributes["allowzero"].as_int() == 1
        if value.shape.dims[:1] != (batch,) or target[0] != batch:
            continue
        if literal:
            declined.append(Declined(name_of(node), "allowzero gives 0 in its target another meaning"))
            continue
        new = np.array([0, *target[1:]], np.int64)
        node.replace_input_with(1, add_initializer(model, f"{node.outputs[0].name}.shape", new))
        changed.append(name_of(node))
    return Changes(places=changed, declined=declined)
