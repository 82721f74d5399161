"""com.microsoft attention operators, with their masks and caches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops.attention import attend, merge_heads, repeat_heads, rotate, split_heads, window_mask
from intrain_onnx.ops.contrib import MICROSOFT
from intrain_onnx.ops.registry import op


@op("Attention", 1, domain=MICROSOFT)
def attention(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask_index: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *,
    n_outputs: int,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    qkv_hidden_sizes: list[int] | None = None,
    scale: float | None = None,
    unidirectional: int = 0,
) -> tuple[Tensor, ...]:
    """Self-attention with a packed weight for the query, key and value projections."""
    projected = torch.matmul(x, weights) if bias is None else torch.matmul(x, weights) + bias
    sizes = qkv_hidden_sizes or [weights.shape[1] // 3] * 3
    q, k, v = (split_heads(part, num_heads) for part in torch.split(projected, sizes, -1))
    offset = 0
    if past is not None:
        offset = past.shape[3]
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    hidden = None if mask_index is None else _hidden(mask_index, q, k, offset)
    total_bias = _combine(q, k, offset, unidirectional, hidden, mask_filter_value, attention_bias)
    y = attend(q, k, v, total_bias, 1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    return (merge_heads(y), torch.stack([k, v])) if n_outputs > 1 else (merge_heads(y),)


def _hidden(mask: Tensor, q: Tensor, k: Tensor, offset: int) -> Tensor:
    """Boolean mask of hidden keys from a mask of any rank, broadcasting over the scores."""
    batch, keys = q.shape[0], k.shape[2]
    if mask.dim() == 1:
        place = torch.arange(keys, device=mask.device)
        hidden = place >= mask[:batch, None]
        if mask.shape[0] == 2 * batch:
            hidden = hidden | (place < mask[batch:, None])
        return hidden[:, None, None]
    if mask.dim() == 2:
        return (mask == 0)[:, None, None]
    if mask.dim() == 3:
        return (mask == 0)[:, None]
    return mask[:, :, offset : offset + q.shape[2], :keys] == 0


def _combine(
    q: Tensor,
    k: Tensor,
    offset: int,
    causal: int,
    hidden: Tensor | None,
    filter_value: float,
    bias: Tensor | None,
) -> Tensor | None:
    """The sum of all additive masks and biases of the scores."""
    if hidden is not None:
        filtered = torch.zeros_like(hidden, dtype=q.dtype).masked_fill(hidden, filter_value)
        bias = filtered if bias is None else bias + filtered
    if not causal:
        return bias
    visible = window_mask(q, k, offset, -1, 0)
    assert visible is not None
    return torch.where(visible, 0.0 if bias is None else bias, -math.inf).to(q.dtype)


@op("MultiHeadAttention", 1, domain=MICROSOFT)
def multi_head_attention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    *,
    n_outputs: int,
    num_heads: int,
    mask_filter_value: float = -10000.0,
    scale: float | None = None,
    unidirectional: int = 0,
) -> tuple[Tensor, ...]:
    """Multi-head attention of projected queries, keys and values, packed or not, with their biases."""
    q, k, v = _query_key_value(query, key, value, bias, num_heads)
    offset = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    hidden = None if key_padding_mask is None else _hidden(key_padding_mask, q, k, offset)
    total_bias = _combine(q, k, offset, unidirectional, hidden, mask_filter_value, attention_bias)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    y = merge_heads(attend(q, k, v, total_bias, scale))
    if n_outputs <= 3:
        return y, k, v
    scores = torch.matmul(q, k.transpose(2, 3)) * scale
    return y, k, v, scores if total_bias is None else scores + total_bias


def _query_key_value(
    query: Tensor, key: Tensor | None, value: Tensor | None, bias: Tensor | None, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as (batch, heads, time, size), from any of the packed layouts."""
    if query.dim() == 5:  # (batch, time, heads, 3, size)
        parts = [part.transpose(1, 2) for part in query.unbind(3)]
    else:
        parts = [split_heads(query, heads)]
        if key is not None and key.dim() == 5:  # (batch, time, heads, 2, size)
            parts += [part.transpose(1, 2) for part in key.unbind(3)]
        else:
            parts += [t if t.dim() == 4 else split_heads(t, heads) for t in (key, value) if t is not None]
    if len(parts) != 3:
        raise UnsupportedError("attention needs a query, a key and a value")
    if bias is not None:
        biases = torch.split(bias, [part.shape[1] * part.shape[3] for part in parts])
        given = [True, key is None or key.dim() != 4, value is None or value.dim() != 4]
        parts = [
            part + b.reshape(1, heads, 1, -1) if add else part
            for part, b, add in zip(parts, biases, given, strict=True)
        ]
    return parts[0], parts[1], parts[2]


