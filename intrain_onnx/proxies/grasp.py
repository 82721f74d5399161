"""GraSP: sum over the layers' weights of -w (H g), g = dL/dw and H the Hessian of L.

Wang, Zhang and Grosse, Picking Winning Tickets before Training by Preserving Gradient Flow, ICLR 2020; as a
proxy Abdelfattah et al., ICLR 2021. Higher is better, with the sign that the latter give it: GraSP prunes
the weights with the largest -w (H g), whose removal reduces the gradient flow least, and the proxy's
authors found accuracy to rise with the sum. H g is a Hessian-vector product by double backpropagation: the
gradient of g' g with g' held constant. Logits are not divided by a temperature, as in the proxy's code.
"""

from __future__ import annotations

import math

import torch

from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError


def compute(network: ProxyContext) -> dict[str, float]:
    """Sum -w (H g), with the Hessian-vector product by double backpropagation."""
    weights = list(network.weights.values())
    loss = network.loss(network.run())
    gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    reached = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None]
    flow = sum((g.detach() * g).sum() for _, g in reached)
    if not isinstance(flow, torch.Tensor) or not flow.requires_grad:
        raise NoValueError("the gradient does not depend on the weights")
    products = torch.autograd.grad(flow, [w for w, _ in reached], allow_unused=True)
    return {
        "grasp": -math.fsum(
            (w * h).double().sum().item()
            for (w, _), h in zip(reached, products, strict=True)
            if h is not None
        )
    }
