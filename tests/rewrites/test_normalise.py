"""Rewrites keep the function of a network where they should; onnxruntime is the judge."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from builders import WEIGHT_SOURCES, model, normalised, run_onnxruntime, weight

from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.network import input_shapes
from intrain_onnx.network.layers import analyse
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.protocol.absorb_batch_norm import absorb_batch_norm
from intrain_onnx.rewrites.protocol.loss_heads import cut_at_loss_heads
from intrain_onnx.rewrites.protocol.own_biases import bias_name, own_biases
from intrain_onnx.rewrites.protocol.own_norms import own_norms
from intrain_onnx.rewrites.protocol.step import Draft
from intrain_onnx.runtime.onnx2torch_converter import write_values


def test_the_file_keeps_its_outputs_after_normalisation() -> None:
    """All ways to write a weight in one graph; the function stays the same."""
    body = []
    weights: dict[str, np.ndarray] = {}
    for index, (text, arrays) in enumerate(WEIGHT_SOURCES.values()):
        rename = {name: f"{name}{index}" for name in ("u", "d", "w", *arrays)}
        tokens = text.replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split(" ")
        body.append(" ".join(rename.get(t, t) for t in tokens))
        body.append(f"y{index} = MatMul(x, w{index})")
        weights |= {rename[n]: a for n, a in arrays.items()}
    total = ", ".join(f"y{i}" for i in range(len(WEIGHT_SOURCES)))
    proto = model(f"(float[N,4] x) => (float[N,3] y) {{ {' '.join(body)} y = Sum({total}) }}", weights)
    x = weight(2, 4, scale=1.0)
    prepared = normalised(proto, batch=2)
    assert not {n.op_type for n in prepared.graph} & {"Constant", "ConstantOfShape", "DequantizeLinear"}
    for before, after in zip(
        run_onnxruntime(proto, {"x": x}), run_onnxruntime(prepared, {"x": x}), strict=True
    ):
        np.testing.assert_allclose(after, before, rtol=1e-5)


def heads(text: str, **weights: np.ndarray) -> list[tuple[str, str, tuple[str, ...]]]:
    prepared = normalised(model(text, weights))
    found = cut_at_loss_heads(Draft(prepared)).heads
    assert [h.value for h in found] == [v.name for v in prepared.graph.outputs]
    return [(h.value, h.output, h.through) for h in found]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_a_final_activation_is_cut_off(op: str) -> None:
    text = f"(float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w) y = {op}(h) }}"
    assert heads(text, w=weight(4, 3)) == [("h", "y", (op,))]


def test_views_behind_the_activation_go_too() -> None:
    text = """(float[N,4] x) => (float[N,3,1] y) {
        h = MatMul(x, w) s = Softmax(h) u = Unsqueeze(s, a) y = Identity(u)
    }"""
    ((value, output, through),) = heads(text, w=weight(4, 3), a=np.array([2]))
    assert (value, output) == ("h", "y")
    assert set(through) == {"Identity", "Unsqueeze", "Softmax"}


def test_an_activation_inside_stays() -> None:
    text = "(float[N,4] x) => (float[N,3] y) { h = Sigmoid(x) y = MatMul(h, w) }"
    assert heads(text, w=weight(4, 3)) == [("y", "y", ())]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("y = ArgMax<axis = 1>(h)", "int64[N,1]"),
        ("y = Cast<to = 7>(h)", "int64[N,3]"),
        ("s = Softmax(h) y = ArgMax<axis = 1>(s)", "int64[N,1]"),
        ("r = Round(h) y = Cast<to = 6>(r)", "int32[N,3]"),
        ("y = Greater(h, k)", "bool[N,3]"),
        ("v, y = TopK(h, one)", "int64[N,1]"),
    ],
)
def test_what_passes_no_gradient_is_cut_off(body: str, kind: str) -> None:
    text = f"(float[N,4] x) => ({kind} y) {{ h = MatMul(x, w) {body} }}"
    found = heads(text, w=weight(4, 3), k=weight(3), one=np.array([1]))
    assert [(value, output) for value, output, _ in found] == [("h", "y")]


def test_each_output_has_its_head_and_equal_ones_are_one() -> None:
    text = """(float[N,4] x) => (float[N,3] y, float[N,3] p, int64[N,1] k, float[N,2] z, float[3] c) {
        y = MatMul(x, w)
        p = Softmax(y)
        k = ArgMax<axis = 1>(p)
        z = MatMul(x, v)
        c = Exp(b)
    }"""
    found = heads(text, w=weight(4, 3), v=weight(4, 2), b=weight(3))
    assert [(value, output) for value, output, _ in found] == [("y", "y"), ("z", "z")]


def test_a_graph_without_a_differentiable_output_is_refused() -> None:
    text = "(int64[N,4] x) => (int64[N,4] y) { y = Add(x, k) }"
    with pytest.raises(UnsupportedError, match="no output depends"):
        heads(text, k=np.arange(4))


TAIL = """
    s = Sigmoid(logits) t = Transpose<perm = [0, 2, 1]>(s) i = NonMaxSuppression(boxes, t, most, iou, least)
    c = Gather<axis = 1>(i, two) k = Squeeze(c, one) b = Squeeze(boxes, zero) d = Gather(b, k)
    p = Squeeze(s, zero) q = Gather(p, k) m = ReduceMax<keepdims = 0>(q, one) labels = ArgMax<axis = 1>(q)
