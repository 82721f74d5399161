"""float16 and bfloat16 models: their unit roundoff, and bfloat16 widened to float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.subgraphs import every_node

ROUNDING = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}
"""Unit roundoff of the type: the largest relative error of rounding to nearest."""


def rounding(model: ir.Model) -> float:
    """Unit roundoff of the least precise half-precision type that the model computes in.

    0 for float32 and wider types. Weights that are only stored in a narrow type do not count.
    """
    outputs = (v for node in every_node(model.graph) for v in node.outputs if node.op_type != "Cast")
    kinds = {v.dtype for v in (*model.graph.inputs, *outputs)}
    return max((error for kind, error in ROUNDING.items() if kind in kinds), default=0.0)


def has_bfloat16(model: ir.Model) -> bool:
    """Whether any value of a model, constants included, is bfloat16."""
    made = (v for node in every_node(model.graph) for v in node.outputs)
    values = (*model.graph.inputs, *model.graph.initializers.values(), *made)
    return any(v.dtype == ir.DataType.BFLOAT16 for v in values)


def widen(model: ir.Model) -> None:
    """Turn every bfloat16 of a model into float32 of the same value, in place; nothing is rounded then.

    onnxruntime has no bfloat16 on CPUs, and most ONNX operators take it only in late versions.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype == ir.DataType.BFLOAT16:
                value.const_value = _widened(value.const_value)
        values = (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs))
        for value in values:
            if value.dtype == ir.DataType.BFLOAT16:
                value.dtype = ir.DataType.FLOAT
    for node in every_node(model.graph):
        for name, attribute in list(node.attributes.items()):
            if (
                attribute.type == ir.AttributeType.TENSOR
                and attribute.as_tensor().dtype == ir.DataType.BFLOAT16
            ):
                node.attributes[name] = ir.AttrTensor(name, _widened(attribute.as_tensor()))
            elif name in ("to", "dtype", "output_dtype") and attribute.value == ir.DataType.BFLOAT16:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))


def _widened(tensor: ir.TensorProtocol) -> ir.Tensor[np.ndarray[Any, Any]]:
    return ir.Tensor(tensor.numpy().astype(np.float32), dtype=ir.DataType.FLOAT, name=tensor.name)
