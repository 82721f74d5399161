"""Puts the weights of a twin into the graph of the same network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn


def statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Running mean and variance, which the twins all keep."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


def randomise(twin: nn.Module) -> None:
    """Statistics and affine parameters that an error in the order of layers would show in."""
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            mean, variance = statistics(module)
            nn.init.normal_(mean, std=0.3)
            nn.init.uniform_(variance, 0.5, 2.0)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.3)


Call = tuple[nn.Module, Tensor, Tensor]


def calls(twin: nn.Module, x: Tensor) -> list[Call]:
    """Modules with parameters in the order in which they first run, each with its input and its output."""
    made: dict[nn.Module, Call] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        made.setdefault(module, (module, inputs[0], out))

    hooks = [
        module.register_forward_hook(note)
        for module in twin.modules()
        if list(module.parameters(recurse=False))
    ]
    twin(x)
    for hook in hooks:
        hook.remove()
    return list(made.values())


def tensors(made: Sequence[Call], *, fold: bool) -> Iterator[Tensor]:
    """Weights in that order, with or without a BatchNorm that directly follows a convolution."""
    norms = {id(x): module for module, x, _ in made if fold and isinstance(module, nn.BatchNorm2d)}
    folded = {
        id(norms[id(out)]) for module, _, out in made if id(out) in norms and isinstance(module, nn.Conv2d)
    }
    for module, _, out in made:
        if id(module) in folded:
            continue
        norm = norms.get(id(out))
        if isinstance(module, nn.Conv2d) and norm is not None:
            mean, variance = statistics(norm)
            scale = norm.weight / torch.sqrt(variance + norm.eps)
            yield module.weight * scale[:, None, None, None]
            yield norm.bias - mean * scale
            continue
        yield from module.parameters(recurse=False)
        if isinstance(module, nn.BatchNorm2d):
            yield from statistics(module)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes in the order in which they run, those of bodies in place of the node that holds them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes(attribute.g)


def load(model: onnx.ModelProto, twin: nn.Module, x: Tensor, *, fold: bool) -> None:
    """Put the twin's weights into the initializers, in the order in which nodes use them."""
    weights = {w.name: w for w in model.graph.initializer}
    users = {name: node.op_type for node in reversed([*nodes(model.graph)]) for name in node.input}
    used = dict.fromkeys(name for node in nodes(model.graph) for name in node.input if name in weights)
    for name, value in zip(used, tensors(calls(twin, x), fold=fold), strict=True):
        array = value.detach().numpy()
        array = array.T if users[name] == "MatMul" else array
        assert list(array.shape) == list(weights[name].dims), name
        weights[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
