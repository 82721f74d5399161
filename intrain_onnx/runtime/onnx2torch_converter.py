"""Conversion by onnx2torch, as an independent cross-check of the native converter.

It converts the graph after the protocol's rewrites, with the same weights, so that the same probe measures
the same layers, but no operator shares code with the native converter.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx2torch
import onnx_ir as ir
import torch
from onnx2torch.node_converters.registry import get_converter
from torch import fx, nn

from intrain_onnx.errors import MissingOpsError, UnsupportedError
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.marks import DECLARED
from intrain_onnx.opset.support import versioned_name

_HINT = "Use --converter native"


def convert_second(
    model: ir.Model,
    layers: LayerMap,
    weights: Mapping[str, np.ndarray[Any, Any]],
    *,
    batch_statistics: bool,
) -> fx.GraphModule:
    """Convert with onnx2torch; nodes and parameters carry the same ONNX names as from the native converter.

    Args:
        model: rewritten; its initializers are set to the weights, in place.
        layers: its static analysis; its trainable initializers become parameters, ties included.
        weights: values by initializer.
        batch_statistics: BatchNorm uses the statistics of the batch.

    Raises:
        MissingOpsError: names every operator that onnx2torch lacks.
        UnsupportedError: onnx2torch fails, or a tie cannot be kept.
    """
    write_values(model, weights)
    for value in model.graph.inputs:
        value.shape = value.meta[DECLARED]
    proto = ir.to_proto(model)
    _require_converters(proto)
    try:
        module: fx.GraphModule = onnx2torch.convert(proto, attach_onnx_mapping=True)
    except Exception as error:  # it raises many kinds, some of them plain asserts
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UnsupportedError(f"onnx2torch cannot convert this model: {reason}", hint=_HINT) from error
    _annotate(module, proto, layers)
    for inner in module.modules():
        if isinstance(inner, nn.modules.batchnorm._BatchNorm):
            inner.train(batch_statistics)
            inner.momentum = 0.0
    return module


def write_values(model: ir.Model, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Replace the values of initializers by name, in place; shapes must be equal."""
    for name, array in values.items():
        value = model.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(array.astype(value.const_value.dtype.numpy()), name=name)


def _require_converters(proto: onnx.ModelProto) -> None:
    opsets = {o.domain: o.version for o in proto.opset_import}
    missing: Counter[str] = Counter()
    for node in proto.graph.node:
        try:
            get_converter(node.op_type, opsets.get(node.domain, 1), node.domain)
        except NotImplementedError:
            missing[versioned_name(node.domain, node.op_type, opsets.get(node.domain, 1))] += 1
    if missing:
        error = MissingOpsError(missing)
        error.message = f"onnx2torch lacks {error.message.removeprefix('unsupported operators: ')}"
        error.hint = _HINT
        raise error


def _annotate(module: fx.GraphModule, proto: onnx.ModelProto, layers: LayerMap) -> None:
    """Give fx nodes and parameters their ONNX names, and turn trainable buffers into parameters."""
    by_output = {name: node for node in proto.graph.node for name in node.output if name}
    ties = _Ties(module, layers)
    for node in module.graph.nodes:
        if node.op == "call_module":
            mapping: Any = module.get_submodule(node.target).onnx_mapping
            origin = by_output[next(name for name in mapping.outputs if name)]
            node.meta |= {
                "onnx_op": origin.op_type,
                "onnx_name": origin.name or next(iter(origin.output), origin.op_type),
                "onnx_outputs": list(mapping.outputs) if len(mapping.outputs) == 1 else [],
            }
            ties.adopt_module(node.target, origin)
            for argument, name in zip(node.args, mapping.inputs, strict=False):
                if isinstance(argument, fx.Node) and argument.op == "get_attr":
                    ties.adopt_buffer(argument, name)
        elif node.op == "call_function" and node.target is operator.getitem:
            mapping = module.get_submodule(node.args[0].target).onnx_mapping
            node.meta |= {"onnx_op": "Output", "onnx_outputs": [mapping.outputs[node.args[1]]]}
    module.meta["parameters"] = ties.paths
    module.recompile()


class _Ties:
    """One parameter for each ONNX name, although onnx2torch copies a shared initializer for each use."""

    def __init__(self, module: fx.GraphModule, layers: LayerMap) -> None:
        self.module = module
        self.slots = layers.slots
        self.paths: dict[str, str] = {}

    def adopt_module(self, target: str, origin: onnx.NodeProto) -> None:
        """Parameters that onnx2torch keeps inside a torch module: input 1 is its weight, input 2 its bias."""
        index = {"weight": 1, "bias": 2}
        for path, _ in list(self.module.get_submodule(target).named_parameters()):
            parent, _, leaf = f"{target}.{path}".rpartition(".")
            if leaf in index and index[leaf] < len(origin.input):
                owner = self.module.get_submodule(parent)
                self._place(owner, f"{parent}.{leaf}", leaf, origin.input[index[leaf]])

    def adopt_buffer(self, node: fx.Node, name: str) -> None:
        """Initializers that onnx2torch passes to a module as a buffer."""
        node.meta |= {"onnx_op": "Initializer", "onnx_name": name, "onnx_outputs": [name]}
        path = str(node.target)
        parent, _, leaf = path.rpartition(".")
        owner = self.module.get_submodule(parent)
        if name in self.slots and leaf in owner._buffers:
            value = owner._buffers.pop(leaf)
            assert value is not None
            owner.register_parameter(leaf, nn.Parameter(value))
            self._place(owner, path, leaf, name)

    def _place(self, owner: nn.Module, path: str, leaf: str, name: str) -> None:
        if name not in self.paths:
            self.paths[name] = path
            return
        first = self.module.get_parameter(self.paths[name])
        if first.shape != getattr(owner, leaf).shape or not torch.equal(first, getattr(owner, leaf)):
            raise UnsupportedError(
                f"onnx2torch holds the shared weight {name!r} in two layouts, so its gradient would be split",
                hint=_HINT,
            )
        setattr(owner, leaf, first)
