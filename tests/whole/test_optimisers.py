"""Optimisers and version converters change the graph and not the network: the score stays."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
import pytest
import torch
from builders import model, run_onnxruntime, weight
from matrix import OPTIMISERS, SAMPLES, path
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_static
from onnxruntime.transformers import fusion_options
from onnxruntime.transformers import optimizer as transformers

from intrain_onnx import ScoreConfig, inspect, score, to_torch
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.pipeline import canonical_layers

FOLDER = Path(__file__).parents[2] / "samples"
TOLERANCE = 1e-3
FIGURES = ("intrain", "geometric_capacity", "optimization_resilience")


CONFIG = ScoreConfig.for_protocol(seeds=1, parity=False, threads=1, device="cpu")


@cache
def figures(source: Path) -> list[float]:
    data = score(source, CONFIG).data
    result, named = data["score"], data["scores"]
    counts = data["baselines"].values()
    return [*(result[figure] for figure in FIGURES), *(v["value"] for v in named.values()), *counts]


@cache
def keys(source: Path) -> list[str]:
    return sorted(layer.key for layer in canonical_layers(source, CONFIG).layers)


def assert_same(name: str, changed: Path) -> None:
    assert figures(changed) == pytest.approx(figures(FOLDER / f"{name}.onnx"), rel=TOLERANCE)


def optimised(source: Path, level: str, folder: Path) -> Path:
    """The file as onnxruntime's optimiser writes it at a level, for its CPU provider."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(folder / f"{level}.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return folder / f"{level}.onnx"


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("tool", OPTIMISERS)
def test_an_optimiser_keeps_the_score(name: str, tool: str):
    assert_same(name, path(name, tool))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
def test_onnxruntime_keeps_score_and_keys(name: str, level: str, tmp_path: Path):
    changed = optimised(FOLDER / f"{name}.onnx", level, tmp_path)
    assert_same(name, changed)
    assert keys(changed) == keys(FOLDER / f"{name}.onnx")


@pytest.mark.parametrize("name", SAMPLES)
def test_another_opset_keeps_the_score(name: str, tmp_path: Path):
    model = onnx.load(FOLDER / f"{name}.onnx")
    version = next(o.version for o in model.opset_import if not o.domain)
    converted = onnx.version_converter.convert_version(model, 22 if version != 22 else 21)
    onnx.save(converted, tmp_path / "converted.onnx")
    assert_same(name, tmp_path / "converted.onnx")


BERT = Path(__file__).parents[1] / "forms" / "bert.onnx"


@pytest.mark.parametrize(
    "wish", ["attention", "raw mask", "multi-head attention", "without embeddings", "half precision"]
)
def test_onnxruntimes_transformer_optimiser_keeps_score_and_keys(wish: str, tmp_path: Path):
    """The offline optimiser writes what sessions do not: embeddings and attention as one operator."""
    options = fusion_options.FusionOptions("bert")
    options.use_multi_head_attention = wish == "multi-head attention"
    options.use_raw_attention_mask(wish == "raw mask")
    options.enable_embed_layer_norm = wish != "without embeddings"
    fused = transformers.optimize_model(
        str(BERT), "bert", num_heads=2, hidden_size=16, optimization_options=options, opt_level=0
    )
    written = {node.op_type for node in fused.model.graph.node if node.domain}
    assert written & {"Attention", "MultiHeadAttention"}
    assert ("EmbedLayerNormalization" in written) == (wish != "without embeddings")
    if wish == "half precision":
        fused.convert_float_to_float16()
    fused.save_model_to_file(str(tmp_path / "fused.onnx"))
    assert figures(tmp_path / "fused.onnx") == pytest.approx(figures(BERT), rel=TOLERANCE)
    assert keys(tmp_path / "fused.onnx") == keys(BERT)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "vit"])
@pytest.mark.parametrize("name", ["pytorch_encoder_dynamo", "pytorch_encoder_torchscript"])
def test_the_transformer_optimiser_keeps_encoders(name: str, kind: str, tmp_path: Path):
    fused = transformers.optimize_model(str(FOLDER / f"{name}.onnx"), kind, opt_level=1)
    assert any(node.domain for node in fused.model.graph.node)
    fused.save_model_to_file(str(tmp_path / "fused.onnx"))
    assert_same(name, tmp_path / "fused.onnx")
    assert keys(tmp_path / "fused.onnx") == keys(FOLDER / f"{name}.onnx")


BLOCKED = """(float[N,3,SIZE] x) => (float[N,5] y) {
    a0 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w0, b0) a = Relu (a0)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
    q = BatchNormalization (p, s, b, m, v) r = Relu (q)
    d0 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 20> (r, w1, b1) d = Relu (d0)
    e0 = Conv <kernel_shape = [1, 1]> (d, w2, b2) e = Add (e0, p)
    t0 = Conv <kernel_shape = [1, 1], strides = [3, 3]> (e, w9, b9)
    t1 = Conv <kernel_shape = [1, 1], strides = [3, 3]> (e, w10, b10) t = Add (t0, t1)
    f0 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (t, w3, b3) f1 = Sigmoid (f0)
    z0 = GlobalAveragePool (f1) z1 = Conv <kernel_shape = [1, 1]> (z0, w8, b8) z = Sigmoid (z1)
    f = Mul (f1, z)
    g0 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 2> (f, w4, b4) g = Tanh (g0)
    c = Concat <axis = 1> (f, g)
    h = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    i0 = Conv <kernel_shape = [1, 1]> (h, w5, b5) i = LeakyRelu <alpha = 0.2> (i0)
    u = Resize <coordinate_transformation_mode = "asymmetric", mode = "nearest", nearest_mode = "floor">
        (i, , scales)
    j = Conv <kernel_shape = [3, 3]> (u, w6)
    k = GlobalAveragePool (j) l = Flatten (k) y = Gemm <transB = 1> (l, w7, b7)
}"""
"""What onnxruntime holds in blocks of channels, with 20 and 12 of them, which fill no block."""


