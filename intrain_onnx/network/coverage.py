"""Coverage: the share of a file's weight elements and multiply-accumulate operations that layers account for.

Every float initializer that an output depends on belongs to a layer, to a parameter of another role (scale,
offset, table …), or is a constant that its operators do not train. The rest are operands of products that
were not recognised as layers; the score omits them, so they are reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from intrain_onnx.network.layers import LayerMap, data_dependent, needed
from intrain_onnx.network.marks import left_rolled
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import initializers_behind, macs, name_of, of_file, shape_of
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import UNKNOWN, is_op, is_view, kind, traits

_NO_FLOAT_FORM = "a quantised operator without a float form"
_NO_ROW = "an operator that intrain-onnx does not know"
_IN_ATTRIBUTES = "its coefficients are attributes"
QUERIES = "learned queries: its operand is made of weights alone, and it makes scores of attention"
_FORMS: Mapping[Kind, str] = {
    Kind.PRODUCT: "not a matrix product with one weight",
    Kind.CONVOLUTION: "not a convolution with a weight of known shape",
    Kind.RECURRENT: "not a recurrence with weights of known shape",
    Kind.ATTENTION: "an attention whose projection is not written out",
    Kind.QUANTISED: _NO_FLOAT_FORM,
}


@dataclass(frozen=True, slots=True)
class Missed:
    """A product with a constant operand that is not recognised as a layer.

    Attributes:
        node: its name.
        op: its operator.
        reason: why it is not a layer.
        initializers: the file's initializers that the operand is computed from.
        elements: of these, or the number of coefficients in attributes.
        macs: multiply-accumulate operations for one sample; None if a shape is unknown.
    """

    node: str
    op: str
    reason: str
    initializers: tuple[str, ...]
    elements: int
    macs: int | None

    @property
    def queries(self) -> bool:
        """Whether the weights make the queries of an attention, from no input: they have no activation."""
        return self.reason == QUERIES


@dataclass(frozen=True)
class Coverage:
    """Elements of the weights and operations of a network, by what accounts for them.

    Attributes:
        elements: of the float initializers that outputs depend on, and of quantised weights.
        by_role: those accounted for, as weight, bias, scale, offset, slope, table, or constant.
        missed: products that are not recognised.
        macs: multiply-accumulate operations of all products for one sample; None if all are unknown.
    """

    elements: int = 0
    by_role: Mapping[str, int] = field(default_factory=dict)
    missed: tuple[Missed, ...] = ()
    macs: int | None = None

    @property
    def share(self) -> float:
        """Elements accounted for, over all, 0 to 1; 1 for a model without weights."""
        lost = self.elements - sum(self.by_role.values())
        return 1.0 - lost / self.elements if self.elements else 1.0

    @property
    def macs_share(self) -> float | None:
        """Operations of recognised products, over all, 0 to 1; None if they cannot be counted."""
        lost = [m.macs for m in self.missed]
        if not lost:
            return 1.0
        known = [m for m in lost if m is not None]
        return 1.0 - sum(known) / self.macs if self.macs and len(known) == len(lost) else None


def measure(model: ir.Model, layers: LayerMap) -> Coverage:
    """Assign every weight element of a model to a role or to an unrecognised product.

    Args:
        model: normalised and dequantised, its computed weights made parameters (see ``computed_weights``).
        layers: its static analysis.
    """
    used = needed(model.graph)
    sizes: dict[str, int] = {}
    roles: dict[str, str] = {}
    readers = (node for node in every_node(model.graph) if node in used)
    read = (v for node in readers for v in node.inputs if v is not None and v.const_value is not None)
    for value in dict.fromkeys(read):
        slot = layers.slots.get(value.name or "")
        if slot is None and not _holds_floats(value):
            continue
        for name, size in of_file(value):
            sizes[name] = size
            if name not in roles or slot is not None:
                roles[name] = slot.role if slot is not None else "constant"
    missed = (*_missed(model, layers, used), *_left_rolled(model))
    for row in missed:
        for name in row.initializers:
            if not _belongs_to_a_layer(name, layers):
                roles[name] = ""
    held = {v.name: v for v in model.graph.initializers.values()}
    for name in {n for row in missed for n in row.initializers} - sizes.keys():
        constant = held[name].const_value if name in held else None
        sizes[name] = int(constant.size) if constant is not None else 0
    counts: Counter[str] = Counter()
    for name, size in sizes.items():
        counts[roles.get(name, "")] += size
    lost = counts.pop("", 0) + sum(row.elements for row in missed if not row.initializers)
    return Coverage(sum(counts.values()) + lost, dict(sorted(counts.items())), missed, layers.macs)


def _holds_floats(value: ir.Value) -> bool:
    assert value.const_value is not None
    return value.const_value.size > 1 and value.const_value.dtype.is_floating_point()


def _belongs_to_a_layer(name: str, layers: LayerMap) -> bool:
    return any(w.name == name for layer in layers.layers for w in layer.weights)


def _missed(model: ir.Model, layers: LayerMap, used: set[ir.Node]) -> Iterator[Missed]:
    data = data_dependent(model.graph)
    known = {layer.node_output for layer in layers.layers}
    for node in every_node(model.graph):
        if node not in used or not any(v in data for v in node.outputs):
            continue
        if any(v.name in known for v in node.outputs if v.name):
            continue
        row = traits(node)
        if row.coefficients:
            count = sum(len(node.attributes.get_floats(name, ())) for name in row.coefficients)
            yield Missed(name_of(node), node.op_type, _IN_ATTRIBUTES, (), count, count)
            continue
        operands = _weights(node, data)
        elements = dict(row for operand in operands for value in operand for row in of_file(value))
        if elements:
            reason = _NO_ROW if row is UNKNOWN else QUERIES if _makes_scores(node) else _FORMS[row.kind]
            yield Missed(
                name_of(node), node.op_type, reason, tuple(elements), sum(elements.values()), macs(node)
            )


def _makes_scores(node: ir.Node) -> bool:
    """Whether a product ends in a softmax, up to scaling and masking, as queries and keys do."""
    value = node.outputs[0] if is_op(node, "MatMul") else None
    for _ in range(_MOST_STEPS):
        readers = [user for user, _ in value.uses()] if value is not None else []
        if len(readers) != 1:
            return False
        if kind(readers[0]) is Kind.SOFTMAX:
            return True
        if not is_view(readers[0]) and not is_op(readers[0], "Mul", "Div", "Add", "Where"):
            return False
        value = readers[0].outputs[0]
    return False


def _left_rolled(model: ir.Model) -> Iterator[Missed]:
    for loop in left_rolled(model):
        rows = dict(loop.initializers)
        yield Missed(loop.node, loop.op, loop.reason, tuple(rows), sum(rows.values()), None)


def _weights(node: ir.Node, data: set[ir.Value]) -> list[tuple[ir.Value, ...]]:
    """The initializers that each constant operand of a product is computed from."""
    row = traits(node)
    if row is UNKNOWN:
        constants = [v for v in node.inputs if v is not None and v.const_value is not None]
        return [(v,) for v in constants if _holds_floats(v) and sum(d > 1 for d in shape_of(v)) > 1]
    if row.kind not in _FORMS:
        return []
    operands = [node.inputs[i] for i in row.weights if i < len(node.inputs)]
    constant = [v for v in operands if v is not None and v not in data]
    if is_op(node, "MatMul", "Gemm", "Einsum") and len(constant) == len(operands):
        return []
    return [initializers_behind(v) for v in constant]


def warning(found: Coverage) -> tuple[str, str, str | None] | None:
    """The warning on unrecognised weights, as (code, message, first node); None if there are none."""
    if not found.missed:
        return None
    shown = [f"{m.op} {m.node} ({m.elements:,} elements: {m.reason})" for m in found.missed[:_SHOWN]]
    more = f", and {len(found.missed) - _SHOWN} more" if len(found.missed) > _SHOWN else ""
    elements = found.elements - sum(found.by_role.values())
    message = (
        f"{elements:,} of {found.elements:,} elements of weights are in no layer, so the score leaves them "
        f"out: {', '.join(shown)}{more}"
    )
    return "weights_not_recognised", message, found.missed[0].node


_SHOWN = 5
_MOST_STEPS = 8
