"""Graph rewrites that come before conversion. Each changes the model that it is given, in place. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx import shapes
from intrain_onnx.errors import LimitError, UnsupportedError
from intrain_onnx.expand import expand_fused, expand_missing
from intrain_onnx.float_form import DEQUANTISED, Quantisation, to_float
from intrain_onnx.float_form.numbers import dequantise
from intrain_onnx.graph import Layer, LayerMap, data_dependent
from intrain_onnx.inline import InlineFunctions
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, is_view, kind, traits
from intrain_onnx.reach import blocks_gradient, is_integer, to_integer
from intrain_onnx.signature import DECLARED, Signature, resized
from intrain_onnx.unroll import capture_unchanging, unroll
from intrain_onnx.values import (
    add_initializer,
    constant_array,
    drops_values,
    name_of,
    node_id,
    source,
    static_shape,
)

_SEEN = "intrain_onnx.seen"
LITERAL = "intrain_onnx.literal"
"""Key in ``Value.meta`` of an initializer that was a Constant node in the file."""

_MAX_FOLDED_ELEMENTS = 2**31


def normalise(model: ir.Model, *, unrolled: bool = True) -> int:
    """Bring a model to the form that the graph pass and the converter take.

    Layers that a Scan or Loop has one of in each round are written out (see ``unroll``) unless told
    otherwise: their weights are then slices of the file's initializers.

    Ensures: no model-local functions, no operator that is fused or lacks a handler but has a body (see
    ``expand``), Constant nodes only where a graph output needs one, every initializer is in the main graph
    and none among the inputs, no two values of different subgraphs share a name, nodes are in topological
    order.

    Returns:
        The number of nodes that only made constants.

    Raises:
        ValueError: the graph has a cycle.
        LimitError: a constant is too large to be made.
    """
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.meta[DECLARED] = value.shape.copy() if value.shape is not None else None
    InlineFunctions()(model)
    expand_fused(model)
    expand_missing(model)
    _remove_dropout(model)
    before = sum(1 for _ in model.graph.all_nodes())
    for node in model.graph.all_nodes():
        if is_op(node, "Constant"):
            node.outputs[0].meta[LITERAL] = True
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for graph in model.graphs():
        for value in graph.initializers.values():
            _name_literal(value)
    common.LiftSubgraphInitializersToMainGraphPass()(model)
    common.RemoveInitializersFromInputsPass()(model)
    _rename_twins(model)
    common.TopologicalSortPass()(model)
    lifted = before - sum(1 for _ in model.graph.all_nodes())
    capture_unchanging(model)
    if unrolled:
        unroll(model)
    return lifted + _fold_weight_makers(model)


def _remove_dropout(model: ir.Model) -> None:
    """Remove each Dropout that drops nothing, in place: it hides what lies behind it."""
    opset = model.opset_imports.get("", 1)
    for node in list(model.graph.all_nodes()):
        if not is_op(node, "Dropout") or drops_values(node, opset) or node.inputs[0] is None:
            continue
        kept, *mask = node.outputs
        if kept.is_graph_output() or any(v.uses() or v.is_graph_output() for v in mask):
            continue
        kept.replace_all_uses_with(node.inputs[0])
        _remove(node)


def _rename_twins(model: ir.Model) -> None:
    """Give values of sibling subgraphs names of their own: ONNX lets both branches of an If use the same."""
    main = model.graph
    taken = {*main.initializers, *(v.name for v in main.inputs), *(v.name for n in main for v in n.outputs)}
    numbers: Counter[str] = Counter()
    for graph in model.graphs():
        made = () if graph is main else (*graph.inputs, *(v for node in graph for v in node.outputs))
        for value in made:
            name = value.name
            while name and value.name in taken:
                numbers[name] += 1
                value.name = f"{name}_{numbers[name]}"
            taken.add(value.name)


def _name_literal(value: ir.Value) -> None:
    """Tensors of Constant nodes have no name, and onnx drops initializers without one."""
    tensor = value.const_value
    if LITERAL in value.meta and tensor is not None and tensor.dtype != ir.DataType.STRING:
        value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)


def _fold_weight_makers(model: ir.Model) -> int:
    """Make ConstantOfShape and DequantizeLinear of constants initializers; returns the number of nodes."""
    folded = 0
    tied: dict[tuple[Any, ...], ir.Value] = {}
    for node in list(model.graph.all_nodes()):
        if node.outputs[0].is_graph_output():
            continue
        if is_op(node, "ConstantOfShape"):
            array = _constant_of_shape(node)
        elif is_op(node, "DequantizeLinear"):
            array = _dequantised(node)
        else:
            continue
        if array is not None:
            new = _initializer_instead(model, node, array)
            if is_op(node, "DequantizeLinear"):
                new.meta[DEQUANTISED] = True
                new = tied.setdefault(
                    (*node.inputs, *((n, a.value) for n, a in node.attributes.items())), new
                )
            node.outputs[0].replace_all_uses_with(new)
            _remove(node)
            folded += 1
    return folded


def _initializer_instead(model: ir.Model, node: ir.Node, array: np.ndarray[Any, Any]) -> ir.Value:
    old = node.outputs[0]
    new = add_initializer(model, old.name or name_of(node), array)
    new.meta.update(old.meta)
    return new


def _remove(node: ir.Node) -> None:
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def _constant_of_shape(node: ir.Node) -> np.ndarray[Any, Any] | None:
    shape = constant_array(node.inputs[0])
    if shape is None or not shape.size:
        return None
    dims = [int(d) for d in shape.reshape(-1)]
    fill = (
        node.attributes["value"].as_tensor().numpy()
        if "value" in node.attributes
        else np.zeros(1, np.float32)
    )
    if fill.dtype.kind != "f" or any(d < 0 for d in dims):
        return None
    if math.prod(dims) > _MAX_FOLDED_ELEMENTS:
        raise LimitError(f"a constant of {math.prod(dims)} elements", node=name_of(node), op=node.op_type)
    return np.full(dims, fill.reshape(-1)[0])


def _dequantised(node: ir.Node) -> np.ndarray[Any, Any] | None:
    x, scale = constant_array(node.inputs[0]), constant_array(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = constant_array(given)
    if x is None or scale is None or x.size < 2 or (given is not None and zero is None):
        return None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    block = node.attributes["block_size"].as_int() if "block_size" in node.attributes else 0
    floats = dequantise(x, scale, zero, axis, block)
    return None if floats is None else floats.astype(scale.dtype)


def infer_shapes(model: ir.Model, signature: Signature | None) -> bool:
    """Give every value the shape that it has for the signature's inputs, or for those declared without one.

    Shapes that the file declares for inner values are dropped first: exporters leave wrong ones. What onnx
    cannot tell is taken from a run, where one was made (:func:`remember_shapes`).

    Returns:
        False where onnx refuses the model and no shape was found.
    """
    if signature is not None:
        for value, spec in zip(model.graph.inputs, signature.inputs, strict=True):
            value.shape = ir.Shape(spec.shape)
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    found = any(shapes.infer(model, data_prop=data_prop) for data_prop in (True, False))
    seen = model.graph.meta.get(_SEEN, {})
    for node in model.graph.all_nodes() if seen else ():
        for value in node.outputs:
            name = value.name or ""
            if name in seen and static_shape(value) is None:
                value.shape = ir.Shape(seen[name])
    return found


def infer_for(model: ir.Model, given: Signature, samples: int) -> bool:
    """Infer shapes for another number of samples, where the file leaves it open."""
    return infer_shapes(model, given if given.fixed_batch is not None else resized(given, samples))


def remember_shapes(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Keep the shapes that values had in a run of one sample, and give them to those that have none."""
    model.graph.meta[_SEEN] = dict(shapes)
    for node in model.graph.all_nodes():
        for value in node.outputs:
            name = value.name or ""
            if name in shapes and static_shape(value) is None:
                value.shape = ir.Shape(shapes[name])


