"""Gives each convolution and linear layer a separate zero bias, to be calibrated.

    W x (+ b)  ->  W x + 0

As the operator's bias input if it has one, in the Add that follows it, or in a new Add.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import add_initializer, name_of, source
from intrain_onnx.opset.traits import is_op, traits
from intrain_onnx.rewrites.protocol.step import Changes, Draft


def own_biases(draft: Draft) -> Changes:
    """Give each convolution and linear layer a separate zero bias.

    Exporters drop biases of zeros and share equal ones, so the presence of a bias is no property of the
    architecture; calibration needs one as the shift.
    """
    nodes = {v.name: node for node in every_node(draft.model.graph) for v in node.outputs}
    owned = []
    for layer in draft.layers.layers:
        if layer.kind not in ("convolution", "linear"):
            continue
        node = nodes[layer.node_output]
        adder = nodes[layer.output]
        if adder is not node:
            _own_added_bias(draft.model, adder, layer)
        elif traits(node).bias is not None:
            _own_input_bias(draft.model, node, layer)
        else:
            _add_bias(draft.model, node, layer)
        owned.append(layer.name)
        for name in ("alpha", "beta"):
            if is_op(node, "Gemm") and name in node.attributes:
                del node.attributes[name]
    return Changes(places=owned)


def bias_name(layer: Layer) -> str:
    """Name of the bias that :func:`own_biases` gives to a layer."""
    return f"{layer.node_output}.bias"


def _zeros(model: ir.Model, layer: Layer, shape: tuple[int, ...], like: ir.Value | None) -> ir.Value:
    dtype = like.dtype.numpy() if like is not None and like.dtype is not None else np.dtype(np.float32)
    return add_initializer(model, bias_name(layer), np.zeros(shape, dtype))


def _own_input_bias(model: ir.Model, node: ir.Node, layer: Layer) -> None:
    shape: tuple[int, ...] = (layer.channels,)
    if is_op(node, "Gemm") and layer.channel_axes == (0,):
        shape = (layer.channels, 1)
    bias = _zeros(model, layer, shape, node.outputs[0])
    index = traits(node).bias
    assert index is not None
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, bias)


def _own_added_bias(model: ir.Model, adder: ir.Node, layer: Layer) -> None:
    for index, value in enumerate(adder.inputs):
        found = source(value)
        if found is not None and value is not None:
            shape = tuple(int(d) for d in value.shape.dims if isinstance(d, int)) if value.shape else ()
            if math.prod(shape) != layer.channels:
                shape = layer.bias_shape
            adder.replace_input_with(index, _zeros(model, layer, shape, adder.outputs[0]))
            return


def _add_bias(model: ir.Model, node: ir.Node, layer: Layer) -> None:
    shape = (layer.channels,) if layer.channel_axes[0] == -1 else (layer.channels, 1)
    old = node.outputs[0]
    bias = _zeros(model, layer, shape, old)
    total = ir.Value(name=f"{old.name}.biased", shape=old.shape, type=old.type)
    old.replace_all_uses_with(total, replace_graph_outputs=True)
    adder = ir.Node("", "Add", [old, bias], outputs=[total], name=f"{name_of(node)}.bias")
    assert node.graph is not None
    node.graph.insert_after(node, adder)
