"""SynFlow: log of the sum over weights of |w dR/dw|, R the sum of the outputs for an input of ones.

Tanaka, Kunin, Yamins and Ganguli, Pruning Neural Networks without Any Data by Iteratively Conserving
Synaptic Flow, NeurIPS 2020; as a proxy Abdelfattah et al., ICLR 2021. Higher is better. Every parameter is
replaced by its absolute value, normalisation is the identity, one sample is run, and all is computed in
float64, as in the proxy's code. The logarithm keeps the order in a readable range. The weights are drawn
without calibration: calibration replaces BatchNorm, which is off here, so a graph with folded BatchNorm has
the value of the original one. If the input consists of ids, the outputs of embeddings are set to ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intrain_onnx.proxies.context import Fed, ProxyContext
from intrain_onnx.proxies.errors import NoValueError
from intrain_onnx.proxies.modified_interpreter import ModifiedInterpreter
from intrain_onnx.runtime.interpreter import Samples


def compute(network: ProxyContext) -> dict[str, float]:
    """Log of the synaptic flow: one forward and backward pass of ones through the absolute weights."""
    with network.scratch():
        network.draw_weights()
        fed, observers = network.continuous(_of_ones, _one_call(network))
        positive = {
            p.data_ptr(): p.detach().double().abs().requires_grad_() for p in network.module.parameters()
        }
        variant = _Positive(
            network.module, observers, norms="off", attribute=lambda t: positive.get(t.data_ptr(), t)
        )
        outputs = variant.outputs(*fed)
        total = sum(p.sum() for parts in outputs for p in parts if p.is_floating_point() and p.requires_grad)
        if not isinstance(total, Tensor):
            raise NoValueError("no output passes a gradient to a weight")
        weights = [positive[w.data_ptr()] for w in network.weights.values()]
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
        flow = math.fsum(
            (w * g).abs().sum().item() for w, g in zip(weights, gradients, strict=True) if g is not None
        )
    if flow == 0.0:
        raise NoValueError("no flow reaches the output")
    return {"synflow": math.log(flow)}


class _Positive(ModifiedInterpreter):
    """Computes in float64 instead of float32."""

    def run_node(self, n: torch.fx.Node) -> object:
        """Run one node, and widen its outputs."""
        return _wide(super().run_node(n))


def _wide(value: object) -> object:
    if isinstance(value, Tensor):
        return value.double() if value.dtype == torch.float32 else value
    if isinstance(value, (tuple, Samples)):
        return type(value)(_wide(v) for v in value)
    return value


def _of_ones(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.float64)


def _one_call(network: ProxyContext) -> Fed:
    """The inputs of one sample, or of the graph's fixed batch."""
    size = network.used.fixed_batch or 1
    specs = network.used.inputs
    first: list[Tensor | Samples] = []
    for value, spec in zip(network.feed(), specs, strict=True):
        if isinstance(value, Samples):
            first.append(value[0])
        elif spec.batch_axis is not None:
            first.append(value.narrow(spec.batch_axis, 0, size))
        else:
            first.append(value)
    return first