def lacks_shapes(model: ir.Model) -> bool:
    """Whether a node of the main graph makes a value whose shape is not known."""
    return any(static_shape(v) is None for node in model.graph for v in node.outputs if v.uses())


def use_float_form(model: ir.Model, signature: Signature) -> Quantisation | None:
    """Give a quantised model its float form, with shapes inferred anew; None where nothing is quantised.

    Requires: a normalised model with shapes inferred.

    Raises:
        LimitError: the floats do not fit into memory.
    """
    found = to_float(model)
    if found is not None:
        infer_shapes(model, signature)
    return found


@dataclass(frozen=True, slots=True)
class Head:
    """Where the loss attaches.

    Attributes:
        value: name of the value that the loss reads.
        output: the graph output that it stands for.
        through: operators that were cut off between the two.
    """

    value: str
    output: str
    through: tuple[str, ...]


def find_heads(model: ir.Model) -> dict[ir.Value, Head]:
    """The values that a loss can read, with what lies between them and the outputs."""
    data = data_dependent(model.graph)
    heads: dict[ir.Value, Head] = {}
    for output in model.graph.outputs:
        for value, through in _differentiable(output, data):
            heads.setdefault(value, Head(value.name or "", output.name or "", through))
    return heads


def cut_heads(model: ir.Model) -> list[Head]:
    """Make the graph's outputs the values that a loss can read: logits instead of probabilities.

    A final Softmax, LogSoftmax or Sigmoid is cut off, and so is what passes no gradient (ArgMax, casts to
    integers, comparisons, NonMaxSuppression …). Outputs that do not depend on the data are dropped. A
    recurrence puts out all of its steps, so that it can be measured there whichever output the network reads.

    Raises:
        UnsupportedError: nothing is left.
    """
    heads = find_heads(model)
    if not heads:
        raise UnsupportedError(
            "no output depends on the inputs through differentiable operators",
            hint="Trees, hashes and lookup tables have no gradient and cannot be scored",
        )
    model.graph.outputs.clear()
    model.graph.outputs.extend(heads)
    common.RemoveUnusedNodesPass()(model)
    _name_sequences(model)
    return list(heads.values())


