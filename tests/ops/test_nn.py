"""Convolution, pooling, normalisation, products and losses against onnxruntime; gradients by differences."""

import itertools

import numpy as np
import pytest
import torch
from node_oracle import check, ours, single_node
from torch.autograd import gradcheck

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops import attention, conv, deform, linear, loss, norm, pool

RNG = np.random.default_rng(0)
AUTO = ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def double(*shape):
    return torch.from_numpy(RNG.standard_normal(shape)).requires_grad_()


@pytest.mark.parametrize("auto_pad", AUTO)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv(rank, auto_pad):
    values = [normal(2, 4, *[8, 7, 6][:rank]), normal(6, 2, *[3, 2, 3][:rank]), normal(6)]
    options = {"strides": [2, 1, 2][:rank], "group": 2, "auto_pad": auto_pad}
    check("Conv", values, **options, **({"dilations": [1, 2, 1][:rank]} if auto_pad == "NOTSET" else {}))


@pytest.mark.parametrize("pads", [[1, 2, 1, 2], [0, 1, 2, 3]])
def test_conv_pads(pads):
    check("Conv", [normal(1, 2, 6, 6), normal(3, 2, 3, 3)], pads=pads)


@pytest.mark.parametrize("auto_pad", AUTO)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_transpose(rank, auto_pad):
    values = [normal(1, 4, *[4, 5, 3][:rank]), normal(4, 3, *[3, 4, 2][:rank]), normal(6)]
    check("ConvTranspose", values, group=2, strides=[2, 3, 2][:rank], auto_pad=auto_pad)


@pytest.mark.parametrize(
    "options",
    [
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 1, 2, 1]},
        {"pads": [1, 1, 1, 1], "output_padding": [1, 0]},
        {"output_shape": [10, 9]},
        {"output_shape": [8, 7], "auto_pad": "SAME_UPPER"},
        {"dilations": [2, 1]},
    ],
)
def test_conv_transpose_sizes(options):
    check("ConvTranspose", [normal(1, 2, 4, 4), normal(2, 3, 3, 3)], strides=[2, 2], **options)


