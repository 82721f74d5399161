"""Which inputs of which operators a framework would train. No torch."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

_TRAINABLE: Mapping[str, Mapping[int, str]] = {
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "FusedConv": {1: "weight", 2: "bias"},
    "DeformConv": {1: "weight", 3: "bias"},
    "Gemm": {0: "weight", 1: "weight", 2: "bias"},
    "MatMul": {0: "weight", 1: "weight"},
    "FusedMatMul": {0: "weight", 1: "weight"},
    "Einsum": {0: "weight", 1: "weight"},
    "LSTM": {1: "weight", 2: "weight", 3: "bias", 7: "bias"},
    "GRU": {1: "weight", 2: "weight", 3: "bias"},
    "RNN": {1: "weight", 2: "weight", 3: "bias"},
    "Gather": {0: "table"},
    "BatchNormalization": {1: "scale", 2: "bias"},
    "InstanceNormalization": {1: "scale", 2: "bias"},
    "LayerNormalization": {1: "scale", 2: "bias"},
    "GroupNormalization": {1: "scale", 2: "bias"},
    "RMSNormalization": {1: "scale"},
    "SimplifiedLayerNormalization": {1: "scale"},
    "PRelu": {1: "slope"},
    "Add": {0: "offset", 1: "offset"},
    "Sub": {1: "offset"},
    "Mul": {0: "scale", 1: "scale"},
    "Concat": dict.fromkeys(range(8), "table"),
    "Expand": {0: "table"},
}


def trainable_inputs(node: ir.Node) -> list[tuple[int, str]]:
    """Inputs of a node that a framework would train, with the role of each."""
    roles = _TRAINABLE.get(node.op_type, {})
    return [(i, role) for i, role in roles.items() if i < len(node.inputs) and node.inputs[i] is not None]