def _name_sequences(model: ir.Model) -> None:
    """Have every recurrence put out all steps, to be measured, whichever of its outputs the network reads."""
    for node in model.graph.all_nodes():
        if kind(node) is Kind.RECURRENT and not node.outputs[0].name:
            node.outputs[0].name = f"{node_id(node)}.sequence"


def _differentiable(output: ir.Value, data: set[ir.Value]) -> list[tuple[ir.Value, tuple[str, ...]]]:
    if output not in data or output.producer() is None:
        return []
    behind, views = output, []
    while (node := behind.producer()) is not None and is_view(node) and not to_integer(node):
        views.append(node.op_type)
        if node.inputs[0] is None:
            break
        behind = node.inputs[0]
    if node is not None and has(node, Property.TO_PROBABILITIES) and node.inputs[0] in data:
        assert node.inputs[0] is not None
        return [(node.inputs[0], (*views, node.op_type))]
    if node is not None and (blocks_gradient(node, behind) or to_integer(node)):
        found: list[tuple[ir.Value, tuple[str, ...]]] = []
        for value in node.inputs:
            if value is not None:
                inner = _differentiable(value, data)
                found.extend((v, (*views, node.op_type, *t)) for v, t in inner)
        return found
    return [(output, ())] if not is_integer(output) else []