POOLS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1, "pads": [1, 0, 0, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [1, 2], "auto_pad": "VALID"},
    {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("options", POOLS)
def test_pools(options):
    x = normal(2, 3, 9, 8)
    check("MaxPool", [x], n_outputs=1, **options)
    check("LpPool", [np.abs(x) + 0.1], p=3, **options)
    for include in (0, 1):
        check("AveragePool", [x], count_include_pad=include, **options)


@pytest.mark.parametrize("options", POOLS[:4])
@pytest.mark.parametrize("storage_order", [0, 1])
def test_max_pool_indices_point_at_the_values(options, storage_order):
    x = normal(2, 3, 9, 8)
    model, inputs = single_node("MaxPool", [x], n_outputs=2, storage_order=storage_order, **options)
    y, index = ours(model, inputs)
    order = x if not storage_order else x.transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(order.reshape(-1)[index.numpy()], y.numpy())


def test_max_unpool_puts_back_what_max_pool_found():
    x = torch.rand(2, 3, 6, 4) + 1
    y, index = pool.max_pool(x, kernel_shape=[2, 2], strides=[2, 2], n_outputs=2)
    back = pool.max_unpool(y, index, kernel_shape=[2, 2], strides=[2, 2])
    torch.testing.assert_close(back, torch.where(back > 0, x, 0.0))
    assert (back > 0).sum() == y.numel()


def test_pools_of_bytes_and_of_everything():
    x = normal(2, 3, 4, 5)
    check(
        "MaxPool",
        [RNG.integers(0, 255, (1, 2, 6, 6)).astype(np.uint8)],
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
    )
    check("GlobalAveragePool", [x])
    check("GlobalMaxPool", [x])
    check("GlobalLpPool", [x], p=2)


def test_max_roi_pool():
    rois = np.array([[0, 0, 0, 7, 7], [1, 2, 3, 6, 5], [1, 5, 5, 5, 5]], np.float32)
    check("MaxRoiPool", [normal(2, 3, 8, 8), rois], pooled_shape=[3, 2], spatial_scale=0.9)


@pytest.mark.parametrize(
    ("a", "b", "alpha", "c"), list(itertools.product([0, 1], [0, 1], [1.0, 0.5], [None, 0, 1, 2]))
)
def test_gemm(a, b, alpha, c):
    bias = None if c is None else normal(*[(), (5,), (3, 1)][c])
    values = [normal(*((4, 3) if a else (3, 4))), normal(*((5, 4) if b else (4, 5))), bias]
    check("Gemm", values, transA=a, transB=b, alpha=alpha, beta=1.0 if alpha == 1.0 else 2.0)


def test_integer_products_are_exact():
    a, b = (RNG.integers(-(2**40), 2**40, shape) for shape in ((3, 4), (4, 2)))
    got = linear.matmul(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_array_equal(got.numpy(), a @ b)


@pytest.mark.parametrize("opset", [8, 9, 14, 15])
def test_batch_normalization_in_inference(opset):
    values = [normal(2, 3, 4, 4), normal(3), normal(3), normal(3), normal(3) ** 2 + 0.5]
    check("BatchNormalization", values, opset_version=opset, epsilon=1e-3)


def test_batch_normalization_in_training_is_torchs_with_the_biased_variance():
    x, module = torch.randn(4, 3, 5), torch.nn.BatchNorm1d(3, momentum=0.1)
    y, mean, var = norm.batch_normalization(
        x, module.weight, module.bias, torch.zeros(3), torch.ones(3), n_outputs=3, training_mode=1
    )
    torch.testing.assert_close(y, module(x))
    torch.testing.assert_close(mean, module.running_mean)
    torch.testing.assert_close(var, 0.9 + 0.1 * x.var((0, 2), unbiased=False))


def test_running_statistics_get_no_gradient():
    x, scale, bias, mean = double(2, 3, 4), double(3), double(3), double(3)
    var = (double(3) ** 2 + 1).detach().requires_grad_()
    (y,) = norm.batch_normalization(x, scale, bias, mean, var, n_outputs=1)
    y.square().sum().backward()
    assert scale.grad is not None
    assert mean.grad is None
    assert var.grad is None


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer_normalization(axis):
    x = normal(2, 3, 4, 5)
    shape = x.shape[axis % 4 :]
    check("LayerNormalization", [x, normal(*shape), normal(*shape)], axis=axis, n_outputs=3)
    check("LayerNormalization", [x, normal(*shape)], axis=axis)


def test_other_norms():
    x = normal(2, 6, 5, 4)
    check("InstanceNormalization", [x, normal(6), normal(6)], epsilon=1e-3)
    check("GroupNormalization", [x, normal(6), normal(6)], num_groups=3)
    check("GroupNormalization", [x, normal(3), normal(3)], num_groups=3, opset_version=18)
    check("MeanVarianceNormalization", [x])
    check("LpNormalization", [x], axis=1, p=1)
    check("LRN", [x], size=3, alpha=0.1, bias=2.0)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_lrn_of_any_size(size):
    x, channels = normal(2, 6, 3), 6
    windows = [slice(max(0, c - (size - 1) // 2), c + size // 2 + 1) for c in range(channels)]
    total = np.stack([(x[:, w] ** 2).sum(1) for w in windows], 1)
    got = norm.lrn(torch.from_numpy(x), size=size, alpha=0.3, beta=0.5, bias=2.0)
    np.testing.assert_allclose(got.numpy(), x / np.sqrt(2 + 0.3 / size * total), rtol=1e-5)


def test_one_value_a_channel_normalises_to_the_bias():
    bias = torch.randn(6)
    y = norm.instance_normalization(torch.randn(2, 6, 1), torch.ones(6), bias)
    torch.testing.assert_close(y, bias[:, None].expand(2, 6, 1), rtol=0, atol=1e-4)


def test_dropout_does_nothing_in_inference():
    x = normal(3, 4)
    for opset in (7, 10):
        check("Dropout", [x], opset_version=opset, ratio=0.3)
    check("Dropout", [x, np.array(0.7, np.float32)], n_outputs=2)


def test_dropout_in_training_keeps_the_mean_and_repeats_itself():
    options = {"n_outputs": 2, "stream": 3}
    x, ratio, training = torch.ones(100, 100), torch.tensor(0.25), torch.tensor(True)
    y, mask = norm.dropout(x, ratio, training, **options)
    assert abs(y.mean() - 1) < 0.02
    assert abs(mask.float().mean() - 0.75) < 0.02
    torch.testing.assert_close(norm.dropout(x, ratio, training, **options)[0], y)


@pytest.mark.parametrize("options", [{}, {"is_causal": 1}, {"scale": 0.3}, {"softcap": 2.0}])
def test_attention(options):
    q, k, v = normal(2, 4, 3, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 6)
    check("Attention", [q, k, v], opset_version=23, **options)
    mask = RNG.integers(0, 2, (3, 5)).astype(bool) | np.eye(3, 5, dtype=bool)
    check("Attention", [q, k, v, mask], opset_version=23, **options)
    past = [normal(2, 2, 4, 8), normal(2, 2, 4, 6)]
    check("Attention", [q, k, v, None, *past], n_outputs=3, opset_version=23, **options)


def test_a_query_that_sees_nothing_gives_zeros_and_no_nan():
    q, k, v = double(1, 1, 2, 4), double(1, 1, 3, 4), double(1, 1, 3, 4)
    mask = torch.tensor([[False, False, False], [True, False, True]])
    (y, *_) = attention.attention(q, k, v, mask, n_outputs=1)
    y.square().sum().backward()
    assert not y[0, 0, 0].any()
    assert all(torch.isfinite(t.grad).all() for t in (q, k, v))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding_keeps_norms_and_relative_positions(interleaved):
    angles = torch.outer(torch.arange(9.0), 1 / 10 ** torch.linspace(0, 1, 4))
    q, k = torch.randn(8), torch.randn(8)

    def at(x, position):
        place = torch.tensor([[position]])
        return attention.rotary_embedding(
            x.reshape(1, 1, 1, 8), angles.cos(), angles.sin(), place, interleaved=interleaved
        ).reshape(-1)

    torch.testing.assert_close(at(q, 5).norm(), q.norm())
    torch.testing.assert_close(at(q, 6) @ at(k, 4), at(q, 3) @ at(k, 1))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses(reduction):
    scores, labels = normal(3, 5, 2), RNG.integers(0, 5, (3, 2))
    labels[0, 0] = 2
    options = {"reduction": reduction, "ignore_index": 2}
    check(
        "SoftmaxCrossEntropyLoss", [scores, labels, normal(5) ** 2], n_outputs=2, opset_version=13, **options
    )
    got = loss.negative_log_likelihood_loss(torch.from_numpy(scores), torch.from_numpy(labels), **options)
    picked = -np.take_along_axis(scores, labels[:, None], 1)[:, 0] * (labels != 2)
    expected = {"none": picked, "sum": picked.sum(), "mean": picked.sum() / (labels != 2).sum()}[reduction]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_a_deformable_convolution_that_does_not_deform_is_a_convolution():
    x, w = double(2, 4, 6, 5), double(6, 2, 3, 3)
    offset = torch.zeros(2, 18, 6, 5, dtype=torch.float64)
    got = deform.deform_conv(x, w, offset, group=2, pads=[1, 1, 1, 1])
    torch.testing.assert_close(got, conv.conv(x, w, group=2, pads=[1, 1, 1, 1]))


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (conv.conv, [(1, 2, 4, 4), (2, 2, 3, 3), (2,)]),
        (conv.conv_transpose, [(1, 2, 3, 3), (2, 2, 3, 3), (2,)]),
        (linear.gemm, [(2, 3), (3, 4), (4,)]),
        (deform.deform_conv, [(1, 1, 4, 4), (1, 1, 2, 2), (1, 8, 3, 3)]),
        (norm.mean_variance_normalization, [(2, 2, 3, 2)]),
    ],
)
def test_gradients(function, shapes):
    assert gradcheck(function, [double(*shape) for shape in shapes])


def test_the_gradient_of_a_norm_of_zeros_is_zero():
    x = torch.zeros(1, 2, 4, 4, requires_grad=True)
    total = (
        pool.lp_pool(x, kernel_shape=[2, 2]).sum()
        + pool.global_lp_pool(x).sum()
        + norm.lp_normalization(x).sum()
    )
    total.backward()
    assert torch.isfinite(x.grad).all()


def test_four_spatial_axes_are_refused():
    with pytest.raises(UnsupportedError, match="1 to 3 spatial axes"):
        conv.conv(torch.zeros(1, 1, 2, 2, 2, 2), torch.zeros(1, 1, 1, 1, 1, 1))
