"""What a user would write instead: straightforward scripts in torch, without a file format or a converter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = (nn.Conv2d, nn.Linear, nn.LSTM)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid)


def loss_of(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Cross-entropy with the labels of class 0."""
    logits = module(x)
    return functional.cross_entropy(logits, torch.zeros(len(x), dtype=torch.int64, device=x.device))


def clear(module: nn.Module) -> None:
    """Drop all gradients."""
    for parameter in module.parameters():
        parameter.grad = None


def one_pass(module: nn.Module, x: Tensor) -> float:
    """One forward and one backward pass."""
    clear(module)
    loss = loss_of(module, x)
    loss.backward()
    return loss.item()


def eigenvalues(module: nn.Module, x: Tensor) -> float:
    """InTrain as the paper's formulas read: activations kept by hooks, eigenvalues of each covariance."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    handles = [m.register_forward_hook(keep) for m in module.modules() if _is_layer(m)]
    try:
        one_pass(module, x)
    finally:
        for handle in handles:
            handle.remove()
    capacity = sum(_log_ratio(output.detach()) for output in kept)
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    resilience = sum((g.std(correction=0) / g.abs().max().clamp(min=1e-30)).item() for g in grads)
    return capacity * (1 + resilience) / math.log(len(kept) + 1)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, LAYERS) or type(module).__name__ in ("Linear", "OnnxMatMul", "OnnxGemm")


def _log_ratio(x: Tensor) -> float:
    rows = x.movedim(1, -1).flatten(0, -2) if x.dim() == 4 else x.reshape(-1, x.shape[-1])
    rows = rows - rows.mean(0)
    spectrum = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp(min=0)
    return float(torch.log(spectrum.sum() ** 2 / spectrum.square().sum().clamp(min=1e-30)).item())


def zico(module: nn.Module, x: Tensor) -> float:
    """ZiCo of two batches: mean over standard deviation of each weight's gradient."""
    passes = []
    for batch in (x, x.flip(0) * 0.9):
        one_pass(module, batch)
        passes.append([p.grad.abs() for p in module.parameters() if p.grad is not None and p.dim() > 1])
    total = 0.0
    for grads in zip(*passes, strict=True):
        both = torch.stack(grads)
        deviation, mean = both.std(0, correction=0), both.mean(0)
        found = torch.where(deviation > 0, mean / deviation, 0.0).sum().item()
        total += math.log(found) if found > 0 else 0.0
    clear(module)
    return total


def naswot(module: nn.Module, x: Tensor) -> float:
    """NASWOT: log determinant of the kernel of equal signs before each activation function."""
    kernel = torch.zeros(len(x), len(x), device=x.device)

    def count(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        code = (given[0] > 0).float().flatten(1)
        kernel.add_(code @ code.T + (1 - code) @ (1 - code).T)

    handles = [m.register_forward_pre_hook(count) for m in module.modules() if isinstance(m, ACTIVATIONS)]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return float(torch.linalg.slogdet(kernel)[1].item())


RIVALS: dict[str, Callable[[nn.Module, Tensor], float]] = {
    "eigvalsh": eigenvalues,
    "zico": zico,
    "naswot": naswot,
}
"""Scripts by name."""
