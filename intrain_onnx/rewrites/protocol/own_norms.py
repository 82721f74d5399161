"""Resets each BatchNormalization that no layer absorbed to the identity, with separate parameters.

scale 1, bias 0, mean 0, variance 1: x / sqrt(1 + eps)
"""

from __future__ import annotations

import numpy as np

from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import add_initializer
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.protocol.step import Changes, Draft, FreeNorm


def own_norms(draft: Draft) -> Changes:
    """Give each BatchNormalization new parameters, those of an identity, to be calibrated."""
    model, found = draft.model, []
    for node in every_node(model.graph):
        if not is_op(node, "BatchNormalization") or node.inputs[1] is None:
            continue
        like = node.inputs[1]
        shape = tuple(d for d in like.shape.dims if isinstance(d, int)) if like.shape is not None else ()
        dtype = like.dtype.numpy() if like.dtype is not None else np.dtype(np.float32)
        output = node.outputs[0].name or ""
        own = []
        for index, (name, fill) in enumerate(
            (("scale", 1), ("bias", 0), ("mean", 0), ("variance", 1)), start=1
        ):
            value = add_initializer(model, f"{output}.{name}", np.full(shape, fill, dtype))
            node.replace_input_with(index, value)
            own.append(value.name or "")
        found.append(FreeNorm(output, *own[:2]))
    return Changes(places=[norm.output for norm in found], norms=found)
