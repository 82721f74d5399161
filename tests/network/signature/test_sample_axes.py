"""What is proved of a graph, that it computes each sample by itself, is what a run of it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import model, normalised, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.prepare import _choose_execution
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.network import given_inputs
from intrain_onnx.network.signature.sample_axes import each_by_itself
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.runtime.convert import convert

ROOT = Path(__file__).parents[3]
FILES = sorted([*ROOT.glob("samples/*.onnx"), *ROOT.glob("tests/forms/*.onnx")])
CPU = torch.device("cpu")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_what_is_proved_of_a_file_a_run_of_it_shows(path: Path) -> None:
    config, runs = ScoreConfig.for_protocol(batch=4), runs_on(CPU)
    network = Network.of(load(path), config, runs)
    probed = for_protocol(network, config, runs.see)
    used = given_inputs.resolve(probed.model, config, sizes=probed.sizes)
    if each_by_itself(probed.model.graph, {spec.name: spec.batch_axis for spec in used.inputs}):
        assert _choose_execution(convert(probed.model), used, 0, CPU) == (True, [])


def test_most_samples_need_no_run() -> None:
    proved = 0
    samples = [path for path in FILES if path.parent.name == "samples"]
    for path in samples:
        network = Network.of(load(path), ScoreConfig.for_protocol())
        axes = {spec.name: spec.batch_axis for spec in network.single.inputs}
        proved += each_by_itself(network.model.graph, axes)
    assert proved > len(samples) // 2


W, CONV = {"w": weight(4, 4)}, {"w": weight(4, 2, 3, 3)}
APART = {
    "relu": ("float[N,4] x", "y = Relu(x)", {}),
    "linear": ("float[N,4] x", "y = MatMul(x, w)", W),
    "linear of rows": ("float[N,3,4] x", "y = MatMul(x, w)", W),
    "gemm": ("float[N,4] x", "y = Gemm<transB = 1>(x, w)", W),
    "offset": ("float[N,4] x", "y = Add(x, b)", {"b": weight(1, 4)}),
    "weight first": ("float[N,4,5] x", "y = MatMul(w, x)", W),
    "attention": (
        "float[N,3,4] x",
        "t = Transpose<perm = [0, 2, 1]>(x) p = MatMul(x, t) q = Softmax<axis = -1>(p) y = MatMul(q, x)",
        {},
    ),
    "convolution": ("float[N,2,5,5] x", "c = Conv(x, w) y = Flatten(c)", CONV),
    "pooled": ("float[N,2,5,5] x", "y = MaxPool<kernel_shape = [2, 2]>(x)", {}),
    "reshape": ("float[N,2,6] x", "y = Reshape(x, s)", {"s": np.array([-1, 12])}),
    "reshape by zero": ("float[N,2,6] x", "y = Reshape(x, s)", {"s": np.array([0, -1])}),
    "mean": ("float[N,2,6] x", "y = ReduceMean(x, a)", {"a": np.array([2])}),
    "concatenation": ("float[N,4] x", "y = Concat<axis = 1>(x, x)", {}),
    "split": ("float[N,4] x", "y, z = Split<axis = 1, num_outputs = 2>(x)", {}),
    "slice": (
        "float[N,4] x",
        "y = Slice(x, b, e, a)",
        {"b": np.array([1]), "e": np.array([3]), "a": np.array([1])},
    ),
    "padding": ("float[N,4] x", "y = Pad(x, p)", {"p": np.array([0, 1, 0, 1])}),
    "row of each": ("float[N,3,4] x", "y = Gather<axis = 1>(x, i)", {"i": np.array(0)}),
    "transposed": (
        "float[N,3,4] x",
        "t = Transpose<perm = [1, 0, 2]>(x) y = Transpose<perm = [1, 0, 2]>(t)",
        {},
    ),
    "embedding": ("int64[N,3] x", "y = Gather(w, x)", W),
    "squeezed": ("float[N,1,4] x", "y = Squeeze(x, a)", {"a": np.array([1])}),
    "unsqueezed": ("float[N,4] x", "y = Unsqueeze(x, a)", {"a": np.array([1])}),
    "normalised": ("float[N,3,4] x", "y = LayerNormalization(x, s)", {"s": weight(4)}),
}
"""Graphs of which each sample's output depends on that sample alone."""

