"""Constant folding of ConstantOfShape and DequantizeLinear into float initializers.

ConstantOfShape(shape)                     a tensor filled with one number
DequantizeLinear(q, scale, zero_point)     (q - zero_point) * scale, per tensor, axis or block
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.errors import LimitError
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import option
from intrain_onnx.network.marks import DEQUANTISED
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import add_initializer, constant_array, name_of
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.dequantise.arithmetic import dequantise

_FILLED = 4
"""Weights that are filled with one number count a quarter: VGG-19 is published so, with 143 million."""


def fold_weights(model: ir.Model) -> int:
    """Fold ConstantOfShape and DequantizeLinear of constants, in place; returns the number of nodes."""
    folded = made = 0
    most = _FILLED * allowance.current().limits.folded_elements
    tied: dict[tuple[Any, ...], ir.Value] = {}
    for node in list(every_node(model.graph)):
        if node.outputs[0].is_graph_output():
            continue
        if is_op(node, "ConstantOfShape"):
            array = _constant_of_shape(node, most - made)
            made += array.size if array is not None else 0
        elif is_op(node, "DequantizeLinear"):
            array = _dequantised(node)
        else:
            continue
        if array is not None:
            new = _initializer_instead(model, node, array)
            if is_op(node, "DequantizeLinear"):
                new.meta[DEQUANTISED] = True
                new = tied.setdefault(
                    (*node.inputs, *((n, a.value) for n, a in node.attributes.items())), new
                )
            node.outputs[0].replace_all_uses_with(new)
            assert node.graph is not None
            node.graph.remove(node, safe=True)
            folded += 1
    return folded


def _initializer_instead(model: ir.Model, node: ir.Node, array: np.ndarray[Any, Any]) -> ir.Value:
    old = node.outputs[0]
    new = add_initializer(model, old.name or name_of(node), array)
    new.meta.update(old.meta)
    return new


def _constant_of_shape(node: ir.Node, left: int) -> np.ndarray[Any, Any] | None:
    shape = constant_array(node.inputs[0])
    if shape is None or not shape.size:
        return None
    dims = [int(d) for d in shape.reshape(-1)]
    fill = (
        node.attributes["value"].as_tensor().numpy()
        if "value" in node.attributes
        else np.zeros(1, np.float32)
    )
    if fill.dtype.kind != "f" or any(d < 0 for d in dims):
        return None
    count = math.prod(dims)
    if count > left:
        most = allowance.current().limits.folded_elements
        needed = _FILLED * most - left + count
        raise LimitError(
            f"{needed:,} elements of filled weights, over {_FILLED} times the limit folded_elements={most:,}",
            node=name_of(node),
            op=node.op_type,
            limit="folded_elements",
            hint=option("folded_elements", -(-needed // _FILLED)),
        )
    return np.broadcast_to(fill.reshape(-1)[0], dims)  # takes no memory until it is copied


def _dequantised(node: ir.Node) -> np.ndarray[Any, Any] | None:
    x, scale = constant_array(node.inputs[0]), constant_array(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = constant_array(given)
    if x is None or scale is None or x.size < 2 or (given is not None and zero is None):
        return None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    block = node.attributes["block_size"].as_int() if "block_size" in node.attributes else 0
    floats = dequantise(x, scale, zero, axis, block)
    return None if floats is None else floats.astype(scale.dtype)
