"""Dequantisation of a graph: the same layers on floats, without rounding.

A quantised graph computes on integers, which have no gradient. For scoring it is rewritten: weights are
dequantised, (q - zero point) * scale, quantised operators are replaced by the float operators that they
approximate, and nothing is rounded. An operator that cannot be rewritten stays, exact but without a gradient,
and is named in the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx import memory
from intrain_onnx.network.marks import DEQUANTISED
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import constant_array, source
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, is_view, kind, traits
from intrain_onnx.rewrites.dequantise.float_values import Lifting, Scheme
from intrain_onnx.rewrites.dequantise.operators import QLINEAR, argument, integer
from intrain_onnx.rewrites.dequantise.table import REWRITES

__all__ = ["Quantisation", "is_quantised", "output_steps", "to_float", "warnings"]


@dataclass(frozen=True)
class Quantisation:
    """Result of :func:`to_float`.

    Attributes:
        layers: number of layers with quantised weights, by quantisation scheme.
        activations: restored activations, as (preceding node, operator).
        left: number of nodes of each quantised operator that was not rewritten.
        removed: nodes of the file without a counterpart, as the difference of node counts.
    """

    layers: Mapping[Scheme, int]
    activations: tuple[tuple[str, str], ...]
    left: Mapping[str, int]
    removed: int


def to_float(model: ir.Model) -> Quantisation | None:
    """Dequantise a normalised model, in place.

    Ensures: graph inputs and outputs keep their names, types and order; integer outputs are quantised from
    floats. Shapes of new values are not inferred.

    Returns:
        None, with nothing changed, if nothing in the model is quantised.

    Raises:
        LimitError: the dequantised weights do not fit into memory.
    """
    if not is_quantised(model):
        return None
    memory.require_for_weights(_float_bytes(model))
    before = sum(1 for _ in every_node(model.graph))
    unused = frozenset(_removable(model.graph, frozenset()))
    lifting = Lifting(model)
    _count_dequantised(model, lifting)
    for node in list(_in_order(model.graph)):
        rewrite = REWRITES.get((node.domain, node.op_type))
        if rewrite is not None:
            rewrite(lifting, node)
    for node in list(_in_order(model.graph)):
        _quantise_again(lifting, node, unused)
    for node in _removable(model.graph, unused):
        assert node.graph is not None
        node.graph.remove(node, safe=True)
    left = Counter(n.op_type for n in every_node(model.graph) if _is_quantised(n) and _stops_gradient(n))
    after = sum(1 for _ in every_node(model.graph))
    return Quantisation(
        dict(lifting.layers),
        tuple(lifting.activations),
        dict(left),
        max(before - after + len(lifting.activations), 0),
    )


def is_quantised(model: ir.Model) -> bool:
    """Whether a node of a normalised model computes on integers, or one of its weights was such."""
    return any(map(_is_quantised, every_node(model.graph))) or any(
        DEQUANTISED in value.meta for value in model.graph.initializers.values()
    )


def _float_bytes(model: ir.Model) -> int:
    """Bytes of all initializers as float32, packed 2- and 4-bit weights counted by number."""
    packed: dict[ir.Value | None, int] = {}
    for node in every_node(model.graph):
        if node.op_type == "MatMulNBits":
            packed[argument(node, 1)] = max(8 // max(integer(node, "bits", 4), 1), 1)
    tensors = ((v, v.const_value) for v in model.graph.initializers.values())
    return sum(4 * t.size * packed.get(v, 1) for v, t in tensors if t is not None)


def _is_quantised(node: ir.Node) -> bool:
    return kind(node) is Kind.QUANTISED


def _stops_gradient(node: ir.Node) -> bool:
    """Whether a quantised node cuts a gradient: not at a graph output, nor on an integer graph input."""
    if is_op(node, "QuantizeLinear"):
        return not any(v.is_graph_output() for v in node.outputs)
    value = argument(node, 0)
    while is_op(node, "DequantizeLinear") and value is not None:
        maker = value.producer()
        if maker is None:
            return False
        value = argument(maker, 0)
    return True


def _in_order(graph: ir.Graph) -> Iterator[ir.Node]:
    """Nodes of a graph and its subgraphs in topological order."""
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _in_order(attribute.as_graph())
        yield node


def _count_dequantised(model: ir.Model, lifting: Lifting) -> None:
    """Count the layers of float operators whose weights were dequantised."""
    for node in every_node(model.graph):
        weights = [argument(node, i) for i in traits(node).weights]
        if kind(node) is Kind.QUANTISED or not any(_from_integers(v) for v in weights):
            continue
        table = kind(node) is Kind.LOOKUP
        data = argument(node, 1 if table or _from_integers(argument(node, 0)) else 0)
        maker = data.producer() if data is not None else None
        quantised = is_op(maker, "DequantizeLinear")
        lifting.layers["static QDQ" if quantised else "weight-only"] += 1


def _from_integers(value: ir.Value | None) -> bool:
    found = source(value)
    if found is not None:
        return DEQUANTISED in found[0].meta
    maker = value.producer() if value is not None else None
    if maker is None or not is_op(maker, "DequantizeLinear"):
        return False
    numbers = argument(maker, 0)
    quantiser = numbers.producer() if numbers is not None else None
    if quantiser is not None and is_op(quantiser, "QuantizeLinear"):  # of a float weight, in the graph
        numbers = argument(quantiser, 0)
    return constant_array(numbers) is not None


def _quantise_again(lifting: Lifting, node: ir.Node, unused: frozenset[ir.Node]) -> None:
    """Requantise: an integer value that is still read becomes QuantizeLinear of its float counterpart."""
    form = QLINEAR.get((node.domain, node.op_type))
    value = node.outputs[0] if form is not None else None
    if form is None or value is None or value not in lifting.twins or node in unused:
        return
    if not value.uses() and not value.is_graph_output():
        return
    scale, zero = argument(node, form.result), argument(node, form.result + 1)
    if zero is None:
        return
    new = lifting.node(
        node,
        "QuantizeLinear",
        [lifting.twins[value].value, scale, zero],
        dtype=zero.dtype or ir.DataType.UINT8,
    )
    lifting.replace(value, new)


def _removable(graph: ir.Graph, kept: frozenset[ir.Node]) -> list[ir.Node]:
    """Dead nodes, readers first: no output or live node reads them; those in ``kept`` are live."""
    found: dict[ir.Node, None] = {}

    def visit(inside: ir.Graph) -> None:
        for node in reversed(list(inside)):
            graphs = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
            for part in graphs:
                visit(part)
            uses = (use.node for value in node.outputs for use in value.uses())
            read = any(v.is_graph_output() for v in node.outputs) or any(user not in found for user in uses)
            if not read and not graphs and node not in kept:
                found[node] = None

    visit(graph)
    return list(found)


def output_steps(model: ir.Model) -> dict[str, float]:
    """Quantisation step of each output that is a quantised value (1) or its DequantizeLinear (its scale)."""
    steps = {}
    for output in model.graph.outputs:
        node = output.producer()
        while node is not None and is_view(node) and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        if node is None:
            continue
        if is_op(node, "DequantizeLinear"):
            scale = constant_array(argument(node, 1))
            if scale is not None and scale.size:
                steps[output.name or ""] = float(scale.max())
        elif is_op(node, "QuantizeLinear") or (node.domain, node.op_type) in QLINEAR:
            steps[output.name or ""] = 1.0
    return steps


def warnings(found: Quantisation | None) -> list[tuple[str, str, str | None]]:
    """Warnings on the dequantisation, as (code, message, node)."""
    if found is None:
        return []
    kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(found.layers.items()) if count)
    rows: list[tuple[str, str, str | None]] = [
        (
            "quantised",
            f"the model is quantised (layers by kind: {kinds or 'none'}); its float form is scored: weights "
            "are the floats that the numbers stand for, and nothing is rounded",
            None,
        )
    ]
    if found.activations:
        kinds = ", ".join(f"{n} {op}" for op, n in sorted(Counter(op for _, op in found.activations).items()))
        rows.append(
            (
                "activations_restored",
                f"{kinds} put back where the quantised range does what they did",
                found.activations[0][0],
            )
        )
    if found.left:
        names = ", ".join(f"{op}: {count}" for op, count in sorted(found.left.items()))
        rows.append(("quantised_left", f"without a float form, and so without a gradient: {names}", None))
    return rows
