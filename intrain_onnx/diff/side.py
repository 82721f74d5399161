"""What a file computes with: its coarsest type, and how its layers are quantised. No torch."""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.diff.rows import Precision
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.rewrites.network import Network

_FOUR_BITS = frozenset(t for t in ir.DataType if t.is_integer() and t.bitwidth <= 4)


def precision_of(network: Network) -> Precision:
    """The coarsest type of weights or activations in the graph as the file has it."""
    if network.quantisation is not None:
        return "int4" if _has_four_bits(network.exact) else "int8"
    types = _types(network.exact)
    if ir.DataType.BFLOAT16 in types:
        return "bfloat16"
    if ir.DataType.FLOAT16 in types:
        return "float16"
    return "float64" if ir.DataType.FLOAT not in types and ir.DataType.DOUBLE in types else "float32"


def quantised_as(network: Network) -> tuple[str, ...]:
    """The schemes of its quantised layers, with their number."""
    found = network.quantisation.layers if network.quantisation is not None else {}
    return tuple(f"{count} {scheme}" for scheme, count in sorted(found.items()))


def _types(model: ir.Model) -> set[ir.DataType | None]:
    made = (v for node in every_node(model.graph) for v in node.outputs)
    values = (*model.graph.inputs, *model.graph.initializers.values(), *made)
    return {v.dtype for v in values}


def _has_four_bits(model: ir.Model) -> bool:
    if _FOUR_BITS & _types(model):
        return True
    packed = (n for n in every_node(model.graph) if n.op_type in ("MatMulNBits", "GatherBlockQuantized"))
    return any("bits" not in n.attributes or n.attributes["bits"].as_int() <= 4 for n in packed)
