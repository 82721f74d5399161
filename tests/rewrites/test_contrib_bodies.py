"""Bodies of fused operators: same results for any batch and opset, same layers and score as their twins."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from builders import for_all, model, run_onnxruntime, weight
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import intrain_onnx
from intrain_onnx import ScoreConfig
from intrain_onnx.errors import IntrainError, LimitError, ModelFileError, UnsupportedError
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits
from intrain_onnx.pipeline import canonical_layers
from intrain_onnx.rewrites import contrib_bodies, expand_operators
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.runtime.convert import convert

FORMS = Path(__file__).parents[1] / "forms"
CONFIG = ScoreConfig.for_protocol(seeds=1, parity=False, threads=1, device="cpu")
MICROSOFT = "com.microsoft"
RNG = np.random.default_rng(0)


def network(
    op_type: str, values: list[Any], *, opset: int, outputs: int = 1, domain: str = MICROSOFT, **attributes
):
    """A model of one node: an array is a weight; (name, type, shape) an input whose axes may be names."""
    names, inputs, weights = [], [], []
    for index, value in enumerate(values):
        names.append("" if value is None else f"w{index}" if isinstance(value, np.ndarray) else value[0])
        if isinstance(value, np.ndarray):
            weights.append(numpy_helper.from_array(value, f"w{index}"))
        elif value is not None:
            inputs.append(helper.make_tensor_value_info(*value))
    ends = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, ends, domain=domain, name="fused", **attributes)
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=n) for n in ends], weights)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def normalised(proto: onnx.ModelProto) -> ir.Model:
    result = ir.from_proto(proto)
    normalise(result)
    return result


def operators(proto: onnx.ModelProto) -> list[str]:
    """Operators that are left, those of other domains with it."""
    return [f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in normalised(proto).graph]


def run(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    torch.set_num_threads(1)
    result = convert(normalised(proto))(*(torch.from_numpy(a) for a in feeds.values()))
    return [t.detach().numpy() for t in (result if isinstance(result, tuple) else (result,))]


def drawn(proto: onnx.ModelProto, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Inputs with open axes of the given sizes; integers are 0 or 1."""
    feeds = {}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        shape = [d.dim_value or sizes[d.dim_param] for d in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[value.name] = (
            RNG.standard_normal(shape).astype(dtype)
            if dtype.kind == "f"
            else RNG.integers(0, 2, shape).astype(dtype)
        )
    return feeds


F, I32, I64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
X = ("x", F, ["N", "T", 8])
IMAGE = ("x", F, ["N", 4, 9, 9])
SKIP = ("s", F, ["N", "T", 8])
MASK = ("m", I32, ["N", "T"])
TABLES = [weight(9, 8), weight(7, 8), weight(2, 8)]
QKV = [weight(8, 24), weight(24)]
KERNEL = [weight(6, 4, 3, 3), weight(6)]
CASES: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "FusedConv": ("FusedConv", [IMAGE, *KERNEL], {"activation": "Relu", "pads": [1] * 4}),
    "FusedConv without a bias": (
        "FusedConv",
        [IMAGE, KERNEL[0]],
        {"activation": "Sigmoid", "strides": [2, 2]},
    ),
    "FusedConv with a sum": ("FusedConv", [IMAGE, *KERNEL, ("z", F, ["N", 6, 7, 7])], {"activation": "Tanh"}),
    "FusedConv of parameters": (
        "FusedConv",
        [IMAGE, *KERNEL],
        {"activation": "Clip", "activation_params": [-0.25, 0.5], "auto_pad": "SAME_UPPER"},
    ),
    "FusedGemm": (
        "FusedGemm",
        [("x", F, ["N", 8]), weight(6, 8), weight(6)],
        {"transB": 1, "activation": "LeakyRelu", "activation_alpha": 0.25, "alpha": 0.5},
    ),
    "FusedMatMul": ("FusedMatMul", [X, weight(6, 8)], {"transB": 1, "alpha": 0.5}),
    "FusedMatMul of two": ("FusedMatMul", [X, ("z", F, ["N", "T", 8])], {"transB": 1}),
    "TransposeMatMul": ("TransposeMatMul", [X, ("z", F, ["N", "T", 8])], {"transA": 1, "alpha": 2.0}),
    "BiasGelu": ("BiasGelu", [X, weight(8)], {}),
    "FastGelu": ("FastGelu", [X], {}),
    "FastGelu of a bias": ("FastGelu", [X, weight(8)], {}),
    "Gelu": ("Gelu", [X], {}),
    "QuickGelu": ("QuickGelu", [X], {"alpha": 1.702}),
    "QuickGelu that is Swish": ("QuickGelu", [X], {"alpha": 1.0}),
    "SkipLayerNormalization": (
        "SkipLayerNormalization",
        [X, SKIP, weight(8), weight(8), weight(8)],
        {"epsilon": 1e-5},
    ),
    "SkipSimplifiedLayerNormalization": (
        "SkipSimplifiedLayerNormalization",
        [X, SKIP, weight(8)],
        {},
    ),
    "EmbedLayerNormalization": (
        "EmbedLayerNormalization",
        [("i", I32, ["N", "T"]), ("j", I32, ["N", "T"]), *TABLES, weight(8), weight(8), MASK],
        {"epsilon": 1e-5, "outputs": 2},
    ),
    "Attention": ("Attention", [X, *QKV], {"num_heads": 2}),
    "Attention with a mask": ("Attention", [X, *QKV, MASK], {"num_heads": 2}),
    "Attention with lengths": ("Attention", [X, *QKV, ("m", I32, ["N"])], {"num_heads": 2}),
    "causal Attention": ("Attention", [X, *QKV], {"num_heads": 4, "unidirectional": 1, "scale": 0.5}),
    "causal Attention with a mask": ("Attention", [X, *QKV, MASK], {"num_heads": 2, "unidirectional": 1}),
    "Attention of other values": (
        "Attention",
        [X, weight(8, 20), weight(20)],
        {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]},
    ),
    "MultiHeadAttention": (
        "MultiHeadAttention",
        [X, ("k", F, ["N", "S", 8]), ("v", F, ["N", "S", 8]), weight(24), ("m", I32, ["N", "S"])],
        {"num_heads": 2},
    ),
    "causal MultiHeadAttention": (
        "MultiHeadAttention",
        [X, ("k", F, ["N", "T", 8]), ("v", F, ["N", "T", 8])],
        {"num_heads": 2, "unidirectional": 1},
    ),
    "RotaryEmbedding": (
        "RotaryEmbedding",
        [("x", F, ["N", "T", 16]), ("p", I64, ["N", "T"]), weight(16, 4), weight(16, 4)],
        {},
    ),
    "RotaryEmbedding of heads": (
        "RotaryEmbedding",
        [("x", F, ["N", 2, "T", 8]), ("p", I64, [1]), weight(16, 4), weight(16, 4)],
        {"interleaved": 1},
    ),
    "ConvTransposeWithDynamicPads": (
        "ConvTransposeWithDynamicPads",
        [IMAGE, weight(4, 3, 3, 3), np.array([1, 0, 1, 0]), weight(3)],
        {"strides": [2, 2]},
    ),
}


