"""Quantised models and the float networks that they stand for; onnxruntime runs both."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from builders import for_all, model, run_onnxruntime, weight
from hypothesis import strategies as st

from intrain_onnx.config import ScoreConfig
from intrain_onnx.network import input_shapes
from intrain_onnx.network.layers import analyse
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.table import ROWS
from intrain_onnx.rewrites import dequantise
from intrain_onnx.rewrites.dequantise import Quantisation, arithmetic, dropped_activations
from intrain_onnx.rewrites.dequantise.table import REWRITES
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.normalise import normalise

MICROSOFT = {"com.microsoft": 1}
HALF = np.array(0.5, np.float32)
ONE = np.array(1.0, np.float32)
MIDDLE = np.array(128, np.uint8)
NAUGHT = np.array(0, np.int8)


def prepared(proto: onnx.ModelProto) -> tuple[ir.Model, Quantisation | None]:
    network = ir.from_proto(proto)
    normalise(network)
    single = input_shapes.resolve(network, ScoreConfig.for_protocol(), batch=1)
    infer_shapes(network, single)
    found = dequantise.to_float(network)
    infer_shapes(network, single)
    return network, found


def operators(network: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in network.graph.all_nodes())


def integers(*shape: int, low: int = -5, high: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).integers(low, high, shape, endpoint=True)


def feed(proto: onnx.ModelProto, batch: int = 2) -> dict[str, np.ndarray]:
    """Whole numbers, which a step of 1 or 0.5 holds without loss."""
    inputs = {}
    for value in proto.graph.input:
        shape = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        inputs[value.name] = integers(*shape, low=0 if dtype.kind == "u" else -5).astype(dtype)
    return inputs


def q(name: str, *shape: int, low: int = -2, high: int = 2, dtype: Any = np.int8) -> dict[str, np.ndarray]:
    return {name: integers(*shape, low=low, high=high).astype(dtype)}


QUANTISED_X = "qx = QuantizeLinear(x, half, mid)"
FINE_X = "qx = QuantizeLinear(x, fine, mid)"
PARTS = {"half": HALF, "one": ONE, "mid": MIDDLE, "no": NAUGHT, "nou": np.array(0, np.uint8)}
PARTS |= {"fine": np.array(1 / 16, np.float32)}

LOSSLESS: dict[str, tuple[str, str, dict[str, np.ndarray], set[str]]] = {
    # name: (input and output, body, constants, operators of the float form)
    "static QDQ": (
        "(float[N,4] x) => (float[N,3] y)",
        f"{QUANTISED_X} dx = DequantizeLinear(qx, half, mid) w = DequantizeLinear(qw, one, no) "
        "h = MatMul(dx, w) qh = QuantizeLinear(h, half, mid) y = DequantizeLinear(qh, half, mid)",
        q("qw", 4, 3),
        {"MatMul"},
    ),
    "weights quantised in the graph": (
        "(float[N,4] x) => (float[N,3] y)",
        f"{QUANTISED_X} dx = DequantizeLinear(qx, half, mid) q = QuantizeLinear(w, one, no) "
        "dw = DequantizeLinear(q, one, no) y = MatMul(dx, dw)",
        {"w": integers(4, 3).astype(np.float32)},
        {"MatMul"},
    ),
    "moved while quantised": (
        "(float[N,2,4,4] x) => (float[N,32] y)",
        f"{QUANTISED_X} a = Transpose<perm = [0, 1, 3, 2]>(qx) "
        "b = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a) c = Reshape(b, s) "
        "d = Concat<axis = 1>(c) e = DequantizeLinear(d, half, mid) y = Relu(e)",
        {"s": np.array([0, -1])},
        {"Transpose", "MaxPool", "Reshape", "Concat", "Relu"},
    ),
    "padded while quantised": (
        "(float[N,4] x) => (float[N,6] y)",
        f"{QUANTISED_X} p = Pad(qx, pads, mid) y = DequantizeLinear(p, half, mid)",
        {"pads": np.array([0, 1, 0, 1])},
        {"Pad"},
    ),
    "padded with the integer zero": (
        "(float[N,4] x) => (float[N,6] y)",
        f"{QUANTISED_X} p = Pad(qx, pads) y = DequantizeLinear(p, half, mid)",
        {"pads": np.array([0, 1, 0, 1])},
        {"Pad"},
    ),
    "embedding": (
        "(int64[N,4] x) => (float[N,4,3] y)",
        "i = Abs(x) g = Gather(qw, i) y = DequantizeLinear(g, half, no)",
        q("qw", 8, 3),
        {"Abs", "Gather"},
    ),
    "QLinearConv": (
        "(float[N,2,5,5] x) => (float[N,3,5,5] y)",
        f"{QUANTISED_X} c = QLinearConv<pads = [1, 1, 1, 1]>"
        "(qx, half, mid, qw, ws, wz, half, ymid8, b) y = DequantizeLinear(c, half, ymid8)",
        q("qw", 3, 2, 3, 3, low=-1, high=1)
        | {"ws": np.array([1, 1, 1], np.float32), "wz": np.zeros(3, np.int8), "ymid8": MIDDLE}
        | {"b": np.array([2, -4, 6], np.int32)},
        {"Conv"},
    ),
    "QLinearMatMul": (
        "(float[N,4] x) => (float[N,3] y)",
        f"{QUANTISED_X} c = QLinearMatMul(qx, half, mid, qw, one, no, half, mid) "
        "y = DequantizeLinear(c, half, mid)",
        q("qw", 4, 3),
        {"MatMul"},
    ),
    "QLinearMatMul of two activations": (
        "(float[N,4,4] x) => (float[N,4,4] y)",
        f"{QUANTISED_X} c = QLinearMatMul(qx, half, mid, qx, half, mid, one, mid) "
        "y = DequantizeLinear(c, one, mid)",
        {},
        {"MatMul"},
    ),
    "QGemm": (
        "(float[N,4] x) => (float[N,3] y)",
        f"{QUANTISED_X} c = com.microsoft.QGemm<transB = 1, alpha = 2.0>"
        "(qx, half, mid, qw, one, no, b, half, mid) y = DequantizeLinear(c, half, mid)",
        q("qw", 3, 4, low=-1, high=1) | {"b": np.array([2, -4, 6], np.int32)},
        {"Gemm"},
    ),
    "QGemm to floats": (
        "(float[N,4] x) => (float[N,3] y)",
        f"{QUANTISED_X} y = com.microsoft.QGemm<transB = 1>(qx, half, mid, qw, ws, wz, b)",
        q("qw", 3, 4)
        | {"b": np.array([2, -4, 6], np.int32), "wz": np.zeros(3, np.int8)}
        | {"ws": np.array([0.5, 1, 2], np.float32)},
        {"Gemm"},
    ),
    "QLinearAdd and QLinearMul": (
        "(float[N,4] x) => (float[N,4] y)",
        f"{QUANTISED_X} a = com.microsoft.QLinearAdd(qx, half, mid, qw, one, mid, half, mid) "
        "m = com.microsoft.QLinearMul(a, half, mid, two, one, nou, one, mid) "
        "y = DequantizeLinear(m, one, mid)",
        q("qw", 4, low=124, high=132, dtype=np.uint8) | {"two": np.array([2], np.uint8)},
        {"Add", "Mul"},
    ),
    "QLinearLeakyRelu": (
        "(float[N,4] x) => (float[N,4] y)",
        f"{QUANTISED_X} a = com.microsoft.QLinearLeakyRelu<alpha = 0.5>(qx, half, mid, half, mid) "
        "y = DequantizeLinear(a, half, mid)",
        {},
        {"LeakyRelu"},
    ),
    "QLinearConcat": (
        "(float[N,4] x) => (float[N,8] y)",
        f"{QUANTISED_X} r = QuantizeLinear(x, one, mid) a = com.microsoft.QLinearConcat<axis = 1>"
        "(half, mid, qx, half, mid, r, one, mid) y = DequantizeLinear(a, half, mid)",
        {},
        {"Concat"},
    ),
    "QLinearWhere": (
        "(float[N,4] x) => (float[N,4] y)",
        f"{QUANTISED_X} c = Greater(x, one) a = com.microsoft.QLinearWhere"
        "(c, qx, half, mid, qw, half, mid, half, mid) y = DequantizeLinear(a, half, mid)",
        q("qw", 4, low=120, high=130, dtype=np.uint8),
        {"Greater", "Where"},
    ),
    "integer outputs and inputs": (
        "(uint8[N,4] x) => (uint8[N,3] y)",
        "y = QLinearMatMul(x, one, nou, qw, one, no, one, mid)",
        q("qw", 4, 3),
        {"DequantizeLinear", "MatMul", "QuantizeLinear"},
    ),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_where_nothing_is_rounded_the_float_form_computes_the_same(name: str) -> None:
    signature_text, body, constants, expected = LOSSLESS[name]
    used = {
        n: a
        for n, a in PARTS.items()
        if n in body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    }
    proto = model(f"{signature_text} {{ {body} }}", used | constants, opset=21, domains=MICROSOFT)
    network, found = prepared(proto)
    assert found is not None
    assert not found.left
    assert not found.activations
    assert set(operators(network)) == expected
    assert [v.name for v in network.graph.outputs] == ["y"]
    x = feed(proto)
    np.testing.assert_array_equal(run_onnxruntime(network, x)[0], run_onnxruntime(proto, x)[0])


ROUNDED: dict[str, tuple[str, str, dict[str, np.ndarray], dict[str, int]]] = {
    "MatMulInteger": (
        "(float[N,4] x) => (float[N,3] y)",
        "q, s, z = DynamicQuantizeLinear(x) p = MatMulInteger(q, qw, z, no) f = Cast<to = 1>(p) "
        "t = Mul(s, ws) y = Mul(f, t)",
        q("qw", 4, 3) | {"ws": np.array([0.5, 1, 2], np.float32)},
        {"MatMul": 1},
    ),
    "MatMulInteger, scales one by one, a zero point, and a product of the network": (
        "(float[N,4] x) => (float[N,3] y)",
        "q, s, z = DynamicQuantizeLinear(x) p = MatMulInteger(q, qw, z, wz) f = Cast<to = 1>(p) "
        "t = Mul(f, s) u = Mul(ws, t) y = Mul(u, net)",
        q("qw", 4, 3, low=0, high=9, dtype=np.uint8)
        | {"ws": np.array(0.5, np.float32), "wz": np.array(4, np.uint8), "net": np.array(3, np.float32)},
        {"MatMul": 1, "Mul": 1},
    ),
    "MatMulInteger of two activations": (
        "(float[N,4,4] x) => (float[N,4,4] y)",
        "q, s, z = DynamicQuantizeLinear(x) t = Transpose<perm = [0, 2, 1]>(q) "
        "p = MatMulInteger(q, t, z, z) f = Cast<to = 1>(p) m = Mul(s, s) y = Mul(f, m)",
        {},
        {"MatMul": 1, "Transpose": 1},
    ),
    "MatMulInteger behind a static scale": (
        "(float[N,4] x) => (float[N,3] y)",
        "q = QuantizeLinear(x, half, mid) p = MatMulInteger(q, qw, mid, no) f = Cast<to = 1>(p) "
        "y = Mul(f, t)",
        q("qw", 4, 3) | {"t": np.array([0.25], np.float32)},
        {"MatMul": 1},
    ),
    "ConvInteger with a bias": (
        "(float[N,2,5,5] x) => (float[N,3,3,3] y)",
        "q, s, z = DynamicQuantizeLinear(x) p = ConvInteger<kernel_shape = [3, 3]>(q, qw, z, nou) "
        "f = Cast<to = 1>(p) t = Mul(s, ws) m = Mul(f, t) r = Reshape(b, shape) y = Add(m, r)",
        q("qw", 3, 2, 3, 3, low=0, dtype=np.uint8)
        | {"ws": np.array([0.5], np.float32), "b": weight(3), "shape": np.array([1, -1, 1, 1])},
        {"Conv": 1},
    ),
    "ConvInteger with a bias that is rounded to integers": (
        "(float[N,2,5,5] x) => (float[N,3,3,3] y)",
        "q, s, z = DynamicQuantizeLinear(x) t = Mul(s, ws) d = Div(b, t) w = Floor(d) i = Cast<to = 6>(w) "
        "r = Reshape(i, shape) p = ConvInteger<kernel_shape = [3, 3]>(q, qw, z, nou) a = Add(p, r) "
        "f = Cast<to = 1>(a) y = Mul(f, t)",
        q("qw", 3, 2, 3, 3, low=0, dtype=np.uint8)
        | {"ws": np.array([0.5], np.float32), "b": weight(3), "shape": np.array([1, -1, 1, 1])},
        {"Conv": 1},
    ),
    "DynamicQuantizeMatMul": (
        "(float[N,4] x) => (float[N,3] y)",
        "y = com.microsoft.DynamicQuantizeMatMul(x, qw, ws, wz, b)",
        q("qw", 4, 3) | {"ws": np.array([0.5, 1, 2], np.float32), "wz": np.zeros(3, np.int8), "b": weight(3)},
        {"MatMul": 1, "Add": 1},
    ),
    "MatMulIntegerToFloat": (
        "(float[N,4] x) => (float[N,3] y)",
        "q, s, z = DynamicQuantizeLinear(x) y = com.microsoft.MatMulIntegerToFloat(q, qw, s, half, z, no, b)",
        q("qw", 4, 3) | {"b": weight(3)},
        {"MatMul": 1, "Add": 1},
    ),
    "QLinearSigmoid": (
        "(float[N,4] x) => (float[N,4] y)",
        f"{FINE_X} a = com.microsoft.QLinearSigmoid(qx, fine, mid, s, nou) "
        "y = DequantizeLinear(a, s, nou)",
        {"s": np.array(1 / 256, np.float32)},
        {"Sigmoid": 1},
    ),
    "QLinearSoftmax": (
        "(float[N,4] x) => (float[N,4] y)",
        f"{FINE_X} a = com.microsoft.QLinearSoftmax<opset = 21>(qx, fine, mid, s, nou) "
        "y = DequantizeLinear(a, s, nou)",
        {"s": np.array(1 / 256, np.float32)},
        {"Softmax": 1},
    ),
    "QLinearAveragePool": (
        "(float[N,2,4,4] x) => (float[N,2,2,2] y)",
        f"{FINE_X} a = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>"
        "(qx, fine, mid, fine, mid) y = DequantizeLinear(a, fine, mid)",
        {},
        {"AveragePool": 1},
    ),
    "QLinearAveragePool, channels last": (
        "(float[N,4,4,2] x) => (float[N,2,2,2] y)",
        f"{FINE_X} a = com.microsoft.QLinearAveragePool"
        "<kernel_shape = [2, 2], strides = [2, 2], channels_last = 1>"
        "(qx, fine, mid, fine, mid) y = DequantizeLinear(a, fine, mid)",
        {},
        {"AveragePool": 1, "Transpose": 2},
    ),
    "QLinearGlobalAveragePool": (
        "(float[N,2,4,4] x) => (float[N,2,1,1] y)",
        f"{FINE_X} a = com.microsoft.QLinearGlobalAveragePool<channels_last = 0>"
        "(qx, fine, mid, fine, mid) y = DequantizeLinear(a, fine, mid)",
        {},
        {"GlobalAveragePool": 1},
    ),
    "DynamicQuantizeLSTM": (
        "(float[5,N,4] x) => (float[5,1,N,3] y)",
        "y, h, c = com.microsoft.DynamicQuantizeLSTM<hidden_size = 3>(x, qw, qr, b, , , , , ws, wz, rs, rz)",
        q("qw", 1, 4, 12, low=-100, high=100)
        | q("qr", 1, 3, 12, low=-100, high=100)
        | {"b": weight(1, 24), "ws": np.array([0.01], np.float32), "wz": np.array([0], np.int8)}
        | {"rs": np.array([0.01], np.float32), "rz": np.array([0], np.int8)},
        {"LSTM": 1},
    ),
    "MatMulNBits": (
        "(float[N,40] x) => (float[N,3] y)",
        "y = com.microsoft.MatMulNBits<K = 40, N = 3, block_size = 16, bits = 4>(x, qw, ws, zeros, , b)",
        {"qw": integers(3, 3, 8, low=0, high=255).astype(np.uint8), "ws": np.abs(weight(9)) + 0.01}
        | {"zeros": integers(6, low=0, high=255).astype(np.uint8), "b": weight(3)},
        {"MatMul": 1, "Add": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROUNDED)
def test_the_float_form_differs_by_the_rounding_alone(name: str) -> None:
    signature_text, body, constants, expected = ROUNDED[name]
    words = body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    used = {n: a for n, a in PARTS.items() if n in words}
    proto = model(f"{signature_text} {{ {body} }}", used | constants, opset=21, domains=MICROSOFT)
    network, found = prepared(proto)
    assert found is not None
    assert not found.left
    assert operators(network) == expected
    x = {n: a + 0.25 * np.sign(a) for n, a in feed(proto, 8).items()}
    ours, theirs = run_onnxruntime(network, x)[0], run_onnxruntime(proto, x)[0]
    assert ours.shape == theirs.shape
    spread = float(np.ptp(theirs))
    assert np.abs(ours - theirs).max() < 0.06 * spread
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99


@for_all(
    bits=st.sampled_from([2, 4, 8]),
    rows=st.integers(1, 4),
    columns=st.integers(1, 70),
    block=st.sampled_from([16, 32]),
    seed=st.integers(0, 99),
)
def test_packed_numbers_unpack_to_what_was_packed(
    bits: int, rows: int, columns: int, block: int, seed: int
) -> None:
    blocks = -(-columns // block)
    values = integers(rows, blocks, block, low=0, high=2**bits - 1, seed=seed)
    each = 8 // bits
    packed = sum(values[..., i::each] << (bits * i) for i in range(each)).astype(np.uint8)
    scales = np.abs(weight(rows, blocks, seed=seed)) + 0.1
    found = arithmetic.block_weight(packed, scales, None, rows=rows, columns=columns, block=block, bits=bits)
    expected = ((values - 2 ** (bits - 1)) * scales[..., None]).reshape(rows, -1)[:, :columns].T
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (
        arithmetic.block_weight(
            packed, scales[:, :0], None, rows=rows, columns=columns, block=block, bits=bits
        )
        is None
    )


def test_parts_that_do_not_fit_are_left_alone() -> None:
    x = integers(4, 6).astype(np.int8)
    scale = np.ones(3, np.float32)
    assert arithmetic.dequantise(x, scale, None, 1) is None
    assert arithmetic.dequantise(x, scale, None, 5) is None
    assert arithmetic.dequantise(x, np.ones((2, 6), np.float32), None, 0, 2**40) is None
    assert arithmetic.dequantise(x, np.ones((2, 6), np.float32), None, 0, 2) is not None
    assert arithmetic.dequantise(x, HALF, np.ones(3, np.int8), 1) is None


def test_a_weight_that_two_nodes_dequantise_stays_tied() -> None:
    body = "a = DequantizeLinear(qw, one, no) b = DequantizeLinear(qw, one, no) "
    body += "h = MatMul(x, a) y = MatMul(h, b)"
    proto = model(
        f"(float[N,4] x) => (float[N,4] y) {{ {body} }}", q("qw", 4, 4) | {"one": ONE, "no": NAUGHT}
    )
    network, found = prepared(proto)
    assert found is not None
    assert found.layers == {"weight-only": 2}
    first, second = analyse(network).layers
    assert first.weights[0].name == second.weights[0].name


def test_a_float_model_is_left_alone() -> None:
    proto = model("(float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", {"w": weight(4, 3)})
    network, found = prepared(proto)
    assert found is None
    assert operators(network) == {"MatMul": 1}


def test_what_has_no_float_form_is_named() -> None:
    body = "p = MatMulInteger(x, qw) f = Cast<to = 1>(p) y = MatMul(f, w)"
    proto = model(f"(uint8[N,4] x) => (float[N,2] y) {{ {body} }}", q("qw", 4, 3) | {"w": weight(3, 2)})
    network, found = prepared(proto)
    assert found is not None
    assert found.left == {"MatMulInteger": 1}
    assert [code for code, _, _ in dequantise.warnings(found)] == ["quantised", "quantised_left"]
    assert "MatMulInteger" in operators(network)


CLAMPED = "qh = QuantizeLinear(h, s, z) y = DequantizeLinear(qh, s, z)"


@pytest.mark.parametrize(
    ("body", "scale", "zero", "expected"),
    [
        ("h = MatMul(x, w)", 0.1, np.uint8(0), {"MatMul": 1, "Relu": 1}),
        ("h = MatMul(x, w)", 0.1, np.int8(-128), {"MatMul": 1, "Relu": 1}),
        ("h = MatMul(x, w)", 6 / 255, np.uint8(0), {"MatMul": 1, "Clip": 1}),
        ("h = MatMul(x, w)", 1 / 255, np.int8(-128), {"MatMul": 1, "Clip": 1}),
        ("m = MatMul(x, w) h = Reshape(m, t)", 0.1, np.uint8(0), {"MatMul": 1, "Reshape": 1, "Relu": 1}),
        # None went missing: the range is wider, or what is quantised is never negative, or is the input.
        ("h = MatMul(x, w)", 0.1, np.uint8(1), {"MatMul": 1}),
        ("h = MatMul(x, w)", 0.1, np.int8(0), {"MatMul": 1}),
        ("m = MatMul(x, w) h = Relu(m)", 0.1, np.uint8(0), {"MatMul": 1, "Relu": 1}),
        ("m = MatMul(x, w) h = Softmax(m)", 1 / 256, np.uint8(0), {"MatMul": 1, "Softmax": 1}),
        ("m = MatMul(x, w) r = Relu(m) h = Add(r, r)", 0.1, np.uint8(0), {"MatMul": 1, "Relu": 1, "Add": 1}),
        ("m = MatMul(x, w) h = Mul(m, m)", 0.1, np.uint8(0), {"MatMul": 1, "Mul": 1}),
        ("h = Transpose(x)", 0.1, np.uint8(0), {"Transpose": 1}),
    ],
)
def test_an_activation_that_the_range_stands_in_for_comes_back(
    body: str, scale: float, zero: np.integer, expected: dict[str, int]
) -> None:
    constants = {"w": weight(4, 4, scale=2.0), "s": np.array(scale, np.float32), "z": np.array(zero)}
    if " t)" in body:
        constants["t"] = np.array([4, -1])
    proto = model(f"(float[4,4] x) => (float[4,4] y) {{ {body} {CLAMPED} }}", constants)
    network, found = prepared(proto)
    assert found is not None
    assert operators(network) == expected
    restored = [op for _, op in found.activations]
    assert restored == [op for op in ("Relu", "Clip") if op in expected and f"{op}(" not in body]
    if restored:
        x = {"x": weight(4, 4, scale=1.0)}
        difference = run_onnxruntime(network, x)[0] - run_onnxruntime(proto, x)[0]
        assert np.abs(difference).max() <= 0.51 * scale


def test_deep_sums_are_judged_in_linear_time() -> None:
    value = ir.Value(name="x")
    for i in range(60):
        node = ir.Node("", "Add", [value, value])
        value = node.outputs[0]
        value.name = f"v{i}"
    assert not dropped_activations.never_negative(value)


def test_every_quantised_operator_has_what_gives_it_its_float_form() -> None:
    assert {key for key, row in ROWS.items() if row.kind is Kind.QUANTISED} == set(REWRITES)