@op("GroupQueryAttention", 1, domain=MICROSOFT)
def group_query_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    seqlens_k: Tensor,
    total_sequence_length: Tensor,
    cos_cache: Tensor | None = None,
    sin_cache: Tensor | None = None,
    position_ids: Tensor | None = None,
    attention_bias: Tensor | None = None,
    head_sink: Tensor | None = None,
    *,
    n_outputs: int,
    num_heads: int,
    kv_num_heads: int,
    do_rotary: int = 0,
    causal: int = 1,
    local_window_size: int = -1,
    rotary_interleaved: int = 0,
    scale: float | None = None,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
) -> tuple[Tensor, ...]:
    """Causal grouped-query attention; appends keys and values after each sample's length in the KV cache."""
    if key is None or value is None:
        size = query.shape[2] // (num_heads + 2 * kv_num_heads)
        sizes = [num_heads * size, kv_num_heads * size, kv_num_heads * size]
        query, key, value = torch.split(query, sizes, -1)
    q, k, v = split_heads(query, num_heads), split_heads(key, kv_num_heads), split_heads(value, kv_num_heads)
    total, time = int(total_sequence_length), q.shape[2]
    lengths = seqlens_k.reshape(-1).long() + 1
    before = torch.zeros_like(lengths) if time == total else lengths - time
    places = before[:, None] + torch.arange(time, device=q.device)
    if do_rotary and cos_cache is not None and sin_cache is not None:
        positions = places if position_ids is None else position_ids.long()
        cos, sin = cos_cache[positions][:, None], sin_cache[positions][:, None]
        q, k = (rotate(t, cos, sin, 2 * cos.shape[-1], rotary_interleaved) for t in (q, k))
    k, v = _write_cache(past_key, k, places, total), _write_cache(past_value, v, places, total)
    keys, values = repeat_heads(k[:, :, :total], num_heads), repeat_heads(v[:, :, :total], num_heads)
    right = 0 if causal else int(keys.shape[2])
    left = local_window_size - 1 if local_window_size > 0 else -1  # the window counts the query itself
    visible = window_mask(q, keys, before[:, None, None, None], left, right)
    assert visible is not None
    visible = visible & (torch.arange(total, device=q.device) < lengths[:, None, None, None])
    scores = torch.matmul(q, keys.transpose(2, 3)) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    scores = torch.tanh(scores / softcap) * softcap if softcap else scores
    scores = scores if attention_bias is None else scores + attention_bias[..., :total]
    weights = _softmax_with_sink(scores.masked_fill(~visible, -math.inf), head_sink, smooth_softmax)
    return merge_heads(torch.matmul(weights, values)), k, v


def _write_cache(past: Tensor | None, new: Tensor, places: Tensor, total: int) -> Tensor:
    """A copy of the cache, at least ``total`` long, with the new entries at their positions in time."""
    length = total if past is None else max(total, past.shape[2])
    cache = new.new_zeros(*new.shape[:2], length, new.shape[3])
    if past is not None:
        cache = torch.cat([past, cache[:, :, past.shape[2] :]], 2)
    return cache.scatter(2, places[:, None, :, None].expand_as(new), new)


def _softmax_with_sink(scores: Tensor, sink: Tensor | None, smooth: int) -> Tensor:
    """Softmax with an attention sink: one more term in the denominator, exp(sink) of each head, or 1."""
    if sink is None and smooth <= 0:
        return torch.softmax(scores, -1)
    extra = scores.new_zeros(1) if sink is None else sink.to(scores.dtype)
    extra = extra.reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.softmax(torch.cat([scores, extra], -1), -1)[..., :-1]