OPSETS = [12, 14, 17, 20, 23]
SIZES = [{"N": 1, "T": 3, "S": 5}, {"N": 3, "T": 6, "S": 2}]


def close(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", CASES)
def test_a_body_is_its_operator_in_every_opset_and_batch(name, opset, monkeypatch):
    op_type, values, attributes = CASES[name]
    proto = network(op_type, values, opset=opset, **attributes)
    assert not [op for op in operators(proto) if "::" in op], "it was not expanded"
    fed = [drawn(proto, sizes) for sizes in SIZES]
    results = [run(proto, feeds) for feeds in fed]
    for ours, feeds in zip(results, fed, strict=True):
        close(ours, run_onnxruntime(proto, feeds))
    if intrain_onnx.opset.support.is_supported(MICROSOFT, op_type, 1):
        monkeypatch.setattr(contrib_bodies, "BODIES", {})
        for ours, feeds in zip(results, fed, strict=True):
            close(ours, run(proto, feeds))


PACKED = {
    "heads": [("x", F, ["N", "T", 2, 3, 4])],
    "heads and a bias": [("x", F, ["N", "T", 2, 3, 4]), None, None, weight(24)],
    "keys": [X, ("k", F, ["N", "S", 2, 2, 4])],
    "keys and a bias": [X, ("k", F, ["N", "S", 2, 2, 4]), None, weight(24)],
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_attention_is_its_handler(name, monkeypatch):
    """onnxruntime has no CPU kernel for them."""
    proto = network("MultiHeadAttention", PACKED[name], opset=20, num_heads=2)
    assert not [op for op in operators(proto) if "::" in op]
    fed = [drawn(proto, sizes) for sizes in SIZES]
    results = [run(proto, feeds) for feeds in fed]
    monkeypatch.setattr(contrib_bodies, "BODIES", {})
    for ours, feeds in zip(results, fed, strict=True):
        close(ours, run(proto, feeds))


def gelu(x):
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def group_norm(x, gamma, beta, groups, swish):
    y = torch.nn.functional.group_norm(*map(torch.from_numpy, (x.transpose(0, 3, 1, 2).copy(),)), groups)
    y = y.permute(0, 2, 3, 1) * torch.from_numpy(gamma) + torch.from_numpy(beta)
    return (torch.nn.functional.silu(y) if swish else y).numpy()


def channels_last(x, w, b):
    y = torch.nn.functional.conv2d(*map(torch.from_numpy, (x.transpose(0, 3, 1, 2).copy(), w, b)), stride=2)
    return y.permute(0, 2, 3, 1).numpy()


def softmax(x):
    return torch.softmax(torch.from_numpy(x), -1).numpy()


LAST = ("x", F, ["N", 5, 5, 8])
FORMULAS: dict[str, tuple[str, list[Any], dict[str, Any], Any]] = {
    "BiasAdd": ("BiasAdd", [X, weight(8), SKIP], {}, lambda x, b, s: x + b + s),
    "BiasSplitGelu": (
        "BiasSplitGelu",
        [X, weight(8)],
        {},
        lambda x, b: (x + b)[..., :4] * gelu((x + b)[..., 4:]),
    ),
    "BiasDropout": (
        "BiasDropout",
        [X, weight(8), SKIP],
        {},
        lambda x, b, s: x + b + s,
    ),
    "BiasSoftmax": ("BiasSoftmax", [X, weight(8)], {"axis": 2}, lambda x, b: softmax(x + b)),
    "BiasSoftmax of two axes": (
        "BiasSoftmax",
        [X, weight(8)],
        {"axis": 1, "is_inner_broadcast": 1},
        lambda x, b: softmax((x + b).reshape(len(x), -1)).reshape(x.shape),
    ),
    "GemmFastGelu": (
        "GemmFastGelu",
        [X, weight(8, 6), weight(6)],
        {},
        lambda x, w, b: torch.nn.functional.gelu(torch.from_numpy(x @ w + b), approximate="tanh").numpy(),
    ),
    "FusedMatMulActivation": (
        "FusedMatMulActivation",
        [X, weight(6, 8)],
        {"transB": 1, "activation": "Relu"},
        lambda x, w: np.maximum(x @ w.T, 0),
    ),
    "GroupNorm": (
        "GroupNorm",
        [LAST, weight(8), weight(8)],
        {"groups": 2, "activation": 1},
        lambda x, g, b: group_norm(x, g, b, 2, True),
    ),
    "SkipGroupNorm": (
        "SkipGroupNorm",
        [LAST, weight(8), weight(8), ("s", F, ["N", 5, 5, 8]), weight(8)],
        {"groups": 4, "activation": 0},
        lambda x, g, b, s, o: group_norm(x + s + o, g, b, 4, False),
    ),
    "NhwcConv": (
        "NhwcConv",
        [LAST, weight(6, 8, 3, 3), weight(6)],
        {"strides": [2, 2]},
        channels_last,
    ),
    "NhwcFusedConv": (
        "NhwcFusedConv",
        [LAST, weight(6, 8, 3, 3), weight(6), ("s", F, ["N", 2, 2, 6])],
        {"strides": [2, 2], "activation": "Relu"},
        lambda x, w, b, s: np.maximum(channels_last(x, w, b) + s, 0),
    ),
}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", FORMULAS)
def test_a_body_without_a_cpu_kernel_is_its_formula(name, opset):
    op_type, values, attributes, formula = FORMULAS[name]
    proto = network(op_type, values, opset=opset, **attributes)
    assert not [op for op in operators(proto) if "::" in op], "it was not expanded"
    for sizes in SIZES:
        feeds = drawn(proto, sizes)
        given = [v if isinstance(v, np.ndarray) else feeds[v[0]] for v in values]
        close(run(proto, feeds), [np.asarray(formula(*given))])


def test_pooling_with_channels_last():
    proto = network("NhwcMaxPool", [("x", TensorProto.UINT8, ["N", 6, 6, 3])], opset=17, kernel_shape=[2, 2])
    feeds = {"x": RNG.integers(0, 255, (2, 6, 6, 3)).astype(np.uint8)}
    assert operators(proto) == ["Transpose", "MaxPool", "Transpose"]
    np.testing.assert_array_equal(run(proto, feeds)[0], run_onnxruntime(proto, feeds)[0])


@pytest.mark.parametrize("mask", [None, ("m", I32, ["N"])])
def test_quantised_attention(mask):
    byte = [("x", TensorProto.UINT8, ["N", "T", 8]), RNG.integers(-99, 99, (8, 24)).astype(np.int8)]
    scales = [weight(24), np.array(0.02, np.float32), np.array(0.01, np.float32), mask]
    values = [*byte, *scales, np.array(9, np.uint8), np.array(0, np.int8)]
    proto = network("QAttention", values, opset=17, num_heads=2)
    assert "com.microsoft::QAttention" not in operators(proto)
    for sizes in SIZES:
        feeds = drawn(proto, sizes)
        close(run(proto, feeds), run_onnxruntime(proto, feeds))


ANGLES = np.outer(np.arange(16), 1 / 100 ** np.linspace(0, 1, 8))
ROTARY = [np.cos(ANGLES).astype(np.float32), np.sin(ANGLES).astype(np.float32)]
GROUPED = {"num_heads": 4, "kv_num_heads": 2}


@pytest.mark.parametrize("opset", [14, 23])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_rotary": 1},
        {"do_rotary": 1, "rotary_interleaved": 1},
        {"softcap": 2.0, "local_window_size": 2},
    ],
)
def test_grouped_attention_of_a_prompt_and_of_a_step(options, packed, opset):
    width = [("x", F, ["N", "T", 128 if packed else 64])]
    width += [None, None] if packed else [("k", F, ["N", "T", 32]), ("v", F, ["N", "T", 32])]
    past = [("pk", F, ["N", 2, "P", 16]), ("pv", F, ["N", 2, "P", 16])]
    lengths = [("l", I32, ["N"]), ("t", I32, [])]
    for cache, samples, time, before in itertools.product((False, True), (1, 3), (1, 4), (0, 3)):
        if before and (time > 1 or not cache):  # onnxruntime takes steps of one
            continue
        values = [*width, *(past if cache else [None, None]), *lengths, *ROTARY]
        proto = network("GroupQueryAttention", values, opset=opset, outputs=3, **GROUPED, **options)
        assert not [op for op in operators(proto) if "::" in op], "it was not expanded"
        feeds = drawn(proto, {"N": samples, "T": time, "P": before})
        feeds |= {"l": np.full(samples, before + time - 1, np.int32), "t": np.array(before + time, np.int32)}
        close(run(proto, feeds), run_onnxruntime(proto, feeds))


