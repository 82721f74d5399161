"""Follows a layer's output over operators that keep its channels: normalisations, activations, constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.values import constant_array, initializers_behind
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import is_op, traits

Array = np.ndarray[Any, Any]

_OTHER_POSITIONS = (Kind.POOL, Kind.CONVOLUTION)
"""Kinds that combine different positions of a channel."""


def last_of_channels(value: ir.Value | None) -> ir.Value | None:
    """The last value, following single uses, whose channels are still those of the layer behind ``value``."""
    while value is not None:
        users = [use.node for use in value.uses()]
        follower = next((n for n in users if is_op(n, "Sigmoid") and _gates(n, value)), None)
        if follower is not None and len(users) == 2:  # x * sigmoid(x), written out
            value = next(iter(follower.outputs[0].uses())).node.outputs[0]
            continue
        if len(users) != 1 or value.is_graph_output() or not _keeps_channels(users[0], value):
            return value
        value = users[0].outputs[0]
    return None


def between(begin: ir.Value | None, end: ir.Value | None) -> tuple[str, ...]:
    """Operators on the way from a value to one behind it with the same channels; copies are none."""
    found: list[str] = []
    while end is not None and end is not begin:
        node = end.producer()
        if node is None or not node.inputs:
            break
        if not is_op(node, "Identity"):
            found.append(node.op_type)
        end = node.inputs[0] if node.inputs[0] is not None else None
    return tuple(reversed(found))


def _gates(node: ir.Node, value: ir.Value) -> bool:
    uses = [u.node for u in node.outputs[0].uses()]
    return len(uses) == 1 and is_op(uses[0], "Mul") and value in uses[0].inputs


def _keeps_channels(node: ir.Node, value: ir.Value) -> bool:
    if not node.inputs or node.inputs[0] is None:
        return False
    row = traits(node)
    if row.has(Property.KEEPS_CHANNELS) and row.kind not in _OTHER_POSITIONS:
        return node.inputs[0] is value
    if not (row.has(Property.SCALES) or row.has(Property.SHIFTS)) or len(node.inputs) != 2:
        return False
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    array = constant_array(other)
    rank = len(value.shape.dims) if value.shape is not None else None
    return array is not None and (rank is None or array.ndim <= rank)


@dataclass
class Affine:
    """A map y = scale * x + shift of each channel, in float64.

    Attributes:
        scale: one for each channel.
        shift: one for each channel.
        parameters: names of the initializers that it is made of.
        end: the value that it gives, in the graph.
    """

    scale: Array
    shift: Array
    parameters: set[str] = field(default_factory=set)
    end: ir.Value | None = None

    def scaled(self, by: Array) -> None:
        """Multiply what it gives."""
        self.scale, self.shift = self.scale * by, self.shift * by

    def shifted(self, by: Array) -> None:
        """Add to what it gives."""
        self.shift = self.shift + by


def affine_after(layer: Layer, value: ir.Value | None) -> Affine:
    """The map of each channel that constants make behind a layer: BatchNorm, Mul, Div, Add and Sub.

    Args:
        layer: its bias is not part of the map.
        value: the layer's output in its graph, which has shapes.
    """
    found = Affine(np.ones(layer.channels), np.zeros(layer.channels), end=value)
    while value is not None and len(layer.channel_axes) == 1 and not value.is_graph_output():
        users = list(value.uses())
        if len(users) != 1 or not _applied(found, users[0].node, value, layer):
            break
        value = found.end = users[0].node.outputs[0]
    return found


def _applied(found: Affine, node: ir.Node, value: ir.Value, layer: Layer) -> bool:
    """Take a node into the map; False, with nothing changed, if it is no such map."""
    if is_op(node, "Identity"):
        return True
    if is_op(node, "BatchNormalization"):
        return _batch_norm(found, node, value, layer)
    if len(node.inputs) != 2 or not any(is_op(node, name) for name in ("Mul", "Div", "Add", "Sub")):
        return False
    first = node.inputs[0] is value
    other = node.inputs[1 if first else 0]
    vector = _of_channels(constant_array(other), value, layer)
    if vector is None or other is None or (is_op(node, "Div") and (not first or not vector.all())):
        return False
    if is_op(node, "Mul"):
        found.scaled(vector)
    elif is_op(node, "Div"):
        found.scaled(1 / vector)
    elif is_op(node, "Add"):
        found.shifted(vector)
    elif first:
        found.shifted(-vector)
    else:
        found.scaled(-np.ones(layer.channels))
        found.shifted(vector)
    found.parameters.update(v.name or "" for v in initializers_behind(other))
    return True


def _batch_norm(found: Affine, node: ir.Node, value: ir.Value, layer: Layer) -> bool:
    if value is not node.inputs[0] or _axis(value, layer) != 1:
        return False
    if "training_mode" in node.attributes and node.attributes["training_mode"].as_int():
        return False
    arrays = [constant_array(v) for v in node.inputs[1:5]]
    if len(arrays) != 4 or any(a is None or a.size != layer.channels for a in arrays):
        return False
    gamma, beta, mean, variance = (np.asarray(a, dtype=np.float64).reshape(-1) for a in arrays)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        found.scaled(scale)
        found.shifted(beta - mean * scale)
    found.parameters.update(
        v.name or "" for x in node.inputs[1:5] if x is not None for v in initializers_behind(x)
    )
    return True


def _axis(value: ir.Value, layer: Layer) -> int | None:
    rank = len(value.shape.dims) if value.shape is not None else None
    return layer.channel_axes[0] % rank if rank else None


def _of_channels(array: Array | None, value: ir.Value, layer: Layer) -> Array | None:
    """A constant as one number for each channel; None if it varies along another axis."""
    axis = _axis(value, layer)
    if array is None or axis is None or value.shape is None or array.dtype.kind != "f":
        return None
    rank = len(value.shape.dims)
    if array.size != 1 and (array.ndim > rank or array.size != layer.channels):
        return None
    shape = (1,) * (rank - array.ndim) + array.shape if array.size != 1 else (1,) * rank
    if any(size != 1 for i, size in enumerate(shape) if i != axis):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (layer.channels,))
