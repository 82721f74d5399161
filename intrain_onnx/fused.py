"""Linear maps that an exporter, or the author, fused into one: query, key and value for example. No torch.

Valid only where the weights are drawn anew afterwards, as ``canonical``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.graph import Layer, LayerMap
from intrain_onnx.known import Constants
from intrain_onnx.opset.kinds import Property
from intrain_onnx.opset.traits import has, is_op, is_view
from intrain_onnx.structure_key import JOINED, ONLY
from intrain_onnx.values import (
    add_initializer,
    name_of,
    shape_of,
    source,
    static_shape,
)

_MAX_ELEMENTS = 2**24
_Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class _Parts:
    """Values behind a layer that hold some of its channels, by those channels."""

    channels: int
    known: Constants
    found: dict[tuple[int, ...], list[ir.Value]] = field(default_factory=dict)
    whole: bool = False


def split_fused(model: ir.Model, layers: LayerMap) -> dict[str, list[str]]:
    """Make as many linear layers of one as its output is used in separate parts.

    Followed through reshapes, transposes, splits, slices and gathers, the output of a linear layer that is
    used only in disjoint sets of channels is that of several layers side by side: fused query, key and value,
    or the two halves of a gated unit. The parts are computed by layers of their own and joined again, so
    what follows stays as it is.

    Returns:
        Names of the new layers by that of the layer that they replace.
    """
    nodes = {v.name: node for node in model.graph for v in node.outputs}
    known = Constants(model, shapes=True)
    replaced = {}
    for layer in layers.layers:
        node = nodes.get(layer.node_output)
        if node is None or layer.kind != "linear" or layer.channel_axes != (-1,):
            continue
        out = next(v for v in nodes[layer.output].outputs if v.name == layer.output)
        parts = _trace(out, _Parts(layer.channels, known))
        if parts is not None:
            replaced[layer.name] = _split(model, layer, node, out, parts)
    return replaced


def _trace(out: ir.Value, parts: _Parts) -> dict[tuple[int, ...], list[ir.Value]] | None:
    """The disjoint sets of channels that cover the output, with the values that hold each; None for one."""
    shape, channels = static_shape(out), parts.channels
    if (
        shape is None
        or not shape
        or shape[-1] != channels
        or math.prod(shape) > _MAX_ELEMENTS
        or out.is_graph_output()
    ):
        return None
    _follow(out, np.broadcast_to(np.arange(channels), shape), parts)
    covered = [c for part in parts.found for c in part]
    if parts.whole or len(parts.found) < 2 or sorted(covered) != list(range(channels)):
        return None
    return parts.found


def _follow(value: ir.Value, indices: _Indices, parts: _Parts) -> None:
    held = np.unique(indices)
    if len(held) < parts.channels:
        parts.found.setdefault(tuple(held.tolist()), []).append(value)
        return
    for use in value.uses():
        if has(use.node, Property.SHAPE_ONLY):
            continue
        made = _select(use.node, use.idx, indices, parts.known) if not parts.whole else None
        if made is None:
            parts.whole = True
            return
        for output, selected in zip(use.node.outputs, made, strict=True):
            if output.is_graph_output():
                parts.whole = True
            elif output.uses():
                _follow(output, selected, parts)


def _select(node: ir.Node, position: int, indices: _Indices, known: Constants) -> list[_Indices] | None:
    """What a node makes of the indices, where it only rearranges or picks; None where it computes."""
    if position != 0:
        return None
    shapes = [static_shape(v) for v in node.outputs]
    if is_op(node, "Transpose"):
        return [indices.transpose(node.attributes["perm"].as_ints() if "perm" in node.attributes else None)]
    if is_view(node):
        shape = shapes[0]
        return [indices.reshape(shape)] if shape is not None and math.prod(shape) == indices.size else None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if is_op(node, "Split"):
        sizes = [s[axis] for s in shapes if s is not None]
        if len(sizes) != len(shapes) or sum(sizes) != indices.shape[axis]:
            return None
        return list(np.split(indices, np.cumsum(sizes)[:-1], axis))
    if is_op(node, "Gather"):
        (chosen,) = _whole_numbers(node.inputs[1:2], known)
        return None if chosen is None else [np.take(indices, chosen, axis)]
    if is_op(node, "Slice"):
        return _slice(node, indices, known)
    return None


def _whole_numbers(values: Sequence[ir.Value | None], known: Constants) -> list[_Indices | None]:
    """Constants, and what is computed from constants and shapes."""
    found = [None if v is None else known.of(v) for v in values]
    return [None if f is None or f.array.dtype.kind not in "iu" else f.array for f in found]


def _slice(node: ir.Node, indices: _Indices, known: Constants) -> list[_Indices] | None:
    arrays = _whole_numbers(node.inputs[1:], known)
    if len(arrays) < 2 or any(a is None for a in arrays):
        return None
    starts, ends = (a.tolist() for a in arrays[:2] if a is not None)
    axes = arrays[2].tolist() if len(arrays) > 2 and arrays[2] is not None else list(range(len(starts)))
    steps = arrays[3].tolist() if len(arrays) > 3 and arrays[3] is not None else [1] * len(starts)
    picked: list[slice] = [slice(None)] * indices.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            return None
        picked[axis] = slice(start, end, step)
    return [indices[tuple(picked)]]


def _split(
    model: ir.Model, layer: Layer, node: ir.Node, out: ir.Value, parts: dict[tuple[int, ...], list[ir.Value]]
) -> list[str]:
    """Replace a layer by one for each part, joined in the old order of channels."""
    names: list[str] = []
    outputs: list[ir.Value] = []
    order: list[int] = []
    weight_input = 1
    weight = node.inputs[weight_input]
    assert weight is not None
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
    for number, (channels, values) in enumerate(sorted(parts.items())):
        part = _part_weight(
            model, weight, channels, 0 if transposed else -1, f"{out.name}.part{number}.weight"
        )
        made = ir.Value(name=f"{out.name}.part{number}", type=out.type)
        new = ir.Node(
            "",
            node.op_type,
            [node.inputs[0], part],
            attributes=[a for name, a in node.attributes.items() if name in ("transA", "transB")],
            outputs=[made],
            name=f"{name_of(node)}.part{number}",
        )
        model.graph.insert_before(node, new)
        for value in values:
            value.meta[ONLY] = new
        names.append(new.name or "")
        outputs.append(made)
        order += channels
    joined = ir.Value(name=f"{out.name}.joined", shape=out.shape, type=out.type)
    joined.meta[JOINED] = True
    join = ir.Node(
        "", "Concat", outputs, attributes=[ir.AttrInt64("axis", -1)], outputs=[joined], name=f"{joined.name}"
    )
    model.graph.insert_before(node, join)
    if order != sorted(order):
        joined = _reorder(model, join, joined, np.argsort(order))
    out.replace_all_uses_with(joined, replace_graph_outputs=True)
    producer = out.producer()
    assert producer is not None
    model.graph.remove([producer, node] if producer is not node else [node], safe=True)
    return names


def _part_weight(
    model: ir.Model, weight: ir.Value, channels: tuple[int, ...], axis: int, name: str
) -> ir.Value:
    found = source(weight)
    assert found is not None
    shape = list(shape_of(weight) if weight.is_initializer() else static_shape(weight) or ())
    shape[axis] = len(channels)
    dtype = found[0].const_value.dtype if found[0].const_value is not None else ir.DataType.FLOAT
    return add_initializer(model, name, np.zeros(shape, dtype.numpy()))


def _reorder(model: ir.Model, join: ir.Node, joined: ir.Value, order: _Indices) -> ir.Value:
    indices = add_initializer(model, f"{joined.name}.order", order.astype(np.int64))
    out = ir.Value(name=f"{joined.name}.ordered", shape=joined.shape, type=joined.type)
    node = ir.Node(
        "", "Gather", [joined, indices], attributes=[ir.AttrInt64("axis", -1)], outputs=[out], name=out.name
    )
    model.graph.insert_after(join, node)
    return out
