"""Kaiming initialisation of a converted module, BatchNorm in training mode.

Each tensor is drawn in its canonical layout from a generator keyed by the seed and the structural key of the
layer or parameter, so that names, node order and the layout in the file do not change it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, fx, nn

from intrain_onnx.measure.as_drawn import GATES, Reason
from intrain_onnx.network.layers import LayerMap, Slot
from intrain_onnx.network.recognise import Layer, Weight
from intrain_onnx.network.values import Step
from intrain_onnx.ops.norm import batch_normalization_of_batch
from intrain_onnx.runtime import streamed
from intrain_onnx.runtime.random_streams import generator_for

_PRELU_SLOPE = 0.25
_TABLE_STD = 0.02


def parameters(module: fx.GraphModule) -> dict[str, nn.Parameter]:
    """The module's parameters by ONNX name."""
    held = dict(module.named_parameters(remove_duplicate=False))
    return {name: held[path] for name, path in module.meta["parameters"].items()}


def to_file_layout(canonical: Tensor, shape: tuple[int, ...], steps: Sequence[Step]) -> Tensor:
    """Apply the inverse of ``steps``, from the canonical layout to that of an initializer of ``shape``."""
    shapes = [shape]
    for kind, argument in steps:
        last = shapes[-1]
        shapes.append(argument if kind == "reshape" else tuple(last[i] for i in argument))
    for (kind, argument), before in zip(reversed(steps), reversed(shapes[:-1]), strict=True):
        if kind == "reshape":
            canonical = canonical.reshape(before)
        else:
            inverse = sorted(range(len(argument)), key=argument.__getitem__)
            canonical = canonical.permute(inverse)
    return canonical


def to_canonical(x: Tensor, steps: Sequence[Step]) -> Tensor:
    """Apply ``steps``, from the layout of an initializer to the canonical one."""
    for kind, argument in steps:
        x = x.reshape(argument) if kind == "reshape" else x.permute(argument)
    return x


def reinitialise(
    module: fx.GraphModule,
    layers: LayerMap,
    seed: int,
    as_drawn: Mapping[str, Reason] = MappingProxyType({}),
) -> None:
    """Re-initialise every parameter, in place.

    Weights of layers are Kaiming normal, N(0, 2/fan-in); recurrent ones and those that ``as_drawn`` has for
    one of its `GATES`, N(0, 1/fan-in), since gates saturate; embeddings N(0, 1), or N(0, 1/dimension) if tied
    to a linear layer, whose outputs then have unit variance, and no recurrence is there. Scales are 1, biases
    and offset vectors 0, PReLU slopes 0.25, tables of offsets N(0, 0.02^2). A tied parameter is drawn for its
    first use.
    """
    values = parameters(module)
    not_held = streamed.weights(module)
    gates = {name for name, reason in as_drawn.items() if reason in GATES}
    done: set[str] = set()
    # A recurrence reads an embedding as it is, and small numbers leave its gates half open for every word.
    tied = not any(
        layer.kind == "recurrent" or as_drawn.get(layer.name) == "recurrence" for layer in layers.layers
    )
    shared = {w.name for layer in layers.layers if tied and layer.kind == "linear" for w in layer.weights}
    with torch.no_grad():
        for layer in layers.layers:
            for index, weight in enumerate(layer.weights):
                if weight.name in done:
                    continue
                std = _gain(layer, layer.name in gates) / math.sqrt(
                    _fan_in(layer, weight, weight.name in shared)
                )
                key = f"{layer.key}.{index}"
                if weight.name in not_held:
                    again = not_held[weight.name]
                    again.restart(partial(_drawn, weight, again.shape, std, seed, key))
                elif weight.name in values:
                    parameter = values[weight.name]
                    parameter.copy_(_drawn(weight, tuple(parameter.shape), std, seed, key))
                done.add(weight.name)
        for name, parameter in values.items():
            if name not in done:
                slot = layers.slots[name]
                _draw_slot(parameter, slot, generator_for(seed, slot.key))


def _gain(layer: Layer, gate: bool) -> float:
    return 1.0 if gate or layer.kind in ("embedding", "recurrent") else math.sqrt(2.0)


def _fan_in(layer: Layer, weight: Weight, shared: bool) -> int:
    return weight.shape[-1] if layer.kind == "embedding" and shared else weight.fan_in


def _drawn(weight: Weight, shape: tuple[int, ...], std: float, seed: int, key: str) -> Tensor:
    canonical = torch.randn(weight.shape, generator=generator_for(seed, key)).mul_(std)
    return to_file_layout(canonical, shape, weight.steps)


def _draw_slot(parameter: nn.Parameter, slot: Slot, generator: torch.Generator) -> None:
    vector = sum(d > 1 for d in slot.shape or parameter.shape) <= 1
    if slot.role == "scale":
        parameter.fill_(1.0)
    elif slot.role == "slope":
        parameter.fill_(_PRELU_SLOPE)
    elif slot.role == "bias" or (slot.role == "offset" and vector):
        parameter.zero_()
    elif slot.role == "weight":
        fan_in = max(math.prod(parameter.shape[1:]), 1)
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * math.sqrt(2.0 / fan_in))
    else:
        canonical = torch.randn(slot.shape or parameter.shape, generator=generator) * _TABLE_STD
        parameter.copy_(to_file_layout(canonical, tuple(parameter.shape), slot.steps))


def use_batch_statistics(module: fx.GraphModule) -> int:
    """Put every BatchNormalization into training mode: it normalises by the statistics of the batch.

    Returns:
        The number of nodes changed, subgraphs included.
    """
    changed = sum(use_batch_statistics(m) for m in module.children() if isinstance(m, fx.GraphModule))
    for node in list(module.graph.nodes):
        if node.meta.get("onnx_op") != "BatchNormalization" or node.op != "call_function":
            continue
        with module.graph.inserting_before(node):
            epsilon = node.kwargs.get("epsilon", 1e-5)
            new = module.graph.call_function(batch_normalization_of_batch, (*node.args[:3], epsilon))
        new.meta |= node.meta | {"onnx_outputs": node.meta["onnx_outputs"][:1]}
        for user in list(node.users):
            if user.target is operator.getitem and user.args[1] == 0:
                user.replace_all_uses_with(new)
                module.graph.erase_node(user)
        if not node.users:
            module.graph.erase_node(node)
        changed += 1
    module.recompile()
    return changed
