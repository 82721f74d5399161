"""Linear attention as a recurrence, its causal convolution, and FlexAttention with score modifiers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from intrain_onnx.ops.registry import op


@op("CausalConvWithState", 27)
def causal_conv_with_state(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past_state: Tensor | None = None,
    *,
    n_outputs: int,
    activation: str = "none",
) -> tuple[Tensor, Tensor]:
    """Causal depthwise convolution; the state is the last (kernel - 1) inputs."""
    channels, reach = x.shape[1], weight.shape[2] - 1
    past = x.new_zeros(x.shape[0], channels, reach) if past_state is None else past_state
    padded = torch.cat([past, x], 2)
    y = F.conv1d(padded.float(), weight.float(), None if bias is None else bias.float(), groups=channels)
    y = F.silu(y) if activation in {"silu", "swish"} else y
    return y.to(x.dtype), padded[:, :, padded.shape[2] - reach :]


@op("LinearAttention", 27)
def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    n_outputs: int,
    kv_num_heads: int,
    q_num_heads: int,
    chunk_size: int = 64,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """Linear attention: a recurrence on a matrix state S for each head, in float32 or wider.

    S <- exp(decay) S; S <- S + k n', n = beta (v - S' k) (delta rule) or v without beta; y = scale S' q.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    q = _heads(query.to(wide), q_num_heads)
    k, v = _heads(key.to(wide), kv_num_heads), _heads(value.to(wide), kv_num_heads)
    fade = None if decay is None else _heads(decay.to(wide), kv_num_heads).exp()
    rate = None if beta is None else beta.to(wide).movedim(2, 1).unsqueeze(-1)
    if past_state is None:
        state = q.new_zeros(q.shape[0], kv_num_heads, k.shape[-1], v.shape[-1])
    else:
        state = past_state.to(wide)
    outputs = []
    for t in range(query.shape[1]):
        state = state if fade is None else state * fade[:, :, t].unsqueeze(-1)
        new = v[:, :, t]
        if rate is not None:
            new = rate[:, :, t] * (new - torch.einsum("bhdm,bhd->bhm", state, k[:, :, t]))
        state = state + k[:, :, t].unsqueeze(-1) * new.unsqueeze(-2)
        read = state.repeat_interleave(q_num_heads // kv_num_heads, 1)
        outputs.append(torch.einsum("bhd,bhdm->bhm", q[:, :, t], read))
    y = torch.stack(outputs, 1).flatten(2) * (scale or 1 / math.sqrt(k.shape[-1]))
    return y.to(query.dtype), state.to(query.dtype if past_state is None else past_state.dtype)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


@op("FlexAttention", 1, domain="ai.onnx.preview")
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    prob_mod: Callable[..., tuple[Tensor, ...]] | None = None,
    scale: float | None = None,
    score_mod: Callable[..., tuple[Tensor, ...]] | None = None,
    softmax_precision: torch.dtype | None = None,
) -> Tensor:
    """Attention of rank-4 tensors, with subgraphs that modify scores and probabilities."""
    precision = softmax_precision or torch.promote_types(query.dtype, torch.float32)
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.transpose(2, 3) * (1 / math.sqrt(query.shape[3]) if scale is None else scale)
    scores = scores.to(precision)
    probabilities = torch.softmax(scores if score_mod is None else score_mod(scores)[0], -1)
    if prob_mod is not None:
        (probabilities,) = prob_mod(probabilities)
    return probabilities.to(value.dtype) @ value