# --- Einsum ---------------------------------------------------------------------------------------------

LENGTHS = {"b": 2, "t": 3, "i": 4, "o": 5, "j": 3, "k": 6, "s": 3, "h": 2, "d": 4, "q": 3, "n": 2, "c": 4}
PRODUCTS = [
    "bti,io->bto",
    "bij,jk->bik",
    "bshd,hdk->bsk",
    "ij,bj->bi",
    "bi,ij",
    "...i,io->...o",
    "b...i,...io->b...o",
    "bqhd,bkhd->bhqk",
    "bhqk,bkhd->bqhd",
    "bsd,dnh->bsnh",
    "oi,bit->bot",
    "bnsh,nhk->bnsk",
    "bi,bij->bj",
    "bij,bij->b",
    "bi,i->b",
    "i,ij->j",
    "bic,bjc->bij",
    "bcsd,cdnh->bsnh",
]


@pytest.mark.parametrize("fixed", [None, "a", "b"])
@pytest.mark.parametrize("equation", PRODUCTS)
def test_einsum_is_a_product(equation, fixed):
    shapes = [[LENGTHS[c] for c in part.replace("...", "nt")] for part in equation.split("->")[0].split(",")]
    values = [
        weight(*shape) if name == fixed else (name, F, ["N", *shape[1:]])
        for name, shape in zip("ab", shapes, strict=True)
    ]
    proto = network("Einsum", values, opset=17, domain="", equation=equation)
    left = operators(proto)
    assert left.count("MatMul") == 1
    assert set(left) <= {"MatMul", "Transpose", "Reshape"}
    names = [n for n in "ab" if n != fixed]
    feeds = {n: RNG.standard_normal(shapes["ab".index(n)]).astype(np.float32) for n in names}
    close(run(proto, feeds), run_onnxruntime(proto, feeds))


