"""Recognition of canonical layers: convolution, linear map, recurrence, embedding, by operator kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx.loading.module_paths import module_path
from intrain_onnx.network.values import (
    Step,
    is_batch_first,
    macs,
    name_of,
    of_file,
    shape_of,
    source,
    view_steps,
)
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind, traits
from intrain_onnx.vocabulary import LayerKind


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight tensor of a layer.

    Attributes:
        name: the initializer.
        shape: canonical: (out, in / groups, *kernel); an embedding table stays (vocabulary, dimension).
        steps: transposes and reshapes from the initializer's layout to the canonical one.
        fan_in: inputs of one output element.
        initializers: the file's initializers that it is computed from; its own name if it is one.
    """

    name: str
    shape: tuple[int, ...]
    steps: tuple[Step, ...]
    fan_in: int
    initializers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """A canonical layer: a convolution, a linear map, a recurrence or an embedding.

    Attributes:
        name: of the ONNX node, or of its first output if the node has none.
        op: ONNX operator.
        kind: independent of the operator.
        depth: canonical layers on the longest path from a graph input to its output, itself included.
        weights: one, or two (input and recurrent) of a recurrence.
        bias: its initializer, taken from a following Add if the operator has none; None without a bias.
        bias_shape: its shape in the file; empty without a bias.
        node_output: output of the operator itself.
        output: output with the bias added: the activation that is measured.
        channel_axes: axes of ``output`` that hold the channels; all others are rows.
        channels: their number, from the shape of the weights.
        macs: multiply-accumulate operations for one sample; None if a shape is unknown.
        key: structural key (see ``layer_keys``), invariant under renaming and reordering of nodes.
        inputs: names of its predecessors in the graph of layers (see ``layer_edges``).
        colour: the key before layers of one colour are numbered: those of a symmetric network share it.
        module: its path in the framework, such as ``blocks.0.conv1``; None where no name tells it.
    """

    name: str
    op: str
    kind: LayerKind
    depth: int
    weights: tuple[Weight, ...]
    bias: str | None
    bias_shape: tuple[int, ...]
    node_output: str
    output: str
    channel_axes: tuple[int, ...]
    channels: int
    macs: int | None
    key: str
    inputs: tuple[str, ...] = ()
    colour: str = ""
    module: str | None = None


def recognise(node: ir.Node, depth: int, data: Set[ir.Value]) -> Layer | None:
    """The canonical layer that a node is, without its key and the layers before it; None if it is none.

    Args:
        node: of the normal form.
        depth: canonical layers on the longest path to its output, itself counted.
        data: values that depend on the data: what an embedding looks up.
    """
    recogniser = _RECOGNISERS.get(kind(node))
    return recogniser(node, depth, data) if recogniser is not None else None


def _weight(value: ir.Value | None) -> tuple[ir.Value, tuple[int, ...], list[Step]] | None:
    found = source(value)
    if found is None or found[0].const_value is None:
        return None
    if not found[0].const_value.dtype.is_floating_point():
        return None
    viewed = view_steps(shape_of(found[0]), found[1])
    return None if viewed is None or 0 in viewed[0] else (found[0], *viewed)


def _has_axes(node: ir.Node, spatial: int) -> bool:
    """Whether the window of a convolution has so many axes; the rank of a computed weight is known late."""
    lengths = {len(node.attributes.get_ints(name, ())) for name in ("kernel_shape", "strides", "dilations")}
    return lengths <= {0, spatial}


