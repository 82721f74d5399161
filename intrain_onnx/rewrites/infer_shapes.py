"""Shape inference by onnx for concrete input shapes, completed from a run where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx import memory
from intrain_onnx.loading import allowance
from intrain_onnx.network.input_shapes import Signature, resized
from intrain_onnx.network.marks import INFERRED, SEEN, UNSEEN
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import static_shape
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind
from intrain_onnx.rewrites.static_shapes import infer_static

_MOST_PROPAGATED = 2**22
"""Elements of all values in onnx's data propagation: each takes some 60 bytes there."""

_MOST_RANK = 64
"""Elements of the shape of a value, and of a size that follows from nothing."""

_SIZES = frozenset({ir.DataType.INT64, ir.DataType.INT32})

See = Callable[[ir.Model, Signature], Mapping[str, tuple[int, ...]]]
"""Runs a model with one sample, and returns the shape of each value by name."""


def infer(model: ir.Model, *, data_prop: bool = False) -> bool:
    """Run onnx's shape inference on a model, in place; False if onnx refuses the model or infers nothing new.

    ``data_prop`` also propagates the values of shape tensors (onnx's data propagation), unless they are many.
    """
    allowance.current().check_time()
    data_prop = data_prop and propagated_elements(model) <= _MOST_PROPAGATED
    inputs = list(model.graph.inputs)
    constants = {value: value.const_value for value in model.graph.initializers.values()}
    logger = logging.getLogger(common.ShapeInferencePass.__module__)
    silent = logger.disabled
    logger.disabled = True  # it logs a traceback if it fails; the return value says the same
    try:
        found = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=data_prop)(model)
    finally:
        logger.disabled = silent
    if len(model.graph.inputs) != len(inputs):
        _restore(model.graph, inputs, constants)
    return bool(found.modified)


def propagated_elements(model: ir.Model) -> int:
    """A bound on the elements that onnx's data propagation holds, of all values together.

    It has no limit of its own: a Concat of a value with itself, 40 times, asks for terabytes. Concat adds its
    operands up, a Gather has as many as its indices, and no other operator that it knows makes more of them.
    """
    sizes: dict[ir.Value, int] = {}
    total = 0

    def of(value: ir.Value | None) -> int:
        if value is None:
            return 0
        tensor = value.const_value
        return sizes.get(value, _MOST_RANK) if tensor is None else tensor.size

    for node in every_node(model.graph):
        if is_op(node, "Concat"):
            size = sum(map(of, node.inputs))
        elif is_op(node, "Gather") and len(node.inputs) > 1:
            size = of(node.inputs[1])
        elif kind(node) is Kind.VIEW or is_op(node, "Add", "Sub", "Mul", "Cast"):
            size = max(map(of, node.inputs), default=0)
        else:
            continue
        size = min(size, 2 * _MOST_PROPAGATED)
        for value in node.outputs:
            sizes[value] = size
        total += size if any(v.dtype is None or v.dtype in _SIZES for v in node.outputs) else 0
    return total


def _restore(
    graph: ir.Graph, inputs: Iterable[ir.Value], constants: Mapping[ir.Value, ir.TensorProtocol | None]
) -> None:
    """Undo what the pass leaves if a tensor cannot be written: initializers as inputs, large ones gone."""
    for value, tensor in constants.items():
        value.const_value = tensor
        graph.initializers[value.name or ""] = value
    graph.inputs.clear()
    graph.inputs.extend(inputs)


@memory.collector_paused()
def infer_shapes(model: ir.Model, signature: Signature | None) -> bool:
    """Infer the shape of every value for the signature's inputs; without one, for the declared shapes.

    Shapes that the file declares for inner values are dropped first: exporters leave wrong ones. Shapes that
    onnx does not find are taken from a run, if one was recorded (:func:`complete_shapes`).

    Returns:
        False if onnx refuses the model, or infers nothing.
    """
    if signature is not None:
        for value, spec in zip(model.graph.inputs, signature.inputs, strict=True):
            value.shape = ir.Shape(spec.shape)
    for node in every_node(model.graph):
        for value in node.outputs:
            value.shape = None
    forget_inferred(model)
    static = infer_static(model)
    found = static or any(infer(model, data_prop=data_prop) for data_prop in (True, False))
    if static and signature is not None:
        model.graph.meta[INFERRED] = _given(signature)
    seen = model.graph.meta.get(SEEN, {})
    for node in every_node(model.graph) if seen else ():
        for value in node.outputs:
            name = value.name or ""
            if name in seen and static_shape(value) is None:
                value.shape = ir.Shape(seen[name])
    return found


def are_inferred(model: ir.Model, signature: Signature) -> bool:
    """Whether all shapes are those that :func:`infer_shapes` would give again for the signature's inputs."""
    found: bool = model.graph.meta.get(INFERRED) == _given(signature)
    return found


def forget_inferred(model: ir.Model) -> None:
    """Note that the graph changed since its shapes were inferred."""
    model.graph.meta.pop(INFERRED, None)


def _given(signature: Signature) -> list[tuple[int, ...]]:
    return [tuple(spec.shape) for spec in signature.inputs]


def infer_for(model: ir.Model, given: Signature, samples: int) -> bool:
    """Infer shapes for another batch size, unless the graph fixes it."""
    return infer_shapes(model, given if given.fixed_batch is not None else resized(given, samples))


def all_known(model: ir.Model) -> bool:
    """Whether every value of the main graph that a node reads has a known shape."""
    return not _unknown(model)


def _unknown(model: ir.Model) -> set[str]:
    outputs = (v for node in model.graph for v in node.outputs if v.uses())
    return {v.name or "" for v in outputs if static_shape(v) is None}


def complete_shapes(model: ir.Model, single: Signature, see: See) -> None:
    """Take shapes that inference misses in the main graph from a run of one sample, recorded in ``meta``.

    Later calls of :func:`infer_shapes` use the recorded ones.
    """
    unknown = _unknown(model)
    if unknown <= model.graph.meta.get(UNSEEN, frozenset()):
        return
    shapes = model.graph.meta[SEEN] = dict(see(model, single))
    if shapes:
        model.graph.meta[UNSEEN] = frozenset(unknown - shapes.keys())
    for node in every_node(model.graph):
        for value in node.outputs:
            name = value.name or ""
            if name in shapes and static_shape(value) is None:
                value.shape = ir.Shape(shapes[name])
