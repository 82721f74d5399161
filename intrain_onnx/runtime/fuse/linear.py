"""A linear map whose bias is added apart: MatMul by a matrix, Add of a vector.

It declines where the product itself has to stay visible (a layer that calibration scales before its bias),
where the bias is no vector of the product's columns, where the weight is no matrix, and in half precision.
"""

from __future__ import annotations

from torch import Tensor, fx
from torch.nn import functional

from intrain_onnx.runtime.fuse.form import Found, View, is_op, only_user, other_operand, precision


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x W + b``, W of (in, out) as in ONNX."""
    return functional.linear(x, weight.t(), bias)


def find(view: View, product: fx.Node) -> Found | None:
    """The linear map whose product a node is; None if it is none."""
    if not is_op(product, "MatMul") or precision(product) is None:
        return None
    root = only_user(product)
    if root is None or not is_op(root, "Add"):
        return None
    x, weight = product.args
    bias = other_operand(root, product)
    matrix, vector = view.tensor(weight), view.tensor(bias)
    if matrix is None or vector is None or matrix.dim() != 2:
        return None
    if vector.shape != matrix.shape[1:] or vector.dtype != matrix.dtype:
        return None
    return Found(root, (product,), linear, (x, weight, bias), {}, "MatMul", named=product)
