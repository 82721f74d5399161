"""com.microsoft operators against onnxruntime's own kernels: by their bodies, and by their handlers."""

from functools import partial

import numpy as np
import pytest
from node_oracle import check

from intrain_onnx.rewrites import contrib_bodies

check = partial(check, domain="com.microsoft")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, params=["body", "handler"])
def written_by(request, monkeypatch):
    """A node goes through its body where it has one; without bodies its handler is left."""
    if request.param == "handler":
        monkeypatch.setattr(contrib_bodies, "BODIES", {})


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(dtype, *shape, low=None, high=None):
    info = np.iinfo(dtype)
    return RNG.integers(info.min if low is None else low, info.max if high is None else high, shape).astype(
        dtype
    )


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


@pytest.mark.parametrize(
    ("a", "b", "attributes"),
    [
        ((3, 4), (4, 5), {"alpha": 0.5}),
        ((2, 4, 3), (2, 4, 5), {"transA": 1}),
        ((2, 3, 4), (2, 5, 4), {"transB": 1, "alpha": 2.0}),
        ((3, 2, 4), (2, 4, 5), {"transBatchA": 1}),
        ((2, 3, 4), (5, 2, 4), {"transBatchB": 1, "transB": 1}),
    ],
)
def test_fused_matmul(a, b, attributes):
    check("FusedMatMul", [normal(*a), normal(*b)], **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"activation": "Relu"},
        {"activation": "LeakyRelu", "activation_params": [0.2]},
        {"activation": "Clip", "activation_params": [-0.5, 0.5]},
        {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]},
        {"activation": "Sigmoid", "strides": [2, 2]},
        {"activation": "Tanh", "group": 2},
    ],
)
def test_fused_conv(attributes):
    channels = 4 // attributes.get("group", 1)
    check(
        "FusedConv",
        [normal(1, 4, 7, 7), normal(6, channels, 3, 3), normal(6)],
        pads=[1, 1, 1, 1],
        **attributes,
    )


def test_fused_conv_adds_before_the_activation():
    check(
        "FusedConv",
        [normal(1, 2, 5, 5), normal(3, 2, 3, 3), normal(3), normal(1, 3, 3, 3)],
        activation="Relu",
    )


@pytest.mark.parametrize("activation", ["Relu", "Tanh", "LeakyRelu"])
def test_fused_gemm(activation):
    values = [normal(3, 4), normal(5, 4), normal(5)]
    check("FusedGemm", values, transB=1, alpha=0.5, activation=activation, activation_alpha=0.1)


def test_gelus():
    x = normal(3, 8)
    check("Gelu", [x])
    check("BiasGelu", [x, normal(8)])
    check("FastGelu", [x, normal(8)])
    check("FastGelu", [x])
    check("QuickGelu", [x], alpha=1.5)


def test_simplified_layer_normalization_of_the_default_domain():
    check("SimplifiedLayerNormalization", [normal(2, 3, 8), normal(8)], domain="", epsilon=1e-3)


def test_layer_normalization_before_opset_17():
    check(
        "LayerNormalization",
        [normal(2, 3, 8), normal(8), normal(8)],
        domain="",
        opset_version=13,
        n_outputs=3,
    )


@pytest.mark.parametrize("skip", [(2, 3, 8), (1, 3, 8), (3, 8)])
def test_skip_layer_normalization(skip):
    values = [normal(2, 3, 8), normal(*skip), normal(8), normal(8), normal(8)]
    check("SkipLayerNormalization", values, outputs=["y", "", "", "sum"], epsilon=1e-5)
    check("SkipSimplifiedLayerNormalization", values[:3], outputs=["y", "", "", "sum"], epsilon=1e-5)


def test_embed_layer_normalization():
    ids, segments = ints(np.int32, 2, 5, low=0, high=9), ints(np.int32, 2, 5, low=0, high=2)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    values = [ids, segments, normal(9, 8), normal(6, 8), normal(2, 8), normal(8), normal(8), mask]
    check("EmbedLayerNormalization", values, n_outputs=3)
    check("EmbedLayerNormalization", [ids, None, *values[2:4], None, *values[5:7]], n_outputs=2)


