"""NASWOT: log det K, K_ij = number of units whose activation has the same sign for samples i and j.

Mellor, Turner, Storkey and Crowley, Neural Architecture Search without Training, ICML 2021. Higher is
better. A unit's code is whether its input is positive. The paper has ReLU alone; here every activation
function counts (a kind of operator in `opset`), which also covers smooth ones that an exporter wrote out, by
their Sigmoid, Tanh or Erf.
"""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError


def compute(network: ProxyContext) -> dict[str, float]:
    """Log determinant of the Hamming kernel of the activation codes."""
    samples = network.samples
    kernel = torch.zeros(samples, samples, dtype=torch.float64, device=network.runnable.device)

    def count(parts: list[Tensor]) -> None:
        part = parts[0]
        codes = [_codes(network, p, samples if len(parts) == 1 else samples // len(parts)) for p in parts]
        signs = torch.cat(codes).to(part.dtype) * 2 - 1
        units = signs.shape[1]
        kernel.add_((units + (signs @ signs.T).double()) / 2)

    with torch.no_grad():
        network.run(activation=count)
    if not bool(kernel.any()):
        raise NoValueError("has no activation function")
    sign, logdet = torch.linalg.slogdet(kernel)
    if sign.item() <= 0:
        raise NoValueError("two samples have the same code")
    return {"naswot": logdet.item()}


def _codes(network: ProxyContext, x: Tensor, samples: int) -> Tensor:
    return network.by_sample((x > 0).to(torch.uint8), (), samples).reshape(samples, -1)
