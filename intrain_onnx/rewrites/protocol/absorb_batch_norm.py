"""BatchNorm folding: removes an inference BatchNormalization after a convolution or linear layer.

    s (W x + b - mean) / sqrt(var + eps) + o  =  W' x + b'

W' and b' are not computed: the layer is re-initialised and calibrated to zero mean and unit variance for each
channel, as BatchNorm does at initialisation. So the node is just removed.
"""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import listed, name_of
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.protocol.step import Changes, Declined, Draft


def absorb_batch_norm(draft: Draft) -> Changes:
    """Remove each inference BatchNormalization that follows a convolution or a linear layer.

    Nothing may lie between them but what moves axes: Transposes, as of a convolution that is written as a
    MatMul, or Squeeze and Unsqueeze, as of one in one dimension that is written in two. Valid only if the
    layer is re-initialised and calibrated afterwards.
    """
    outputs = draft.layers.by_output()
    removed, declined = [], []
    for node in list(every_node(draft.model.graph)):
        if not is_op(node, "BatchNormalization"):
            continue
        value, axis = _before_views(node)
        layer = outputs.get(value.name or "") if value is not None else None
        reason = _obstacle(node, value, axis, layer)
        read = node.inputs[0]
        if reason is not None or read is None:
            declined.append(Declined(name_of(node), reason or "it has no input"))
            continue
        node.outputs[0].replace_all_uses_with(read, replace_graph_outputs=True)
        assert node.graph is not None
        node.graph.remove(node, safe=True)
        removed.append(name_of(node))
    return Changes(places=removed, absorbed=removed, declined=declined)


def _before_views(node: ir.Node) -> tuple[ir.Value | None, int]:
    """The value whose axes are moved before a node reads it alone, and the axis of it that becomes axis 1."""
    value, axis = node.inputs[0], 1
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        made = value.producer()
        before = _axis_before(made, axis) if made is not None else None
        if made is None or before is None:
            break
        axis, value = before, made.inputs[0]
    return value, axis


def _axis_before(node: ir.Node, axis: int) -> int | None:
    """The axis of a node's input that becomes an axis of its output; None for other nodes, and a new axis."""
    if is_op(node, "Transpose"):
        order = node.attributes.get_ints("perm", ())
        return order[axis] if axis < len(order) else None
    read, made = (value.shape if value is not None else None for value in (node.inputs[0], node.outputs[0]))
    if not is_op(node, "Squeeze", "Unsqueeze") or read is None or made is None:
        return None
    wide = max(len(read.dims), len(made.dims), 1)
    axes = {a % wide for a in listed(node, "axes")}
    if len(axes) != abs(len(read.dims) - len(made.dims)):
        return None  # all of length 1, which are not named
    kept = [a for a in range(wide) if a not in axes]
    if is_op(node, "Squeeze"):
        return kept[axis] if axis < len(kept) else None
    return kept.index(axis) if axis in kept else None


def _obstacle(node: ir.Node, value: ir.Value | None, axis: int, layer: Layer | None) -> str | None:
    """Why a node cannot be folded into the layer before it; None if it can.

    Args:
        node: the BatchNormalization.
        value: the layer's output, perhaps.
        axis: of the value, that the node normalises.
        layer: that has the output.
    """
    if layer is None or value is None or layer.kind not in ("convolution", "linear"):
        return "its input is not the output of a convolution or linear layer"
    rank = len(value.shape.dims) if value.shape is not None else 4
    if layer.channel_axes[0] % rank != axis:
        return f"it normalises axis {axis}, and the channels of {layer.name!r} lie on another"
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return "its statistics are read"
    if len(value.uses()) != 1 or value.is_graph_output():
        return f"the output of {layer.name!r} is read without it, too"
    return None
