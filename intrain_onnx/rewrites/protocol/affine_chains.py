"""Pattern matching of decomposed BatchNorm: chains of products and sums with per-channel constants.

    (x * a) + b, ((x - m) / s) * g + b, ...  constants along the channels  =  BatchNormalization(x)

After a convolution or linear layer the chain is removed, as calibration replaces it; elsewhere it becomes a
BatchNormalization node, to be calibrated. Valid only if what it drops is calibrated afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.values import add_initializer, node_id, shape_of, source, static_shape
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, is_view, kind
from intrain_onnx.rewrites.protocol.step import Changes, Declined, Draft


def absorb_affine_chains(draft: Draft) -> Changes:
    """Absorb each decomposed BatchNorm, or replace it by a BatchNormalization node.

    A chain of Mul, Div, Add and Sub with per-channel constants, at least one product and one sum, is an
    inference BatchNorm. So is a lone sum between a Concat or pool and an activation: an optimiser dropped
    its unit scale. A chain on a graph input is preprocessing and stays, and so does the affine part of a
    normalisation over features.
    """
    model = draft.model
    data = data_dependent(model.graph)
    outputs = {name: x for x in draft.layers.layers for name in (x.node_output, x.output)}
    gone: list[str] = []
    places: list[str] = []
    declined: list[Declined] = []
    done: set[ir.Node] = set()
    for node in list(model.graph):
        if node in done or not _is_affine(node, data):
            continue
        chain = _chain(node, data)
        done.update(chain)
        begin = _data_input(node, data)
        if begin is None or not _normalises(chain, begin):
            continue
        layer = outputs.get(begin.name or "")
        behind = layer if layer is not None and layer.kind in ("convolution", "linear") else None
        reason = _obstacle(chain, begin, behind, data)
        if reason is not None:
            declined.append(Declined(node_id(node), reason))
            continue
        places.append(node_id(node))
        gone += [node_id(n) for n in chain]
        if behind is not None:
            _remove(model, chain, begin)
        else:
            _replace_by_batch_norm(model, chain, begin)
    return Changes(places=places, absorbed=gone, declined=declined)


def _obstacle(chain: list[ir.Node], begin: ir.Value, layer: Layer | None, data: set[ir.Value]) -> str | None:
    """Why a chain is no BatchNorm, of the layer before it or without one; None if it is."""
    axis = _channel_axis(chain, begin)
    if layer is not None:
        if axis != _positive(layer.channel_axes[0], begin):
            return f"its constants lie along another axis than the channels of {layer.name!r}"
        return None
    if axis != 1:
        return "its constants do not lie along axis 1"
    if _is_preprocessing(begin):
        return "it works on a graph input: preprocessing"
    return "it ends a normalisation over features" if _is_normalised(begin, data) else None


def _normalises(chain: list[ir.Node], begin: ir.Value) -> bool:
    scales, shifts = (any(has(n, p) for n in chain) for p in (Property.SCALES, Property.SHIFTS))
    if scales or not shifts:
        return scales and shifts
    maker = begin.producer()
    after = [use.node for use in chain[-1].outputs[0].uses()]
    joined = maker is not None and kind(maker) in (Kind.POOL, Kind.SELECTION)
    return joined and len(begin.shape or ()) > 3 and len(after) == 1 and kind(after[0]) is Kind.ACTIVATION


def _is_affine(node: ir.Node, data: set[ir.Value]) -> bool:
    """Whether a node combines one data operand with a constant that has one axis longer than 1."""
    if not _scales_or_shifts(node) or len(node.inputs) != 2:
        return False
    begin = _data_input(node, data)
    if begin is None or (is_op(node, "Div", "Sub") and begin is not node.inputs[0]):
        return False
    return _vector(node, data) is not None


def _scales_or_shifts(node: ir.Node) -> bool:
    return has(node, Property.SCALES) or has(node, Property.SHIFTS)


def _data_input(node: ir.Node, data: set[ir.Value]) -> ir.Value | None:
    found = [v for v in node.inputs if v in data]
    return found[0] if len(found) == 1 else None


def _vector(node: ir.Node, data: set[ir.Value]) -> tuple[int, int] | None:
    """Axis (negative) and length of the constant operand's only axis longer than 1; None for others."""
    constant = next((v for v in node.inputs if v is not None and v not in data), None)
    found = source(constant)
    if constant is None or found is None:
        return None
    shape = shape_of(constant) if constant.is_initializer() else static_shape(constant)
    if shape is None or sum(d > 1 for d in shape) != 1:
        return None
    axis = next(i for i, d in enumerate(shape) if d > 1)
    return axis - len(shape), shape[axis]


def _chain(first: ir.Node, data: set[ir.Value]) -> list[ir.Node]:
    """The longest chain of affine nodes from ``first``, along one axis, each the only reader of the last."""
    chain = [first]
    vector = _vector(first, data)
    while True:
        value = chain[-1].outputs[0]
        users = list(value.uses())
        if len(users) != 1 or value.is_graph_output():
            return chain
        following = users[0].node
        if not _is_affine(following, data) or _vector(following, data) != vector:
            return chain
        chain.append(following)


def _channel_axis(chain: list[ir.Node], begin: ir.Value) -> int | None:
    """The axis of the chain's constants in its input; None if the rank is unknown."""
    if begin.shape is None:
        return None
    constants = [v for v in chain[0].inputs if v is not None and v is not begin]
    shape = shape_of(constants[0]) if constants[0].is_initializer() else static_shape(constants[0])
    assert shape is not None
    axis = next(i for i, d in enumerate(shape) if d > 1) - len(shape)
    return axis + len(begin.shape.dims)


def _positive(axis: int, value: ir.Value) -> int | None:
    return None if value.shape is None else axis % len(value.shape.dims)


def _is_preprocessing(value: ir.Value) -> bool:
    while (node := value.producer()) is not None:
        if not (is_view(node) or _scales_or_shifts(node)) or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return value.is_graph_input()


def _is_normalised(value: ir.Value, data: set[ir.Value]) -> bool:
    """Whether a value ends a normalisation over features: one operator, or a quotient or product of data."""
    node = value.producer()
    while node is not None and is_view(node) and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None:
        return False
    return has(node, Property.OVER_FEATURES) or (
        has(node, Property.SCALES) and all(v in data for v in node.inputs)
    )


def _remove(model: ir.Model, chain: Iterable[ir.Node], begin: ir.Value) -> None:
    nodes = list(chain)
    nodes[-1].outputs[0].replace_all_uses_with(begin, replace_graph_outputs=True)
    model.graph.remove(reversed(nodes), safe=True)


def _replace_by_batch_norm(model: ir.Model, chain: list[ir.Node], begin: ir.Value) -> None:
    last = chain[-1].outputs[0]
    constants = [v for v in chain[0].inputs if v is not None and v is not begin]
    found = source(constants[0])
    assert found is not None
    root = found[0]
    assert root.const_value is not None
    array = root.const_value.numpy().reshape(-1)
    roles = ("scale", "bias", "mean", "variance")
    inputs = [add_initializer(model, f"{last.name}.written_out.{role}", array) for role in roles]
    out = ir.Value(name=f"{last.name}.normalised", shape=last.shape, type=last.type)
    norm = ir.Node(
        "", "BatchNormalization", [begin, *inputs], outputs=[out], name=f"{node_id(chain[-1])}.written_out"
    )
    model.graph.insert_after(chain[-1], norm)
    last.replace_all_uses_with(out, replace_graph_outputs=True)
    model.graph.remove(reversed(chain), safe=True)