@pytest.mark.parametrize("equation", ["bi,bj->bij", "bi,bi->bi", "bii,ij->bj", "bij,jk->k"])
def test_einsum_of_another_kind_stays(equation):
    shapes = [[4] * len(part) for part in equation.split("->")[0].split(",")]
    proto = network(
        "Einsum",
        [(n, F, s) for n, s in zip("ab", shapes, strict=True)],
        opset=17,
        domain="",
        equation=equation,
    )
    assert operators(proto) == ["Einsum"]


DENSE = {
    "several heads": ("bsd,dnh->bsnh", ["N", 6, 16], (16, 4, 6), (4, 6)),
    "of another order": ("bsd,dhn->bsnh", ["N", 6, 16], (16, 6, 4), (4, 6)),
    "channels second": ("od,bds->bos", ["N", 16, 6], (24, 16), (24, 1)),
    "along the rows": ("bsd,do->bso", ["N", 6, 16], (16, 24), (6, 24)),
    "a number": ("bsd,dnh->bsnh", ["N", 6, 16], (16, 4, 6), ()),
}


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("name", DENSE)
def test_einsum_with_a_bias_is_its_operator(name, literal):
    equation, shape, kernel, bias = DENSE[name]
    w, b = weight(*kernel), np.asarray(weight(*bias), np.float32)
    data = ("x", F, shape)
    values = [w, data] if equation.startswith("od") else [data, w]
    proto = network("Einsum", values, opset=17, domain="", equation=equation)
    proto.graph.node[0].output[0] = "h"
    held = numpy_helper.from_array(b, "bias")
    if literal:
        proto.graph.node.append(helper.make_node("Constant", [], ["bias"], value=held))
    else:
        proto.graph.initializer.append(held)
    proto.graph.node.append(helper.make_node("Add", ["bias", "h"], ["y0"]))
    assert set(operators(proto)) <= {"MatMul", "Add", "Transpose", "Reshape"}
    feeds = drawn(proto, {"N": 3})
    close(run(proto, feeds), run_onnxruntime(proto, feeds))


