"""com.microsoft operators that onnxruntime's optimiser and exporters write: products, activations, norms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops.attention import merge_heads, rotate, split_heads
from intrain_onnx.ops.conv import conv
from intrain_onnx.ops.linear import gemm
from intrain_onnx.ops.norm import layer_normalization, stash
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.window import Ints

MICROSOFT = "com.microsoft"

# onnxruntime's optimiser also writes it in opsets without it.
op("LayerNormalization", 1)(layer_normalization)


@op("FusedMatMul", 1, domain=MICROSOFT)
def fused_matmul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803 - ONNX's name
    transBatchA: int = 0,  # noqa: N803 - ONNX's name
    transBatchB: int = 0,  # noqa: N803 - ONNX's name
) -> Tensor:
    """``alpha op(A) op(B)``; ``transBatch`` first moves axis 0 behind the other batch axes."""
    a, b = (a.movedim(0, -2) if transBatchA else a), (b.movedim(0, -2) if transBatchB else b)
    a = a.transpose(-1, -2) if transA and a.dim() > 1 else a
    b = b.transpose(-1, -2) if transB and b.dim() > 1 else b
    y = torch.matmul(a, b)
    return y if alpha == 1.0 else y * alpha


def _activate(x: Tensor, name: str, parameters: list[float]) -> Tensor:
    """Apply one of the activations that onnxruntime fuses."""
    first, second = [*parameters, 0.0, 0.0][:2]
    match name:
        case "":
            return x
        case "Relu":
            return torch.relu(x)
        case "Sigmoid":
            return torch.sigmoid(x)
        case "Tanh":
            return torch.tanh(x)
        case "LeakyRelu":
            return functional.leaky_relu(x, first)
        case "Clip":
            return x.clamp(first, second)
        case "HardSigmoid":
            return (first * x + second).clamp(0, 1)
        case "Elu":
            return functional.elu(x, first)
        case "Softplus":
            return functional.softplus(x)
        case "Softsign":
            return functional.softsign(x)
    raise UnsupportedError(f"fused activation {name!r} is not known")


@op("FusedConv", 1, domain=MICROSOFT)
def fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: list[float] | None = None,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """activation(Conv + Z)."""
    y = conv(x, w, b, auto_pad=auto_pad, dilations=dilations, group=group, pads=pads, strides=strides)
    return _activate(y if z is None else y + z, activation, list(activation_params or []))


@op("FusedGemm", 1, domain=MICROSOFT)
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float = 0.0,
    activation_beta: float = 0.0,
    activation_gamma: float = 0.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - ONNX's name
    transB: int = 0,  # noqa: N803 - ONNX's name
) -> Tensor:
    """activation(Gemm)."""
    y = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return _activate(y, activation, [activation_alpha, activation_beta])


@op("Gelu", 1, domain=MICROSOFT)
def gelu(x: Tensor) -> Tensor:
    """GELU: ``x * Phi(x)``, Phi the standard normal distribution function."""
    return functional.gelu(x)


@op("BiasGelu", 1, domain=MICROSOFT)
def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Gelu of x + bias."""
    return functional.gelu(x + bias)


@op("FastGelu", 1, domain=MICROSOFT)
def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Tanh approximation of Gelu of x + bias."""
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


@op("QuickGelu", 1, domain=MICROSOFT)
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    return x * torch.sigmoid(alpha * x)


@op("SimplifiedLayerNormalization", 1)
def simplified_layer_normalization(
    x: Tensor,
    scale: Tensor,
    *,
    n_outputs: int,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Tensor, ...]:
    """RMS normalisation over the axes from ``axis`` on; also the inverse RMS as an optional output."""
    shape = x.shape[axis % x.dim() :]
    if n_outputs == 1 and scale.shape == shape and scale.dtype == x.dtype:
        return (functional.rms_norm(x, shape, scale, epsilon),)
    wide = stash(x, stash_type)
    mean_square = wide.square().mean(list(range(axis % x.dim(), x.dim())), keepdim=True)
    inverse = torch.rsqrt(mean_square + epsilon)
    return (wide * inverse).to(scale.dtype) * scale, inverse


@op("SkipLayerNormalization", 1, domain=MICROSOFT)
def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    n_outputs: int,
    epsilon: float = 1e-12,
) -> tuple[Tensor, ...]:
    """Layer normalisation of x + skip + bias; the sum is the last output."""
    total = x + skip if bias is None else x + skip + bias
    y = layer_normalization(total, gamma, beta, n_outputs=min(n_outputs, 3), epsilon=epsilon)
    return _with_sum(y, total, n_outputs)


@op("SkipSimplifiedLayerNormalization", 1, domain=MICROSOFT)
def skip_simplified_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    bias: Tensor | None = None,
    *,
    n_outputs: int,
    epsilon: float = 1e-5,
) -> tuple[Tensor, ...]:
    """RMS normalisation of x + skip + bias; the sum is the last output."""
    total = x + skip if bias is None else x + skip + bias
    y, *inverse = simplified_layer_normalization(total, gamma, n_outputs=min(n_outputs, 3), epsilon=epsilon)
    mean = [torch.zeros_like(v) for v in inverse]
    return _with_sum((y, *mean, *inverse), total, n_outputs)


def _with_sum(y: tuple[Tensor, ...], total: Tensor, n_outputs: int) -> tuple[Tensor, ...]:
    return (*y, total) if n_outputs > 3 else y


@op("EmbedLayerNormalization", 1, domain=MICROSOFT)
def embed_layer_normalization(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word_embedding: Tensor,
    position_embedding: Tensor,
    segment_embedding: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    n_outputs: int,
    epsilon: float = 1e-12,
    mask_index_type: int = 1,
) -> tuple[Tensor, ...]:
    """Layer normalisation of the sum of three embeddings; also counts of ones in each mask, and the sum."""
    total = functional.embedding(input_ids.long(), word_embedding)
    if position_ids is None:
        total = total + position_embedding[: input_ids.shape[1]]
    else:
        total = total + functional.embedding(position_ids.long(), position_embedding)
    if segment_ids is not None and segment_embedding is not None:
        total = total + functional.embedding(segment_ids.long(), segment_embedding)
    (y,) = layer_normalization(total, gamma, beta, n_outputs=1, epsilon=epsilon)
    counted = input_ids.new_zeros(input_ids.shape[0]) if mask is None else (mask == 1).sum(1)
    return y, counted.to(torch.int32), total


@op("RotaryEmbedding", 1, domain=MICROSOFT)
def rotary_embedding(
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """Rotary embedding; a single position is that of the first token of every sample."""
    packed = x.dim() == 3
    if packed:
        size = x.shape[2] // num_heads if num_heads else 2 * cos_cache.shape[1]
        x = split_heads(x, x.shape[2] // size)
    if position_ids.numel() == 1 and position_ids.dim() < 2:
        position_ids = position_ids.reshape(1, 1) + torch.arange(x.shape[2], device=x.device)
    cos, sin = cos_cache[position_ids.long()][:, None], sin_cache[position_ids.long()][:, None]
    y = rotate(x, cos, sin, rotary_embedding_dim, interleaved)
    return merge_heads(y) if packed else y
