"""Jacov: -sum over i of log(v_i + k) + 1 / (v_i + k), v the eigenvalues of a correlation matrix, k = 1e-5.

Mellor, Turner, Storkey and Crowley, arXiv 2006.04647v1, 2020; as a proxy Abdelfattah et al., ICLR 2021.
Higher is better. The matrix correlates, between samples, the gradients of the summed outputs by the input.
Where the input is made of ids, they are gradients by the outputs of embeddings. A sample whose gradient
does not vary has no correlation, and the network no value. The eigenvalues are those of a symmetric matrix,
so they are real.
"""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError

_K = 1e-5


def compute(network: ProxyContext) -> dict[str, float]:
    """Correlate the input gradients between samples, and sum over the eigenvalues."""
    leaves: list[Tensor] = []

    def leaf(x: Tensor) -> Tensor:
        leaves.append(x.detach().clone().requires_grad_())
        return leaves[-1]

    fed, observers = network.continuous(leaf)
    outputs = network.run(fed, observers)
    total = sum(p.sum() for parts in outputs for p in parts if p.is_floating_point() and p.requires_grad)
    if not isinstance(total, Tensor):
        raise NoValueError("no output depends on the input")
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    rows = _rows(network, [g for g in gradients if g is not None])
    centred = rows - rows.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise NoValueError("the gradient by the input does not vary within a sample")
    unit = centred / norms
    values = torch.linalg.eigvalsh(unit @ unit.T)
    return {"jacov": -(torch.log(values + _K) + 1 / (values + _K)).sum().item()}


def _rows(network: ProxyContext, gradients: list[Tensor]) -> Tensor:
    """(samples, elements): the flattened gradients by all inputs."""
    if not gradients:
        raise NoValueError("no output depends on the input")
    if network.runnable.batched:
        parts = [network.by_sample(g, (), network.samples).reshape(network.samples, -1) for g in gradients]
        return torch.cat(parts, 1).double()
    size = network.used.fixed_batch or 1
    calls = network.samples // size
    parts = [network.by_sample(g, (), size).reshape(size, -1) for g in gradients]
    return torch.cat([torch.cat(parts[i::calls], 1) for i in range(calls)]).double()