def test_a_dense_layer_of_several_heads_has_its_bias():
    """As Keras's EinsumDense and Flax's DenseGeneral are exported."""
    weights = {"w": weight(16, 24), "b": weight(24), "v": weight(24, 5), "c": weight(5)}
    plain = model(
        """(float[N,6,16] x) => (float[N,6,5] y) {
            h = MatMul (x, w) i = Add (h, b) j = Reshape (i, apart) a = Relu (j)
            f = Reshape (a, together) z = MatMul (f, v) y = Add (z, c)
        }""",
        weights | {"apart": np.array([0, 0, 4, 6]), "together": np.array([0, 0, 24])},
    )
    shapes = {"w": (16, 4, 6), "b": (4, 6), "v": (4, 6, 5), "c": (5,)}
    dense = model(
        """(float[N,6,16] x) => (float[N,6,5] y) {
            h = Einsum <equation = "bsd,dnh->bsnh"> (x, w) i = Add (h, b) a = Relu (i)
            z = Einsum <equation = "bsnh,nhk->bsk"> (a, v) y = Add (z, c)
        }""",
        {n: weights[n].reshape(shape) for n, shape in shapes.items()},
    )
    assert_twins(dense, plain)


# --- Twins ----------------------------------------------------------------------------------------------


def figures(source: Any) -> list[float]:
    data = intrain_onnx.score(source, CONFIG).data
    return [data["score"]["layers"], *(v["value"] for v in data["scores"].values())]


def keys(source: Any) -> list[str]:
    return sorted(layer.key for layer in canonical_layers(source, CONFIG).layers)


def assert_twins(fused: Any, plain: Any) -> None:
    assert keys(fused) == keys(plain)
    assert figures(fused) == pytest.approx(figures(plain), rel=1e-3)
    parameters = [intrain_onnx.inspect(m).data["model"]["parameters"] for m in (fused, plain)]
    assert parameters[0] == parameters[1]


