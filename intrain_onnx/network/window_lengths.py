"""Smallest signal lengths for which every convolution and pooling window fits: a backward pass."""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import shape_of
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, kind


def least_lengths(graph: ir.Graph) -> dict[ir.Value, int]:
    """Smallest length of the last axis for which every later convolution and pooling window fits.

    Propagated backward, as a weakest precondition. Values that need only 1 are omitted. Pad nodes are not
    counted, so the true bound may be lower. Subgraphs are included.
    """
    least: dict[ir.Value, int] = {}
    for node in reversed(list(every_node(graph))):  # every reader comes after what it reads
        if not node.inputs or node.inputs[0] is None or not node.outputs:
            continue
        wanted = least.get(node.outputs[0], 1)
        if has(node, Property.WINDOW):
            operands, wanted = [node.inputs[0]], _window(node, wanted)
        elif has(node, Property.KEEPS_LENGTH):
            operands = [v for v in node.inputs if v is not None]
        else:
            continue
        for value in operands:
            if wanted > least.get(value, 1) and value.const_value is None:
                least[value] = wanted
    return least


def _window(node: ir.Node, wanted: int) -> int:
    """Least input length that gives ``wanted`` output elements: (wanted - 1) stride + span - padding."""
    kernel = _last(node, "kernel_shape")
    if kernel is None and kind(node) is Kind.CONVOLUTION and len(node.inputs) > 1:
        weight = node.inputs[1]
        if weight is not None and weight.const_value is not None and len(shape_of(weight)) > 2:
            kernel = shape_of(weight)[-1]
    if kernel is None or (
        "auto_pad" in node.attributes and "SAME" in node.attributes["auto_pad"].as_string()
    ):
        return wanted
    pads = tuple(node.attributes["pads"].as_ints()) if "pads" in node.attributes else ()
    padding = pads[len(pads) // 2 - 1] + pads[-1] if pads else 0
    span = (_last(node, "dilations") or 1) * (kernel - 1) + 1
    return max((wanted - 1) * (_last(node, "strides") or 1) + span - padding, 1)


def _last(node: ir.Node, name: str) -> int | None:
    given = node.attributes[name].as_ints() if name in node.attributes else ()
    return given[-1] if given else None