def blocked(size: str = "32,32") -> onnx.ModelProto:
    shapes = [(20, 3, 3, 3), (20, 1, 3, 3), (20, 20, 1, 1), (32, 20, 3, 3), (32, 16, 3, 3), (12, 64, 1, 1)]
    shapes += [(24, 12, 3, 3), (5, 24), (32, 32, 1, 1), (20, 20, 1, 1), (20, 20, 1, 1)]
    weights = {f"w{i}": weight(*shape) for i, shape in enumerate(shapes)}
    weights |= {f"b{i}": weight(shape[0], seed=i) for i, shape in enumerate(shapes) if i != 6}
    weights |= {n: weight(20, seed=k) for k, n in enumerate("sbm")} | {"v": weight(20, seed=9) ** 2 + 1}
    return model(
        BLOCKED.replace("SIZE", size), weights | {"scales": np.array([1, 1, 2, 2], np.float32)}, opset=17
    )


@pytest.mark.parametrize("size", ["32,32", "H,W"])
def test_blocks_of_channels_are_undone(size: str, tmp_path: Path):
    """Sums whose sizes are open are made with an axis for the blocks."""
    onnx.save(blocked(size), tmp_path / "plain.onnx")
    changed = optimised(tmp_path / "plain.onnx", "ALL", tmp_path)
    nodes = onnx.load(changed).graph.node
    if not any(node.domain == "com.microsoft.nchwc" for node in nodes):
        pytest.skip("onnxruntime writes no blocks for this processor")
    assert {"Upsample", "MaxPool", "AveragePool", "ReorderOutput"} <= {node.op_type for node in nodes}
    assert ("Reshape" in {node.op_type for node in nodes}) == (size == "H,W")
    assert figures(changed) == pytest.approx(figures(tmp_path / "plain.onnx"), rel=TOLERANCE)
    assert keys(changed) == keys(tmp_path / "plain.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    (expected,) = run_onnxruntime(blocked(), {"x": x})
    actual = to_torch(changed)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_blocks_that_cannot_be_told_apart_are_refused(tmp_path: Path):
    onnx.save(blocked(), tmp_path / "plain.onnx")
    proto = onnx.load(optimised(tmp_path / "plain.onnx", "ALL", tmp_path))
    if not any(node.domain == "com.microsoft.nchwc" for node in proto.graph.node):
        pytest.skip("onnxruntime writes no blocks for this processor")
    for tensor in proto.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(list(tensor.dims), np.float32), tensor.name))
    with pytest.raises(UnsupportedError, match="ORT_ENABLE_EXTENDED"):
        inspect(proto)


@pytest.mark.parametrize("level", ["EXTENDED", "ALL"])
def test_a_quantised_file_keeps_score_and_keys(level: str, tmp_path: Path):
    """Level ALL puts the channels of quantised images last."""
    source, quantised = FOLDER / "keras_mobile.onnx", tmp_path / "quantised.onnx"
    inputs = iter([{"image": np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)}])
    reader = SimpleNamespace(get_next=lambda: next(inputs, None))
    quantize_static(source, quantised, reader, quant_format=QuantFormat.QDQ)
    changed = optimised(quantised, level, tmp_path)
    written = {node.op_type for node in onnx.load(changed).graph.node if node.domain == "com.microsoft"}
    assert ("QLinearConv" in written) == (level == "ALL")
    assert figures(changed) == pytest.approx(figures(quantised), rel=TOLERANCE)
    assert keys(changed) == keys(quantised)


HALVES = {
    "Split": "a, b = Split <axis = 1, num_outputs = 2> (h)",
    "Slice": "a = Slice (h, zero, eight, one) b = Slice (h, eight, end, one)",
    "Gather": "a = Gather <axis = 1> (h, first) b = Gather <axis = 1> (h, second)",
}


def test_parts_of_a_value_are_the_same_whoever_takes_them(tmp_path: Path):
    """Level EXTENDED writes Split for slices of one value."""
    found = []
    for name, halves in HALVES.items():
        text = f"""(float[N,3,8,8] x) => (float[N,4] y) {{
            h = Conv (x, w) {halves} c = Conv (b, v) d = Relu (c) e = Concat <axis = 1> (a, d)
            p = GlobalAveragePool (e) f = Flatten (p) y = MatMul (f, u)
        }}"""
        proto = model(
            text,
            {"w": weight(16, 3, 3, 3), "v": weight(8, 8, 1, 1), "u": weight(16, 4)}
            | {"zero": np.array([0]), "one": np.array([1]), "eight": np.array([8]), "end": np.array([16])}
            | {"first": np.arange(8), "second": np.arange(8, 16)},
        )
        onnx.save(proto, tmp_path / f"{name}.onnx")
        found.append(tmp_path / f"{name}.onnx")
    first, *others = found
    for other in others:
        assert keys(other) == keys(first)
        assert figures(other) == pytest.approx(figures(first), rel=TOLERANCE)