@pytest.mark.parametrize(("fused", "plain"), [("fused_gemm", "gemm_relu"), ("einsum", "matmul")])
def test_files_of_one_network_are_equal(fused, plain):
    assert_twins(str(FORMS / f"{fused}.onnx"), str(FORMS / f"{plain}.onnx"))


def test_attention_is_three_layers_as_when_written_out():
    fused = onnx.load(FORMS / "contrib_attention.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in fused.graph.initializer}
    names = ["q", "k", "v"]
    parts = dict(zip(names, np.split(stored["w"], 3, 1), strict=True))
    biases = dict(zip(names, np.split(stored["b"], 3), strict=True))
    heads = " ".join(
        f"{n}0 = MatMul(x, w{n}) {n}1 = Add({n}0, b{n}) {n}2 = Reshape({n}1, apart)"
        f" {n} = Transpose<perm = [0, 2, {'3, 1' if n == 'k' else '1, 3'}]>({n}2)"
        for n in names
    )
    plain = model(
        f"""(float[N,6,16] x) => (float[N,6,4] y) {{
            {heads}
            p = MatMul(q, k) d = Div(p, root) s = Softmax<axis = -1>(d) c = MatMul(s, v)
            t = Transpose<perm = [0, 2, 1, 3]>(c) a = Reshape(t, together)
            h = Add(a, x) n = LayerNormalization<axis = -1, epsilon = 0.00001>(h, g, be) y = MatMul(n, last)
        }}""",
        {
            **{f"w{n}": w for n, w in parts.items()},
            **{f"b{n}": b for n, b in biases.items()},
            "apart": np.array([0, 0, 2, -1]),
            "together": np.array([0, 0, -1]),
            "root": np.array(np.sqrt(8), np.float32),
            "g": stored["g"],
            "be": stored["be"],
            "last": stored["v"],
        },
        opset=17,
    )
    feeds = {"x": RNG.standard_normal((3, 6, 16)).astype(np.float32)}
    close(run_onnxruntime(fused, feeds), run_onnxruntime(plain, feeds))
    assert figures(fused)[0] == 4
    assert_twins(fused, plain)


def test_a_layer_has_the_name_of_its_node():
    proto = network("FusedConv", CASES["FusedConv"][1], opset=17, activation="Relu")
    (layer,) = intrain_onnx.inspect(proto).data["layers"]
    assert (layer["name"], layer["op"], layer["bias"]) == ("fused", "Conv", "w2")


# --- Hostile nodes --------------------------------------------------------------------------------------

CONV = [IMAGE, *KERNEL]


@pytest.mark.parametrize(
    ("op_type", "values", "attributes", "error"),
    [
        ("FusedConv", CONV, {"activation": 3}, ModelFileError),
        ("FusedConv", CONV, {"activation": "Relu", "activation_params": [float("nan")]}, ModelFileError),
        ("FusedConv", CONV, {"activation": "Magic"}, UnsupportedError),
        ("FusedConv", CONV, {"pads": 1.5}, ModelFileError),
        ("FusedConv", CONV, {"magic": 1}, UnsupportedError),
        ("FusedConv", CONV[:1], {}, ModelFileError),
        ("FusedConv", [*CONV, None, weight(3)], {}, ModelFileError),
        ("FusedGemm", [("x", F, ["N", 8]), weight(8, 6)], {"alpha": "one"}, ModelFileError),
        ("FusedMatMul", [X, weight(8, 6)], {"transA": 7}, ModelFileError),
        ("FusedMatMul", [("x", F, ["N", 8]), weight(8, 6)], {"transBatchA": 1}, ModelFileError),
        ("Attention", [X, *QKV], {}, ModelFileError),
        ("Attention", [X, *QKV], {"num_heads": 0}, ModelFileError),
        ("Attention", [X, *QKV], {"num_heads": 5}, ModelFileError),
        ("Attention", [X, *QKV], {"num_heads": 2**31}, ModelFileError),
        ("Attention", [X, *QKV], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, -8]}, ModelFileError),
        ("Attention", [X, *QKV], {"num_heads": 2, "scale": float("inf")}, ModelFileError),
        ("Attention", [X, weight(8, 25)], {"num_heads": 1}, ModelFileError),
        ("MultiHeadAttention", [X], {"num_heads": 2}, ModelFileError),
        ("GroupNorm", [LAST, weight(8), weight(8)], {"groups": 2**40}, ModelFileError),
        ("NhwcMaxPool", [LAST], {"kernel_shape": [1] * 40}, ModelFileError),
        ("BiasSoftmax", [X, weight(8)], {"axis": 5}, ModelFileError),
        (
            "SkipLayerNormalization",
            [X, SKIP, weight(8)],
            {"epsilon": -1.0},
            ModelFileError,
        ),
    ],
)
def test_a_malformed_node_is_refused_in_one_line(op_type, values, attributes, error):
    proto = network(op_type, values, opset=17, **attributes)
    with pytest.raises(error, match=op_type) as caught:
        intrain_onnx.inspect(proto)
    assert caught.value.node == "fused"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("equation", ["", "b,", "a,b,c->abc", "->", "ij,jk->i-k", "....i,ij->j", "ij,ijk->z"])