"""
BOXES = {
    "w": weight(6, 4),
    "v": weight(6, 3),
    "u": weight(4, 2),
    "most": np.array([9]),
    "iou": np.array([0.5], np.float32),
    "least": np.array([0.9], np.float32),
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
}


@pytest.mark.parametrize(
    ("outputs", "last", "heads"),
    [
        ("float[n,4] y, int64[n,1] labels", "y = Identity(d)", {"boxes", "logits"}),
        ("float[5] y", "y, at = TopK(m, five)", {"logits"}),
        ("float[n,4] y", "e = Exp(d) f = Concat<axis = 1>(e, d) y = Sub(f, f)", {"boxes"}),
        # a second stage on what was selected is part of the network
        ("float[n,2] y", "y = MatMul(d, u)", {"y"}),
    ],
)
def test_a_loss_attaches_before_non_maximum_suppression(outputs: str, last: str, heads: set[str]) -> None:
    """What is left behind it may be nothing: no box of noise passes a threshold."""
    text = f"""(float[1,7,6] x) => ({outputs}) {{
        boxes = MatMul(x, w) logits = MatMul(x, v) {TAIL} {last}
    }}"""
    network = normalised(model(text, BOXES | {"five": np.array([5])}))
    found = cut_at_loss_heads(Draft(network)).heads
    values = {head.value for head in found}
    assert {"boxes" if value == "b" else value for value in values} == heads
    assert all(head.output in outputs for head in found)


NORM = {n: np.abs(weight(6, seed=i)) + 0.5 for i, n in enumerate(("scale", "offset", "mean", "var"))}
CONV_BN = """(float[N,3,8,8] x) => (float[N,6,6,6] y) {
    h = Conv(x, w, b)
    n = BatchNormalization(h, scale, offset, mean, var)
    y = Relu(n)
}"""


def test_batch_norm_right_behind_a_layer_is_absorbed() -> None:
    prepared = normalised(model(CONV_BN, {"w": weight(6, 3, 3, 3), "b": weight(6), **NORM}))
    assert len(absorb_batch_norm(Draft(prepared)).absorbed) == 1
    assert [n.op_type for n in prepared.graph] == ["Conv", "Relu"]
    x = {"x": weight(2, 3, 8, 8, scale=1.0)}
    plain = model(
        "(float[N,3,8,8] x) => (float[N,6,6,6] y) { h = Conv(x, w, b) y = Relu(h) }",
        {"w": weight(6, 3, 3, 3), "b": weight(6)},
    )
    np.testing.assert_array_equal(run_onnxruntime(prepared, x)[0], run_onnxruntime(plain, x)[0])


@pytest.mark.parametrize(
    "text",
    [
        # before the layer, behind an activation, and beside another user of the layer
        """(float[N,6,8,8] x) => (float y) {
            n = BatchNormalization(x, scale, offset, mean, var) y = Conv(n, v)
        }""",
        """(float[N,6,8,8] x) => (float y) {
            h = Conv(x, v) r = Relu(h) y = BatchNormalization(r, scale, offset, mean, var)
        }""",
        """(float[N,6,8,8] x) => (float y) {
            h = Conv(x, v) n = BatchNormalization(h, scale, offset, mean, var) y = Add(n, h)
        }""",
    ],
)
def test_other_batch_norms_stay(text: str) -> None:
    prepared = normalised(model(text, {"v": weight(6, 6, 1, 1), **NORM}))
    changes = absorb_batch_norm(Draft(prepared))
    assert not changes.absorbed
    assert len(changes.declined) == 1
    assert "BatchNormalization" in {n.op_type for n in prepared.graph}


LAYERS = {
    "conv": ("(float[N,3,8,8] x) => (float y) { y = Conv(x, w) }", (6, 3, 3, 3)),
    "transposed conv": ("(float[N,3,8,8] x) => (float y) { y = ConvTranspose(x, w) }", (3, 6, 3, 3)),
    "gemm": ("(float[N,4] x) => (float y) { y = Gemm(x, w) }", (4, 3)),
    "transposed gemm": ("(float[N,4] x) => (float y) { y = Gemm<transB = 1>(x, w) }", (3, 4)),
    "weight first": ("(float[4,N] x) => (float y) { y = Gemm(w, x) }", (3, 4)),
    "matmul": ("(float[N,5,4] x) => (float y) { y = MatMul(x, w) }", (4, 3)),
    "matmul, weight first": ("(float[N,4,5] x) => (float y) { y = MatMul(w, x) }", (3, 4)),
    "matmul in a chain": ("(float[N,5,4] x) => (float y) { h = MatMul(x, w) y = Relu(h) }", (4, 3)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_bias_of_its_own_is_zero_and_along_the_channels(kind: str) -> None:
    """Zero, it leaves the function as it was; set, it shifts each channel by its number."""
    text, shape = LAYERS[kind]
    proto = model(text, {"w": weight(*shape)})
    (dims,) = [[d.dim_value or 5 for d in i.type.tensor_type.shape.dim] for i in proto.graph.input]
    x = {"x": weight(*dims, scale=1.0)}
    (before,) = run_onnxruntime(proto, x)
    prepared = normalised(proto)
    own_biases(Draft(prepared))
    np.testing.assert_array_equal(run_onnxruntime(prepared, x)[0], before)
    infer_shapes(prepared, input_shapes.resolve(prepared, ScoreConfig.for_protocol(), batch=1))
    (layer,) = analyse(prepared).layers
    assert layer.bias == bias_name(layer)
    values = np.arange(1, layer.channels + 1, dtype=np.float32) * 100
    write_values(prepared, {layer.bias: values.reshape(layer.bias_shape)})
    (after,) = run_onnxruntime(prepared, x, [layer.output])
    (raw,) = run_onnxruntime(proto, x, [layer.node_output]) if "chain" in kind else (before,)
    along = [1] * after.ndim
    along[layer.channel_axes[0]] = layer.channels
    np.testing.assert_allclose(after - raw, np.broadcast_to(values.reshape(along), after.shape), rtol=1e-4)


def test_biases_that_were_there_become_zeros_of_their_own() -> None:
    """Equal ones may have been merged by the exporter, so each layer gets its own."""
    text = """(float[N,4] x) => (float[N,4] y) {
        h = MatMul(x, u) s = Add(h, b) r = Relu(s)
        h2 = MatMul(r, v) s2 = Add(b, h2)
        y = Gemm<alpha = 2.0, beta = 3.0, transB = 1>(s2, w, b)
    }"""
    weights = {n: weight(4, 4, seed=i) for i, n in enumerate("uvw")}
    proto = model(text, weights | {"b": weight(4)})
    before = analyse(normalised(proto))
    assert [layer.bias for layer in before.layers] == ["b", "b", "b"]
    prepared = normalised(proto)
    own_biases(Draft(prepared))
    layers = analyse(prepared)
    assert len({layer.bias for layer in layers.layers}) == 3
    without = model(
        """(float[N,4] x) => (float[N,4] y) {
            h = MatMul(x, u) r = Relu(h) h2 = MatMul(r, v) t = Transpose(w) y = MatMul(h2, t)
        }""",
        weights,
    )
    x = {"x": weight(3, 4, scale=1.0)}
    np.testing.assert_allclose(run_onnxruntime(prepared, x)[0], run_onnxruntime(without, x)[0], rtol=1e-5)


def test_batch_norms_of_their_own_pass_their_input() -> None:
    """But for epsilon in the square root: 1 / sqrt(1 + 1e-5)."""
    text = """(float[N,6,8,8] x) => (float y) {
        a = BatchNormalization(x, scale, offset, mean, var)
        r = Relu(a)
        y = BatchNormalization(r, scale, offset, mean, var)
    }"""
    prepared = normalised(model(text, NORM))
    norms = own_norms(Draft(prepared)).norms
    assert [n.output for n in norms] == ["a", "y"]
    assert len({n.scale for n in norms}) == 2
    x = weight(2, 6, 8, 8, scale=1.0)
    np.testing.assert_allclose(run_onnxruntime(prepared, {"x": x})[0], np.maximum(x, 0), rtol=2e-5)


def test_a_name_that_the_file_has_is_not_given_again():
    """A layer's own bias is named after its output; an exporter may have named another tensor so."""
    quick = ScoreConfig.for_protocol(seeds=1, parity=False, threads=1, device="cpu")
    text = "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) r = Mul(h, k) y = MatMul(r, v) }"
    plain = model(text, {"w": weight(4, 8), "v": weight(8, 3), "k": weight(8)})
    named = onnx.ModelProto()
    named.CopyFrom(plain)
    named.graph.initializer[2].name = named.graph.node[1].input[1] = "h.bias"
    assert pipeline.score(named, quick).intrain == pipeline.score(plain, quick).intrain
