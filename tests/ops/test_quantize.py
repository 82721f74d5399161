"""Quantisation against onnxruntime, exactly; straight-through gradients."""

import numpy as np
import pytest
import torch
from node_oracle import check, converted, make_model, onnxruntime_cpu
from onnx import helper

from intrain_onnx.ops import narrow, quantize

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(dtype, *shape):
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_quantise_and_dequantise_by_tensor_axis_and_block(dtype):
    x = normal(3, 8) * 50
    x[0, :4] = [0.5, 1.5, 2.5, -0.5]  # ties go to even
    check("QuantizeLinear", [x, scalar(1.0), scalar(3, dtype)])
    scales, zeros = normal(8) ** 2 + 0.1, ints(dtype, 8)
    check("QuantizeLinear", [x, scales, zeros], axis=1)
    q = ints(dtype, 3, 8)
    check("DequantizeLinear", [q, scalar(0.1), scalar(3, dtype)])
    check("DequantizeLinear", [q, scales[:3], zeros[:3]], axis=-2)
    blocks = [normal(3, 2) ** 2 + 0.1, ints(dtype, 3, 2)]
    check("QuantizeLinear", [x, *blocks], axis=1, block_size=4)
    check("DequantizeLinear", [q, *blocks], axis=1, block_size=4)


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23])
def test_every_version(opset):
    check("QuantizeLinear", [normal(2, 3), scalar(0.1), scalar(7, np.uint8)], opset_version=opset)
    check("DequantizeLinear", [ints(np.uint8, 2, 3), scalar(0.1), scalar(7, np.uint8)], opset_version=opset)
    check("QuantizeLinear", [normal(2, 3), scalar(0.1)], opset_version=opset)


def test_dequantise_large_integers_before_rounding():
    values = np.array([2**24 + 1, -(2**30)], np.int32)
    check("DequantizeLinear", [values, scalar(1.0)])


@pytest.mark.skipif(narrow.INT4 is None, reason="this torch has no int4")
def test_four_bits_saturate():
    x = torch.tensor([-100.0, -8.4, 2.5, 7.6, 100.0])
    q = quantize.quantize_linear(x, torch.tensor(1.0), output_dtype=narrow.INT4)
    assert narrow.decode(q).tolist() == [-8, -8, 2, 7, 7]
    assert quantize.dequantize_linear(q, torch.tensor(0.5)).tolist() == [-4, -4, 1, 3.5, 3.5]


@pytest.mark.parametrize("x", [normal(4, 5), np.abs(normal(4)) + 1, -np.abs(normal(4)) - 1])
def test_dynamic_quantise(x):
    check("DynamicQuantizeLinear", [x], n_outputs=3)


def test_dynamic_quantise_of_zeros():
    y, scale, zero = quantize.dynamic_quantize_linear(torch.zeros(3), n_outputs=3)
    assert not y.any()
    assert scale > 0
    assert zero == 0


def test_integer_products():
    a, b = ints(np.uint8, 2, 3, 64), ints(np.int8, 64, 5)
    check("MatMulInteger", [a, b])
    check("MatMulInteger", [a, b, scalar(9, np.uint8), ints(np.int8, 5)])
    rows = quantize.matmul_integer(
        torch.from_numpy(a[0]), torch.from_numpy(b), torch.tensor([1, 2, 3]).byte()
    )
    expected = (a[0].astype(int) - [[1], [2], [3]]) @ b.astype(int)
    np.testing.assert_array_equal(rows.numpy(), expected)


def test_sums_beyond_float32_are_exact():
    a = np.full((1, 60000), 255, np.uint8)
    b = np.full((60000, 1), 127, np.int8)
    b[-1] = 126
    check("MatMulInteger", [a, b])


@pytest.mark.parametrize("options", [{}, {"pads": [1, 1, 1, 1]}, {"group": 2, "auto_pad": "SAME_LOWER"}])
def test_integer_convolutions(options):
    x, w = ints(np.uint8, 1, 4, 6, 6), ints(np.uint8, 6, 4 // options.get("group", 1), 3, 3)
    check("ConvInteger", [x, w, scalar(100, np.uint8), scalar(120, np.uint8)], **options)
    signed = ints(np.int8, *w.shape)
    scales, zeros, bias = (
        normal(6) ** 2 * 0.01 + 0.001,
        np.zeros(6, np.int8),
        ints(np.int16, 6).astype(np.int32),
    )
    values = [
        x,
        scalar(0.1),
        scalar(100, np.uint8),
        signed,
        scales,
        zeros,
        scalar(0.4),
        scalar(90, np.uint8),
        bias,
    ]
    check("QLinearConv", values, **options)


def test_quantised_products():
    values = [ints(np.uint8, 2, 3, 8), scalar(0.1), scalar(100, np.uint8)]
    values += [
        ints(np.int8, 8, 5),
        normal(5) ** 2 * 0.1 + 0.01,
        np.zeros(5, np.int8),
        scalar(0.9),
        scalar(90, np.uint8),
    ]
    check("QLinearMatMul", values)


def test_the_gradient_passes_a_pair_but_not_where_it_saturates():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    constants = {"scale": scalar(0.01), "zero": scalar(20, np.int8)}
    inputs = {"x": np.linspace(-3, 3, 41).astype(np.float32)}
    model = make_model(nodes, inputs, ["y"], initializers=constants)
    x = torch.from_numpy(inputs["x"]).requires_grad_()
    y = converted(model)(x)
    np.testing.assert_array_equal(y.detach().numpy(), onnxruntime_cpu(model, inputs)[0])
    y.sum().backward()
    kept = (x >= -1.481) & (x <= 1.071)  # (-128 - 20) and (127 - 20) steps
    torch.testing.assert_close(x.grad, kept.float())


def test_scales_of_dequantised_weights_are_differentiable():
    q, zero = torch.tensor([[1, -2], [3, 4]], dtype=torch.int8), torch.tensor([1, 0], dtype=torch.int8)
    scale = torch.tensor([0.5, 2.0], requires_grad=True)
    quantize.dequantize_linear(q, scale, zero, axis=0).sum().backward()
    assert scale.grad.tolist() == [-3.0, 7.0]