MIXED = {
    "softmax over samples": ("float[N,4] x", "y = Softmax<axis = 0>(x)", {}),
    "mean over samples": ("float[N,4] x", "y = ReduceMean(x, a)", {"a": np.array([0])}),
    "mean over all": ("float[N,4] x", "y = ReduceMean<keepdims = 1>(x)", {}),
    "samples times samples": ("float[N,4] x", "t = Transpose(x) y = MatMul(x, t)", {}),
    "a batch of two": ("float[N,4] x", "y = Reshape(x, s)", {"s": np.array([1, 4])}),
    "rows of two samples": ("float[N,3,4] x", "y = Reshape(x, s)", {"s": np.array([-1, 4])}),
    "an offset of each sample": ("float[N,4] x", "y = Add(x, b)", {"b": weight(2, 4)}),
    "summed along samples": ("float[N,4] x", "y = CumSum(x, a)", {"a": np.array(0)}),
    "a row of the batch": ("float[N,4] x", "y = Gather<axis = 0>(x, i)", {"i": np.array([0])}),
    "concatenated samples": ("float[N,4] x", "y = Concat<axis = 0>(x, x)", {}),
    "half of the samples": ("float[N,4] x", "y, z = Split<axis = 0, num_outputs = 2>(x)", {}),
    "padded samples": ("float[N,4] x", "y = Pad(x, p)", {"p": np.array([1, 0, 0, 0])}),
    "crossed": ("float[N,N] x", "t = Transpose(x) y = Add(x, t)", {}),
    "its shape": ("float[N,4] x", "s = Shape(x) c = Cast<to = 1>(s) y = Add(x, c)", {}),
    "in training": (
        "float[N,4] x",
        "y, m, v = BatchNormalization<training_mode = 1>(x, s, s, s, s)",
        {"s": np.ones(4, np.float32)},
    ),
    "random": ("float[N,4] x", "r = RandomNormal<shape = [1, 4]>() y = Add(x, r)", {}),
    "indices of the maximum": (
        "float[N,2,4,4] x",
        "p, i = MaxPool<kernel_shape = [2, 2]>(x) c = Cast<to = 1>(i) y = Add(p, c)",
        {},
    ),
}
"""Graphs that mix samples, or that take no number of them but one."""


def proved(case: tuple[str, str, dict]) -> bool:
    inputs, nodes, weights = case
    graph = normalised(model(f"({inputs}) => (float[M] y) {{ {nodes} }}", weights), batch=2)
    return each_by_itself(graph.graph, {"x": 0})


@pytest.mark.parametrize("name", APART)
def test_operators_that_compute_each_sample_by_itself(name: str) -> None:
    assert proved(APART[name])


@pytest.mark.parametrize("name", MIXED)
def test_operators_that_mix_samples(name: str) -> None:
    assert not proved(MIXED[name])


@pytest.mark.parametrize("name", APART)
def test_a_run_of_two_samples_is_two_runs_of_one(name: str) -> None:
    inputs, nodes, weights = APART[name]
    graph = normalised(model(f"({inputs}) => (float[M] y) {{ {nodes} }}", weights), batch=2)
    shape = graph.graph.inputs[0].shape
    drawn = np.random.default_rng(0).standard_normal(tuple(shape)) if shape is not None else None
    assert drawn is not None
    fed = torch.tensor(
        np.abs(drawn).astype(np.int64) if inputs.startswith("int64") else drawn.astype(np.float32)
    )
    module = convert(graph)
    together, apart = module(fed), [module(part) for part in fed.split(1)]
    for whole, parts in zip(_list(together), zip(*map(_list, apart), strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts))


def _list(outputs: object) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)  # type: ignore[call-overload]


def test_a_recurrence_has_its_samples_second() -> None:
    text = "(float[5,N,3] x) => (float[5,1,N,4] y) { y = GRU<hidden_size = 4>(x, w, r) }"
    graph = normalised(model(text, {"w": weight(1, 12, 3), "r": weight(1, 12, 4)}), batch=2)
    assert each_by_itself(graph.graph, {"x": 1})
    assert not each_by_itself(graph.graph, {"x": 0})