def test_a_malformed_equation_is_refused(equation):
    proto = network("Einsum", [("a", F, [2, 2]), ("b", F, [2, 2])], opset=17, domain="", equation=equation)
    with pytest.raises(IntrainError):
        run(proto, drawn(proto, {}))


ATTRIBUTES = sorted(
    {
        "activation",
        "activation_params",
        "alpha",
        "axis",
        "epsilon",
        "equation",
        "groups",
        "num_heads",
        "scale",
    }
    | {"qkv_hidden_sizes", "transA", "transBatchB", "unidirectional", "kernel_shape", "pads", "channels_last"}
    | {"rotary_embedding_dim", "interleaved", "mask_filter_value", "do_rotary", "kv_num_heads", "softcap"}
)
HELD = st.one_of(
    st.integers(-(2**62), 2**62),
    st.integers(-3, 4),
    st.floats(width=32),
    st.sampled_from(["", "Relu", "Clip", "ij,jk", "\x00", "...i,io->...o"]),
    st.lists(st.integers(-4, 2**40), min_size=1, max_size=4),
    st.lists(st.floats(width=32), min_size=1, max_size=4),
)
KINDS = [TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL, TensorProto.STRING]


BLOCKED = {
    ("com.microsoft.nchwc", op) for op in ("Conv", "MaxPool", "ReorderInput", "ReorderOutput", "Magic")
}


@for_all(
    row=st.sampled_from(sorted({*contrib_bodies.BODIES, *BLOCKED})),
    operands=st.lists(
        st.one_of(
            st.none(),
            st.tuples(st.sampled_from(KINDS), st.lists(st.integers(1, 4), max_size=5)),
            st.lists(st.integers(1, 4), min_size=1, max_size=3).map(lambda shape: weight(*shape)),
        ),
        max_size=10,
    ),
    attributes=st.dictionaries(st.sampled_from(ATTRIBUTES), HELD, max_size=4),
    outputs=st.integers(1, 4),
    opset=st.integers(1, 26),
)
def test_any_node_is_expanded_or_refused(row, operands, attributes, outputs, opset):
    values = [(f"x{i}", *v) if isinstance(v, tuple) else v for i, v in enumerate(operands)]
    proto = network(row[1], values, opset=opset, outputs=outputs, domain=row[0], **attributes)
    result = ir.from_proto(proto)
    with contextlib.suppress(ModelFileError, UnsupportedError):
        expand_operators.expand_fused(result)
    for node in result.graph:  # what was written can be written down
        ir.to_proto(node)


def test_expanded_size_is_bounded():
    with allowance.held(Limits(expanded_nodes=5), None), pytest.raises(LimitError, match="expanded_nodes"):
        normalised(network("Attention", CASES["Attention"][1], opset=17, num_heads=2))


def test_nodes_in_a_subgraph_and_names_that_are_taken():
    text = """(float[N,8] x, bool c) => (float[N,8] y) {
        y.h = Identity(x)
        y = If (c) <then_branch = t () => (float[N,8] u) { u = com.microsoft.BiasGelu(y.h, b) },
                    else_branch = e () => (float[N,8] v) { v = com.microsoft.BiasAdd(x, b, y.h) }>
    }""".replace("y.h", "u_h")
    proto = model(text, {"b": weight(8), "u.h": weight(8)}, opset=14, domains={MICROSOFT: 1})
    x = RNG.standard_normal((2, 8)).astype(np.float32)
    close(run(proto, {"x": x, "c": np.array(True)}), [gelu(x + weight(8))])
    close(run(proto, {"x": x, "c": np.array(False)}), [x + weight(8) + x])
