"""Check what functions expand to: a call decides their attributes, and which inputs they have."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from intrain_onnx.errors import ModelFileError
from intrain_onnx.loading.operator_checks import HINT
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import name_of
from intrain_onnx.opset.node_checks import fault
from intrain_onnx.opset.rules import Body, Given, Known
from intrain_onnx.opset.schemas import Schema, schema_of


def check_inlined(model: ir.Model) -> None:
    """Check every node of a model whose functions are expanded as `loading.operator_checks` does.

    Raises:
        ModelFileError: a node is not as its schema or the specification says.
    """
    for node in every_node(model.graph):
        schema = schema_of(node.domain, node.op_type, model.opset_imports.get(node.domain, 1))
        text = fault(_given(node, schema), schema) if schema is not None else None
        if text is not None:
            op = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise ModelFileError(text, hint=HINT, node=name_of(node), op=op)


def _given(node: ir.Node, schema: Schema) -> Given:
    return Given(
        domain=node.domain,
        op_type=node.op_type,
        version=schema.version,
        kinds={name: a.type for name, a in node.attributes.items()},
        attributes={name: _value(a) for name, a in node.attributes.items()},
        present=[value is not None for value in node.inputs],
        inputs=[_known(value) for value in node.inputs],
        made=[value.name != "" for value in node.outputs],
    )


def _value(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        return _of_tensor(attribute.as_tensor())
    if attribute.type == ir.AttributeType.GRAPH:
        graph = attribute.as_graph()
        return Body(sum(1 for v in graph.inputs if v.name not in graph.initializers), len(graph.outputs))
    return list(attribute.value) if isinstance(attribute.value, (list, tuple)) else attribute.value


def _known(value: ir.Value | None) -> Known | None:
    maker = value.producer() if value is not None else None
    if value is not None and value.const_value is not None:
        return _of_tensor(value.const_value)
    if maker is not None and maker.op_type == "Constant" and "value" in maker.attributes:
        return _of_tensor(maker.attributes["value"].as_tensor())
    return None


def _of_tensor(tensor: ir.TensorProtocol) -> Known:
    return Known(int(tensor.dtype), tuple(tensor.shape.numpy()), constant=True)
