"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.ops.registry import op


def integer_matmul(a: Tensor, b: Tensor) -> Tensor:
    """The exact product of two integer tensors, as int64.

    On a GPU, which has no integer product, it is computed in float64: exact for sums below 2**53.
    """
    if a.device.type == "cpu":
        return torch.matmul(a.long(), b.long())
    return torch.matmul(a.double(), b.double()).round().long()


@op("MatMul", 1, 9, 13)
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product as numpy defines it."""
    if a.is_floating_point() or a.is_complex():
        return torch.matmul(a, b)
    return integer_matmul(a, b).to(a.dtype)


@op("Gemm", 7, 9, 11, 13)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803 - ONNX's name
) -> Tensor:
    """``alpha op(A) op(B) + beta C``, op a transposition or the identity."""
    if not a.is_floating_point():
        return _integer_gemm(a.T if transA else a, b.T if transB else b, c, alpha, beta)
    a = a.T if transA else a
    if transB and alpha == 1.0 and (c is None or (beta == 1.0 and c.dim() == 1 and c.shape[0] == b.shape[0])):
        return functional.linear(a, b, c)
    b = b.T if transB else b
    if c is None:
        y = torch.mm(a, b)
        return y if alpha == 1.0 else y * alpha
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


def _integer_gemm(a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float) -> Tensor:
    y = integer_matmul(a, b).double() * alpha
    if c is not None:
        y = y + c.double() * beta
    return y.long().to(a.dtype)