def _convolution(node: ir.Node, depth: int, data: Set[ir.Value]) -> Layer | None:
    found = _weight(node.inputs[1])
    if found is None or len(found[1]) < 3 or not _has_axes(node, len(found[1]) - 2):
        return None
    root, shape, steps = found
    fan_in = math.prod(shape[1:])
    if is_op(node, "ConvTranspose"):
        groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
        kernel = shape[2:]
        split = (groups, shape[0] // groups, shape[1], *kernel)
        order = (0, 2, 1, *range(3, len(split)))
        fan_in = shape[0] // groups * math.prod(kernel)
        shape = (groups * shape[1], shape[0] // groups, *kernel)
        steps = [*steps, ("reshape", split), ("transpose", order), ("reshape", shape)]
    weight = _of(root, shape, tuple(steps), fan_in)
    return _finish(node, "convolution", depth, (weight,), (1,), shape[0])


def _linear(node: ir.Node, depth: int, data: Set[ir.Value]) -> Layer | None:
    if is_op(node, "Einsum") or traits(node).coefficients:
        return None
    left, right = (_weight(v) for v in node.inputs[:2])
    if (left is None) == (right is None):
        return None
    flag = node.attributes.get("transB" if right else "transA")
    root, shape, steps = right or left  # type: ignore[misc]
    if len(shape) < 2:
        return None
    transposed = flag is not None and flag.as_int() == 1
    if transposed != (right is not None):  # (..., in, out) in the file
        order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        shape, steps = tuple(shape[i] for i in order), [*steps, ("transpose", order)]
    channels = shape[-2]
    if len(shape) > 2:
        shape = (math.prod(shape[:-1]), shape[-1])
        steps = [*steps, ("reshape", shape)]
    weight = _of(root, shape, tuple(steps), shape[-1])
    axis = -1 if right else -2
    if is_op(node, "Gemm") and axis == -2:
        axis = 0
    return _finish(node, "linear", depth, (weight,), (axis,), channels)


def _recurrent(node: ir.Node, depth: int, data: Set[ir.Value]) -> Layer | None:
    found = [_weight(v) for v in node.inputs[1:3]]
    weights = []
    for item in found:
        if item is None or len(item[1]) != 3:
            return None
        root, shape, steps = item
        flat = (shape[0] * shape[1], shape[2])
        weights.append(_of(root, flat, (*steps, ("reshape", flat)), shape[2]))
    assert found[1] is not None
    directions, _, hidden = found[1][1]
    batch_first = is_batch_first(node)
    sequence = node.outputs[0]
    if sequence.name:  # all steps, even if only the last state is read: it is the same network
        axes = (2, 3) if batch_first else (1, 3)
    else:
        sequence, axes = node.outputs[1], (1, 2) if batch_first else (0, 2)
    return _finish(node, "recurrent", depth, tuple(weights), axes, directions * hidden, measured=sequence)


def _embedding(node: ir.Node, depth: int, data: Set[ir.Value]) -> Layer | None:
    found = _weight(node.inputs[0])
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if found is None or axis != 0 or len(found[1]) != 2 or node.inputs[1] not in data:
        return None
    root, shape, steps = found
    weight = _of(root, shape, tuple(steps), 1)
    return _finish(node, "embedding", depth, (weight,), (-1,), shape[1])


def _finish(
    node: ir.Node,
    kind: LayerKind,
    depth: int,
    weights: tuple[Weight, ...],
    axes: tuple[int, ...],
    channels: int,
    measured: ir.Value | None = None,
) -> Layer:
    output = node_output = measured or node.outputs[0]
    index = traits(node).bias
    bias = node.inputs[index] if index is not None and len(node.inputs) > index else None
    root = source(bias)
    if bias is None and kind in ("convolution", "linear"):
        joined = _joined_bias(node_output, axes[0], channels)
        if joined is not None:
            root, output = source(joined[0]), joined[1]
    return Layer(
        name=name_of(node),
        op=node.op_type,
        kind=kind,
        depth=depth,
        weights=weights,
        bias=root[0].name if root else None,
        bias_shape=shape_of(root[0]) if root else (),
        node_output=node_output.name or "",
        output=output.name or "",
        channel_axes=axes,
        channels=channels,
        macs=macs(node),
        key="",
        module=module_path(
            [name for weight in weights for name in weight.initializers], node.name or "", node.metadata_props
        ),
    )


def _joined_bias(value: ir.Value, axis: int, channels: int) -> tuple[ir.Value, ir.Value] | None:
    """A bias as a following Add: the constant added per channel, and the sum; None without one."""
    users = list(value.uses())
    if len(users) != 1 or value.is_graph_output() or not is_op(users[0].node, "Add"):
        return None
    node = users[0].node
    other = node.inputs[1 - users[0].idx]
    found = source(other)
    if other is None or found is None:
        return None
    viewed = view_steps(shape_of(found[0]), found[1])
    rank = len(value.shape.dims) if value.shape is not None else None
    if viewed is None or (axis >= 0 and rank is None):
        return None
    shape = viewed[0]
    from_end = axis - rank if axis >= 0 and rank is not None else axis
    if len(shape) < -from_end or (rank is not None and len(shape) > rank):
        return None
    expected = [1] * len(shape)
    expected[from_end] = channels
    return (other, node.outputs[0]) if list(shape) == expected else None


def _of(root: ir.Value, shape: tuple[int, ...], steps: tuple[Step, ...], fan_in: int) -> Weight:
    return Weight(root.name or "", shape, steps, fan_in, tuple(name for name, _ in of_file(root)))


_RECOGNISERS: Mapping[Kind, Callable[[ir.Node, int, Set[ir.Value]], Layer | None]] = {
    Kind.CONVOLUTION: _convolution,
    Kind.PRODUCT: _linear,
    Kind.RECURRENT: _recurrent,
    Kind.LOOKUP: _embedding,
}