MASKS = {
    "none": None,
    "lengths": np.array([3, 5], np.int32),
    "ends and starts": np.array([4, 5, 1, 2], np.int32),
    "keys": np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]], np.int32),
    "queries and keys": RNG.integers(0, 2, (2, 5, 5)).astype(np.int32) | np.eye(5, dtype=np.int32),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask, causal):
    values = [normal(2, 5, 6), normal(6, 24), normal(24), MASKS[mask]]
    check("Attention", values, num_heads=2, unidirectional=causal, atol=1e-4)


def test_attention_with_a_past_or_a_bias():
    values = [normal(2, 3, 6), normal(6, 24), normal(24), None, normal(2, 2, 2, 4, 4)]
    check("Attention", values, num_heads=2, unidirectional=1, n_outputs=2)
    check("Attention", [*values[:3], None, None, normal(2, 2, 3, 3)], num_heads=2)


def test_attention_with_a_value_size_of_its_own():
    check("Attention", [normal(2, 3, 6), normal(6, 22), normal(22)], num_heads=2, qkv_hidden_sizes=[8, 8, 6])


def test_multi_head_attention_of_separate_inputs():
    q, k, v, bias = normal(2, 3, 8), normal(2, 5, 8), normal(2, 5, 8), normal(24)
    check("MultiHeadAttention", [q, k, v], num_heads=2)
    check("MultiHeadAttention", [q, k, v, bias, MASKS["keys"]], num_heads=2, scale=0.3)
    check("MultiHeadAttention", [q, k, v, None, None, normal(1, 2, 3, 5)], num_heads=2)


def test_multi_head_attention_with_a_cache():
    q, past = normal(2, 3, 8), [normal(2, 2, 4, 4), normal(2, 2, 4, 4)]
    values = [q, normal(2, 3, 8), normal(2, 3, 8), None, None, None, *past]
    check("MultiHeadAttention", values, num_heads=2, n_outputs=3, unidirectional=1)


def test_multi_head_attention_of_given_heads():
    check("MultiHeadAttention", [normal(2, 3, 8), normal(2, 2, 5, 4), normal(2, 2, 5, 4)], num_heads=2)


def rotary_caches(length, half):
    angles = np.outer(np.arange(length), 1 / 100 ** np.linspace(0, 1, half))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"local_window_size": 2}, {"softcap": 3.0}, {"scale": 0.2}])
def test_group_query_attention_of_a_prompt(options):
    values = [normal(2, 5, 32), normal(2, 5, 16), normal(2, 5, 16), None, None]
    values += [np.array([4, 4], np.int32), scalar(5, np.int32)]
    check("GroupQueryAttention", values, num_heads=4, kv_num_heads=2, n_outputs=3, **options)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("lengths", [(4, 4), (2, 4)])
def test_group_query_attention_of_a_step_with_a_cache(lengths, interleaved):
    past = [normal(2, 2, 4, 16), normal(2, 2, 4, 16)]
    values = [normal(2, 1, 64), normal(2, 1, 32), normal(2, 1, 32), *past]
    values += [np.array(lengths, np.int32), scalar(5, np.int32), *rotary_caches(16, 8)]
    options = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1, "rotary_interleaved": interleaved}
    check("GroupQueryAttention", values, n_outputs=3, compare=[0], **options)


def test_group_query_attention_of_packed_inputs_with_a_sink():
    values = [normal(1, 3, 64), None, None, None, None, np.array([2], np.int32), scalar(3, np.int32)]
    values += [None, None, None, None, normal(4)]
    check("GroupQueryAttention", values, num_heads=4, kv_num_heads=2, n_outputs=3)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding(interleaved):
    caches = rotary_caches(16, 4)
    check("RotaryEmbedding", [normal(2, 3, 16), np.array([2], np.int64), *caches], interleaved=interleaved)
    positions = np.array([[0, 1, 2], [5, 6, 7]], np.int64)
    check("RotaryEmbedding", [normal(2, 2, 3, 8), positions, *caches], interleaved=interleaved)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero_points", [False, True])
