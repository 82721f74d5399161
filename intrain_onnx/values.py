"""Constants, shapes and costs read off an onnx_ir graph. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

Step = tuple[Literal["transpose", "reshape"], tuple[int, ...]]
"""A view of a tensor: its axes permuted, or its elements in another shape."""

VIEW_OPS = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "FusedConv"})
_MASKED = -50.0
"""exp of it is nothing beside 1 in float32: no learned offset goes so far, masks go from -100 to -inf."""

MATMULS = frozenset({"MatMul", "FusedMatMul"})


def name_of(node: ir.Node) -> str:
    """A node's name, or the name of its first output where it has none."""
    return node.name or node_id(node) or node.op_type


def node_id(node: ir.Node) -> str:
    """The name of a node's first output: unique, unlike the node's own name."""
    return next((v.name for v in node.outputs if v.name), "")


def constant_array(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The value of an initializer, read through casts and identities."""
    while value is not None and value.const_value is None:
        node = value.producer()
        if node is None or node.op_type not in ("Identity", "Cast"):
            return None
        value = node.inputs[0]
    return None if value is None or value.const_value is None else value.const_value.numpy()


def source(
    value: ir.Value | None, through: frozenset[str] = VIEW_OPS
) -> tuple[ir.Value, list[ir.Node]] | None:
    """The initializer that a value is a view of, and the view nodes from it to the value."""
    nodes: list[ir.Node] = []
    while value is not None:
        if value.is_initializer():
            return value, nodes[::-1]
        node = value.producer()
        if node is None or node.op_type not in through or node.domain:
            return None
        nodes.append(node)
        value = node.inputs[0]
    return None


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a value where every dimension is known."""
    if value is None or value.shape is None:
        return None
    dims = value.shape.dims
    return tuple(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The shape of an initializer."""
    assert value.const_value is not None
    return tuple(int(d) for d in value.const_value.shape.numpy())


def view_steps(shape: tuple[int, ...], nodes: Iterable[ir.Node]) -> tuple[tuple[int, ...], list[Step]] | None:
    """Shape after a chain of view nodes on an initializer, and the views as steps."""
    steps: list[Step] = []
    for node in nodes:
        if node.op_type in ("Identity", "Cast"):
            continue
        if node.op_type == "Transpose":
            perm = tuple(node.attributes["perm"].as_ints()) if "perm" in node.attributes else None
            perm = perm or tuple(reversed(range(len(shape))))
            shape = tuple(shape[p] for p in perm)
            steps.append(("transpose", perm))
            continue
        new = static_shape(node.outputs[0])
        if new is None or math.prod(new) != math.prod(shape):
            return None
        shape = new
        steps.append(("reshape", shape))
    return shape, steps


def add_initializer(model: ir.Model, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """A new initializer of the main graph; its data is shared with the array."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    model.graph.register_initializer(value)
    return value


def is_mask(value: ir.Value) -> bool:
    """Whether a float constant only says where to look: two values, the lower one far below any score."""
    assert value.const_value is not None
    if len(shape_of(value)) < 2:
        return False
    array = np.asarray(value.const_value.numpy(), np.float64)
    low, high = array.min(initial=0.0), array.max(initial=0.0)
    return bool(low <= _MASKED and np.isin(array, (low, high)).all())


def has_macs(node: ir.Node) -> bool:
    """Whether a node is a product that multiply-accumulate operations are counted for."""
    return node.op_type == "Gemm" or node.op_type in CONVOLUTIONS | MATMULS | RECURRENT


def macs(node: ir.Node) -> int | None:
    """Multiply-accumulate operations of one node as its shapes are declared."""
    out = static_shape(node.outputs[0])
    operands = [
        static_shape(v) or (shape_of(v) if v is not None and v.is_initializer() else None)
        for v in node.inputs
    ]
    if node.op_type in RECURRENT:
        x, w, r = operands[:3]
        if x is None or w is None or r is None:
            return None
        return x[0] * x[1] * (math.prod(w) + math.prod(r))
    if node.op_type in CONVOLUTIONS:
        x, w = operands[:2]
        if w is None or (x if node.op_type == "ConvTranspose" else out) is None:
            return None
        spatial = x if node.op_type == "ConvTranspose" else out
        assert spatial is not None
        positions = math.prod((spatial[0], *spatial[2:]))
        return positions * math.prod(w)
    a = operands[0]
    if out is None or a is None or len(a) < 1:
        return None
    transposed = "transA" in node.attributes and node.attributes["transA"].as_int() == 1
    return math.prod(out) * a[-2 if transposed and len(a) > 1 else -1]
