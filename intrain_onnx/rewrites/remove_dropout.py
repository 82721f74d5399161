"""Removal of Dropout in inference mode, an identity that would hide its input from pattern matching."""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import drops_values
from intrain_onnx.opset.traits import is_op


def remove_dropout(model: ir.Model) -> None:
    """Remove each Dropout in inference mode, in place, if its mask is unused and it is no graph output."""
    opset = model.opset_imports.get("", 1)
    for node in list(every_node(model.graph)):
        if not is_op(node, "Dropout") or drops_values(node, opset) or node.inputs[0] is None:
            continue
        kept, *mask = node.outputs
        if kept.is_graph_output() or any(v.uses() or v.is_graph_output() for v in mask):
            continue
        kept.replace_all_uses_with(node.inputs[0])
        assert node.graph is not None
        node.graph.remove(node, safe=True)
