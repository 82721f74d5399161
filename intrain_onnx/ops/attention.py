"""Scaled dot-product attention and rotary position embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.ops.activation import softmax
from intrain_onnx.ops.registry import op


@op("Attention", 23, 24, 25)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    n_outputs: int,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: torch.dtype | None = None,
) -> tuple[Tensor, ...]:
    """softmax(scale q k' + bias) v, for multi-head, grouped and multi-query attention, with a KV cache."""
    packed = q.dim() == 3
    if packed:
        if not q_num_heads or not kv_num_heads:
            raise ValueError("3-D inputs need q_num_heads and kv_num_heads")
        q, k, v = split_heads(q, q_num_heads), split_heads(k, kv_num_heads), split_heads(v, kv_num_heads)
    offset: int | Tensor = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    elif nonpad_kv_seqlen is not None:
        offset = nonpad_kv_seqlen.reshape(-1, 1, 1, 1) - q.shape[2]
    present = (k, v)
    causal_alone = bool(is_causal) and attn_mask is None and isinstance(offset, int) and offset == 0
    causal_alone = causal_alone and left_window_size < 0 and right_window_size < 0
    k, v = repeat_heads(k, q.shape[1]), repeat_heads(v, q.shape[1])
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    plain = n_outputs < 4 and not softcap and softmax_precision in (None, q.dtype)
    plain = plain and q.dtype != torch.float16  # torch's kernel rounds once, ONNX's steps each round
    if causal_alone and plain:
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        return (merge_heads(y) if packed else y), *present
    right = 0 if is_causal else right_window_size
    right = min(right, right_window_size) if is_causal and right_window_size >= 0 else right
    visible = window_mask(q, k, offset, left_window_size, right)
    if nonpad_kv_seqlen is not None:
        real = torch.arange(k.shape[2], device=q.device) < nonpad_kv_seqlen.reshape(-1, 1, 1, 1)
        visible = real if visible is None else visible & real
    bias = attention_bias(attn_mask, visible, k.shape[2], q.dtype)
    if plain:
        y = attend(q, k, v, bias, scale)
        return (merge_heads(y) if packed else y), *present
    y, scores = _attend_by_steps(q, k, v, bias, scale, softcap, softmax_precision, qk_matmul_output_mode)
    return ((merge_heads(y) if packed else y), *present, scores)[: max(n_outputs, 3)]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """Repeat key or value heads to the number of query heads, each for a group of consecutive ones."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def window_mask(q: Tensor, k: Tensor, offset: int | Tensor, left: int, right: int) -> Tensor | None:
    """Sliding-window mask, true for keys from ``left`` before a query to ``right`` after it (-1: no bound).

    ``offset`` is the position of the first query among the keys: a number, or a tensor that broadcasts over
    (batch, heads, queries, keys).
    """
    if left < 0 and right < 0:
        return None
    query = torch.arange(q.shape[2], device=q.device)[:, None] + offset
    distance = query - torch.arange(k.shape[2], device=q.device)
    visible = torch.ones_like(distance, dtype=torch.bool)
    if left >= 0:
        visible = visible & (distance <= left)
    if right >= 0:
        visible = visible & (-distance <= right)
    return visible


def attention_bias(
    mask: Tensor | None, visible: Tensor | None, keys: int, dtype: torch.dtype
) -> Tensor | None:
    """The additive mask of the scores: 0 or the float mask for visible keys, minus infinity for others."""
    if mask is None:
        return None if visible is None else _hide(visible, dtype)
    missing = keys - mask.shape[-1]
    if missing > 0:
        mask = functional.pad(mask, [0, missing], value=False if mask.dtype == torch.bool else -math.inf)
    bias = _hide(mask, dtype) if mask.dtype == torch.bool else mask.to(dtype)
    return bias if visible is None else torch.where(visible, bias, -math.inf)


def _hide(visible: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, -math.inf)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention by torch's fused kernel; a query with no visible key gives zeros."""
    if bias is None:
        return functional.scaled_dot_product_attention(q, k, v, scale=scale)
    bias, blind = _open_blind_rows(bias)
    y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    return y.masked_fill(blind, 0.0)


def _open_blind_rows(bias: Tensor) -> tuple[Tensor, Tensor]:
    """Unmask fully masked rows, whose softmax would be NaN; returns the bias and a mask of these rows."""
    bias = bias.reshape([1] * (4 - bias.dim()) + list(bias.shape))
    blind = (bias == -math.inf).all(-1, keepdim=True)
    return bias.masked_fill(blind, 0.0), blind


def _attend_by_steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float,
    precision: torch.dtype | None,
    mode: int,
) -> tuple[Tensor, Tensor]:
    """Attention step by step, and its scores: the product, or after soft cap, bias or softmax."""
    root = torch.tensor(math.sqrt(scale), dtype=q.dtype, device=q.device)
    scores = torch.matmul(q * root, (k * root).transpose(2, 3))
    stages = [scores]
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    stages += [scores, scores if bias is None else scores + bias]
    blind = None
    if bias is not None:
        opened, blind = _open_blind_rows(bias)
        scores = scores + opened
    weights = softmax(scores if precision is None else scores.to(precision)).to(q.dtype)
    weights = weights if blind is None else weights.masked_fill(blind, 0.0)
    stages.append(weights)
    return torch.matmul(weights, v), stages[mode]


@op("RotaryEmbedding", 23)
def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Rotary position embedding: rotates pairs of features by angles proportional to the position."""
    packed = x.dim() == 3
    heads = split_heads(x, num_heads) if packed else x
    if position_ids is not None:
        cos_cache, sin_cache = cos_cache[position_ids.long()], sin_cache[position_ids.long()]
    y = rotate(heads, cos_cache[:, None], sin_cache[:, None], rotary_embedding_dim, interleaved)
    return merge_heads(y) if packed else y


def rotate(x: Tensor, cos: Tensor, sin: Tensor, size: int, interleaved: int) -> Tensor:
    """Rotate the first ``size`` features (0 for all) of (batch, heads, time, features)."""
    size = size or x.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    if interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        y = torch.stack([cos * a - sin * b, sin * a + cos * b], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        y = torch.cat([cos * a - sin * b, sin * a + cos * b], -1)
    return torch.cat([y, rest], -1) if rest.shape[-1] else y
