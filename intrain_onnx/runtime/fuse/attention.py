"""Softmax attention written out: MatMul, a scale, a mask added, Softmax, MatMul.

Found by the Softmax over the last axis. The scale may be a factor of the scores, of the queries, of the
transposed keys, or of several of them.

It declines where the scores or their softmax have to stay visible, where the mask is computed or trained, or
hides all keys of a query (torch's kernel gives zeros there, softmax no number), in half precision, and for
other values than those of three or four axes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from intrain_onnx.ops.activation import softmax
from intrain_onnx.runtime.fuse.form import Found, View, is_op, only_user, precision, rank

_HEADS = 4
"""Axes of torch's kernel: samples, heads, positions, features."""


def attention(q: Tensor, keys: Tensor, v: Tensor, mask: Tensor | None, *, scale: float) -> Tensor:
    """softmax(scale q keys + mask) v, with the keys as columns, in three or four axes."""
    if q.shape[:-2] != keys.shape[:-2] or q.shape[:-2] != v.shape[:-2]:  # the kernel does not broadcast
        scores = torch.matmul(q * scale, keys)
        return torch.matmul(torch.softmax(scores if mask is None else scores + mask, -1), v)
    missing = _HEADS - q.dim()
    q, k, v = (t[(None,) * missing] for t in (q, keys.transpose(-1, -2), v))
    y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return y[(0,) * missing]


def find(view: View, weights: fx.Node) -> Found | None:
    """The attention whose weights a Softmax gives; None if it is none."""
    if (
        weights.target is not softmax
        or precision(weights) is None
        or rank(weights) not in (_HEADS - 1, _HEADS)
    ):
        return None
    if weights.kwargs.get("axis", -1) not in (-1, (rank(weights) or 0) - 1):
        return None
    root = only_user(weights)
    if root is None or not is_op(root, "MatMul") or root.args[0] is not weights:
        return None
    scores: Any = weights.args[0]
    mask, inside = None, [weights]
    if is_op(scores, "Add"):
        found = _masked(view, scores)
        if found is None:
            return None
        inside.append(scores)
        scores, mask = found
    scores, scale = _unscaled(view, scores, inside)
    if not is_op(scores, "MatMul"):
        return None
    inside.append(scores)
    q, keys = scores.args
    q, factor = _unscaled(view, q, inside)
    keys, other = _unscaled(view, keys, inside)
    args = (q, keys, root.args[1], mask)
    if not all(isinstance(a, fx.Node) and rank(a) == rank(weights) for a in args[:3]):
        return None
    scale = scale * factor * other
    if scale <= 0:
        return None
    return Found(root, tuple(inside), attention, args, {"scale": scale}, "Attention", named=scores)


def _masked(view: View, add: fx.Node) -> tuple[Any, fx.Node | None] | None:
    """The scores and the constant mask that a node adds; None for one that torch's kernel does not take."""
    for scores, mask in (add.args, reversed(add.args)):
        held = view.constant(mask)
        if held is None:
            continue
        if view.number(mask, rank(add)) == 0:
            return scores, None
        fits = held.dtype == add.meta.get("dtype") and 2 <= held.dim() <= (rank(add) or 0)
        hidden = bool((held == -math.inf).all(-1).any())
        return (scores, mask) if fits and not hidden else None  # type: ignore[return-value]
    return None


def _unscaled(view: View, node: Any, inside: list[fx.Node]) -> tuple[Any, float]:
    """A value without the factor that a node multiplies it by, which alone reads it, and the factor."""
    if not is_op(node, "Mul", "Div") or only_user(node) is None or not view.may_go(node):
        return node, 1.0
    first, second = node.args
    number = view.number(second, rank(node))
    if number is None and is_op(node, "Mul"):
        first, number = second, view.number(first, rank(node))
    if not number:
        return node, 1.0
    inside.append(node)
    return first, 1 / number if is_op(node, "Div") else number
