"""Splits a fused linear map, such as query, key and value in one product, into separate layers.

    [W1; W2; W3] x  ->  Concat(W1 x, W2 x, W3 x)

Valid only if the weights are re-initialised afterwards: the parts are zero.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.channel_parts import SELECTING, Indices, Parts, Tracer
from intrain_onnx.network.known_values import Constants
from intrain_onnx.network.marks import JOINED, MADE_FROM, ONLY
from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.values import (
    add_initializer,
    name_of,
    of_file,
    shape_of,
    source,
    static_shape,
)
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.protocol.step import Changes, Declined, Draft


def split_fused_linear(draft: Draft) -> Changes:
    """Split each layer whose output channels are used only in disjoint sets, into one layer for each set.

    The sets are found by propagating channel indices (``channel_parts``) from the output of a linear layer or
    an ungrouped convolution: fused query, key and value, or the two halves of a gated unit. The outputs of
    the parts are concatenated, so the rest of the graph is unchanged.
    """
    model = draft.model
    if not any(is_op(node, *SELECTING) for node in model.graph):
        return Changes()
    nodes = {v.name: node for node in model.graph for v in node.outputs}
    tracer = Tracer({node: i for i, node in enumerate(model.graph)}, Constants(model, shapes=True))
    replaced, declined = {}, []
    for layer in draft.layers.layers:
        node = nodes.get(layer.node_output)
        if node is None or _weight_axis(node, layer) is None:
            continue
        out = next(v for v in nodes[layer.output].outputs if v.name == layer.output)
        parts = tracer.parts(out, layer.channel_axes[0], layer.channels)
        if parts is not None:
            replaced[layer.name] = _split(model, layer, node, out, parts)
        elif any(is_op(use.node, "Split", "Slice") for use in out.uses()):
            declined.append(Declined(layer.name, "its output is not used in disjoint sets of channels alone"))
    return Changes(places=list(replaced), split=replaced, declined=declined)


def _weight_axis(node: ir.Node, layer: Layer) -> tuple[int, int] | None:
    """Index of the weight input, and its axis of output channels; None if the layer cannot be split."""
    if layer.kind == "linear" and layer.channel_axes == (-1,):
        return 1, 0 if node.attributes.get_int("transB", 0) == 1 else -1
    if layer.kind == "linear":
        return 0, -1 if node.attributes.get_int("transA", 0) == 1 else -2
    if layer.kind == "convolution" and node.attributes.get_int("group", 1) == 1:
        axis = {"Conv": 0, "ConvTranspose": 1}.get(node.op_type)
        return None if axis is None else (1, axis)
    return None


def _split(model: ir.Model, layer: Layer, node: ir.Node, out: ir.Value, parts: Parts) -> list[str]:
    """Replace a layer by one for each part, concatenated in the old channel order; returns their names."""
    names: list[str] = []
    outputs: list[ir.Value] = []
    order: list[int] = []
    found = _weight_axis(node, layer)
    assert found is not None
    index, axis = found
    weight = node.inputs[index]
    assert weight is not None
    for number, (channels, values) in enumerate(sorted(parts.items())):
        part = _part_weight(model, weight, channels, axis, f"{out.name}.part{number}.weight")
        made = ir.Value(name=f"{out.name}.part{number}", type=out.type)
        new = ir.Node(
            "",
            node.op_type,
            [part, node.inputs[1]] if index == 0 else [node.inputs[0], part],
            attributes=[a for name, a in node.attributes.items() if name not in ("alpha", "beta")],
            outputs=[made],
            name=f"{name_of(node)}.part{number}",
            metadata_props=dict(node.metadata_props),
        )
        model.graph.insert_before(node, new)
        for value in values:
            value.meta[ONLY] = new
        names.append(new.name or "")
        outputs.append(made)
        order += channels
    joined = ir.Value(name=f"{out.name}.joined", shape=out.shape, type=out.type)
    joined.meta[JOINED] = True
    along = ir.AttrInt64("axis", layer.channel_axes[0])
    join = ir.Node("", "Concat", outputs, attributes=[along], outputs=[joined], name=joined.name)
    model.graph.insert_before(node, join)
    if order != sorted(order):
        joined = _reorder(model, join, joined, np.argsort(order), along)
    out.replace_all_uses_with(joined, replace_graph_outputs=True)
    producer = out.producer()
    assert producer is not None
    model.graph.remove([producer, node] if producer is not node else [node], safe=True)
    return names


def _part_weight(
    model: ir.Model, weight: ir.Value, channels: tuple[int, ...], axis: int, name: str
) -> ir.Value:
    found = source(weight)
    assert found is not None
    shape = list(shape_of(weight) if weight.is_initializer() else static_shape(weight) or ())
    shape[axis] = len(channels)
    dtype = weight.dtype or found[0].dtype or ir.DataType.FLOAT
    value = add_initializer(model, name, np.zeros(shape, dtype.numpy()))
    value.meta[MADE_FROM] = of_file(found[0])
    return value


def _reorder(model: ir.Model, join: ir.Node, joined: ir.Value, order: Indices, along: ir.Attr) -> ir.Value:
    indices = add_initializer(model, f"{joined.name}.order", order.astype(np.int64))
    out = ir.Value(name=f"{joined.name}.ordered", shape=joined.shape, type=joined.type)
    node = ir.Node("", "Gather", [joined, indices], attributes=[along], outputs=[out], name=out.name)
    model.graph.insert_after(join, node)
    return out