def absorb_batch_norm(model: ir.Model, layers: LayerMap) -> list[str]:
    """Remove each inference BatchNormalization that follows a convolution or a linear layer directly.

    Only for layers that are re-initialised and calibrated afterwards: the calibration does what the
    BatchNorm did, so nothing is folded into the weights.

    Returns:
        Names of the removed nodes.
    """
    outputs = layers.by_output()
    removed = []
    for node in list(model.graph.all_nodes()):
        if not is_op(node, "BatchNormalization"):
            continue
        value, out = node.inputs[0], node.outputs[0]
        layer = outputs.get(value.name or "") if value is not None else None
        if layer is None or value is None or layer.kind not in ("convolution", "linear"):
            continue
        rank = len(value.shape.dims) if value.shape is not None else 4
        on_channels = layer.channel_axes[0] % rank == 1 if layer.kind == "linear" else True
        extra = [v for v in node.outputs[1:] if v.uses() or v.is_graph_output()]
        if len(value.uses()) == 1 and on_channels and not extra and not value.is_graph_output():
            out.replace_all_uses_with(value, replace_graph_outputs=True)
            _remove(node)
            removed.append(name_of(node))
    return removed


def own_biases(model: ir.Model, layers: LayerMap) -> None:
    """Give each convolution and linear layer a zero bias of its own.

    Exporters drop biases that are all zero and merge equal ones, so whether a layer has one says nothing
    about the architecture; calibration needs one to shift by.
    """
    nodes = {v.name: node for node in model.graph.all_nodes() for v in node.outputs}
    for layer in layers.layers:
        if layer.kind not in ("convolution", "linear"):
            continue
        node = nodes[layer.node_output]
        adder = nodes[layer.output]
        if adder is not node:
            _own_added_bias(model, adder, layer)
        elif traits(node).bias is not None:
            _own_input_bias(model, node, layer)
        else:
            _add_bias(model, node, layer)
        for name in ("alpha", "beta"):
            if is_op(node, "Gemm") and name in node.attributes:
                del node.attributes[name]


@dataclass(frozen=True, slots=True)
class FreeNorm:
    """A BatchNormalization that no layer absorbed: the value that it makes, and its two parameters."""

    output: str
    scale: str
    bias: str


def own_norms(model: ir.Model) -> list[FreeNorm]:
    """Give each BatchNormalization an identity transform of its own, to be calibrated."""
    found = []
    for node in model.graph.all_nodes():
        if not is_op(node, "BatchNormalization") or node.inputs[1] is None:
            continue
        like = node.inputs[1]
        shape = tuple(d for d in like.shape.dims if isinstance(d, int)) if like.shape is not None else ()
        dtype = like.dtype.numpy() if like.dtype is not None else np.dtype(np.float32)
        output = node.outputs[0].name or ""
        for index, (name, fill) in enumerate(
            (("scale", 1), ("bias", 0), ("mean", 0), ("variance", 1)), start=1
        ):
            value = add_initializer(model, f"{output}.{name}", np.full(shape, fill, dtype))
            node.replace_input_with(index, value)
        found.append(FreeNorm(output, f"{output}.scale", f"{output}.bias"))
    return found


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


def free_batch(model: ir.Model, batch: int) -> int:
    """Replace a batch that is baked into the targets of Reshape nodes by "as in the input".

    Only a guess from shapes: whoever calls it must check that samples stay apart.

    Returns:
        The number of nodes changed.
    """
    data = data_dependent(model.graph)
    changed = 0
    for node in model.graph.all_nodes():
        if not is_op(node, "Reshape") or node.inputs[0] not in data or len(node.inputs) < 2:
            continue
        value, target = node.inputs[0], constant_array(node.inputs[1])
        if value is None or value.shape is None or target is None or target.size < 2:
            continue
        literal = "allowzero" in node.attributes and node.attributes["allowzero"].as_int() == 1
        if value.shape.dims[:1] != (batch,) or target[0] != batch or literal:
            continue
        new = np.array([0, *target[1:]], np.int64)
        node.replace_input_with(1, add_initializer(model, f"{node.outputs[0].name}.shape", new))
        changed += 1
    return changed


def write_values(model: ir.Model, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Replace the values of initializers by name; shapes must stay."""
    for name, array in values.items():
        value = model.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(array.astype(value.const_value.dtype.numpy()), name=name)
