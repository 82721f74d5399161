"""Writes a GatherND that looks up rows of a constant table as the Gather that it is.

GatherND(table, indices[..., 1])  =  Gather(table, Squeeze(indices, -1)),   axis 0
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.values import gathers_rows, name_of, source, static_shape
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.forms.replace_each import replace_each


def restore_lookups(model: ir.Model) -> int:
    """Replace each GatherND of rows of an initializer, or of a view of one, in place.

    Requires: inferred shapes; opset 13 or later for a Squeeze that is added.

    Returns:
        The number of nodes that are there less.
    """
    return replace_each(model, "lookup", partial(_lookup, model))


def _lookup(model: ir.Model, node: ir.Node) -> ir.Node | None:
    table, indices = node.inputs[:2] if gathers_rows(node) else (None, None)
    if indices is None or static_shape(indices) is None or source(table) is None:
        return None
    rows = _without_last_axis(model, node, indices)
    return ir.Node("", "Gather", [table, rows], [ir.AttrInt64("axis", 0)], name=name_of(node))


def _without_last_axis(model: ir.Model, node: ir.Node, indices: ir.Value) -> ir.Value:
    """The indices before their last axis was added, or a Squeeze of them."""
    shape = static_shape(indices) or ()
    maker = indices.producer()
    if maker is not None and is_op(maker, "Unsqueeze"):
        before = static_shape(maker.inputs[0]) if maker.inputs[0] is not None else None
        if before == shape[:-1] and maker.inputs[0] is not None:
            return maker.inputs[0]
    axes = ir.Value(name=f"{indices.name}.last", const_value=ir.Tensor(np.array([-1])))
    axes.type, axes.shape = ir.TensorType(ir.DataType.INT64), ir.Shape((1,))
    model.graph.initializers[axes.name or ""] = axes
    out = ir.Value(name=f"{indices.name}.rows", type=indices.type, shape=ir.Shape(shape[:-1]))
    squeeze = ir.Node("", "Squeeze", [indices, axes], outputs=[out], name=f"{name_of(node)}.rows")
    assert node.graph is not None
    node.graph.insert_before(node, squeeze)
    return out