def test_matmul_nbits(bits, zero_points):
    k, n, block = 40, 6, 16
    blocks = -(-k // block)
    packed = ints(np.uint8, n, blocks, block * bits // 8)
    zero = ints(np.uint8, n, -(-blocks * bits // 8)) if zero_points else None
    values = [normal(3, k), packed, np.abs(normal(n, blocks)) * 0.1, zero]
    check("MatMulNBits", values, K=k, N=n, block_size=block, bits=bits, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_elementwise_on_quantised_values(dtype):
    a, b = ints(dtype, 2, 3, 8), ints(dtype, 2, 3, 8)
    zero, other = scalar(3, dtype), scalar(7, dtype)
    pair = [a, scalar(0.1), zero, b, scalar(0.05), other]
    check("QLinearAdd", [*pair, scalar(0.2), zero], steps=1)
    check("QLinearMul", [*pair, scalar(0.9), zero], steps=1)
    check("QLinearSigmoid", [a, scalar(0.05), zero, scalar(1 / 256), scalar(0, dtype)], steps=1)
    check("QLinearLeakyRelu", [a, scalar(0.05), zero, scalar(0.06), other], alpha=0.2, steps=1)
    check("QLinearConcat", [scalar(0.1), zero, a, scalar(0.1), zero, b, scalar(0.05), other], axis=1, steps=1)
    condition = RNG.integers(0, 2, a.shape).astype(bool)
    check("QLinearWhere", [condition, *pair, scalar(0.2), zero], steps=1)


@pytest.mark.parametrize("opset", [11, 13])
def test_qlinear_softmax(opset):
    values = [
        ints(np.uint8, 2, 3, 4),
        scalar(0.02),
        scalar(9, np.uint8),
        scalar(1 / 256),
        scalar(0, np.uint8),
    ]
    check("QLinearSoftmax", values, axis=1, opset=opset, steps=1)


@pytest.mark.parametrize("channels_last", [0, 1])
def test_quantised_pooling(channels_last):
    tail = [scalar(0.1), scalar(5, np.uint8), scalar(0.08), scalar(6, np.uint8)]
    values = [ints(np.uint8, 2, 6, 6, 3) if channels_last else ints(np.uint8, 2, 3, 6, 6), *tail]
    check("QLinearGlobalAveragePool", values, channels_last=channels_last, steps=1)
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    check("QLinearAveragePool", values, channels_last=channels_last, steps=1, **window)


def test_qgemm():
    values = [ints(np.uint8, 3, 4), scalar(0.1), scalar(9, np.uint8)]
    values += [
        ints(np.int8, 5, 4),
        normal(5) ** 2 + 0.1,
        np.zeros(5, np.int8),
        ints(np.int32, 5, low=-99, high=99),
    ]
    check("QGemm", values, transB=1)
    check("QGemm", [*values, scalar(0.3), scalar(11, np.uint8)], transB=1, steps=1)


def test_float_products_of_quantised_values():
    a, b = ints(np.uint8, 3, 16), ints(np.int8, 16, 5)
    scales, zeros = normal(5) ** 2 + 0.1, ints(np.int8, 5, low=-3, high=3)
    check("MatMulIntegerToFloat", [a, b, scalar(0.1), scales, scalar(4, np.uint8), zeros, normal(5)])
    check("DynamicQuantizeMatMul", [normal(3, 16), b, scales, zeros, normal(5)])


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_dynamic_quantize_lstm(direction):
    n, size, hidden = (2 if direction == "bidirectional" else 1), 3, 4
    w, r = ints(np.int8, n, size, 4 * hidden), ints(np.int8, n, hidden, 4 * hidden)
    scales = [np.full((n,), 0.01, np.float32), np.zeros((n,), np.int8)]
    values = [normal(5, 2, size), w, r, normal(n, 8 * hidden), None, None, None, None, *scales, *scales]
    # Batches are quantised by thread in onnxruntime, so a step of the state's quantisation may differ.
    check(
        "DynamicQuantizeLSTM",
        values,
        n_outputs=3,
        hidden_size=hidden,
        direction=direction,
        rtol=1e-2,
        atol=1e-2,
    )
