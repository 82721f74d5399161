"""Which axis holds the samples, and when none does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight
from click.testing import CliRunner

from intrain_onnx import Report, cli, score
from intrain_onnx.audit import policy
from intrain_onnx.audit.gather import config_for
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.load import load
from intrain_onnx.measure.inputs import draw
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.rewrites.network import Network

QUICK: dict[str, Any] = {"seeds": 1, "batch": 3, "threads": 1, "device": "cpu", "parity": False}
GRAPH = """(float[num_nodes,6] x, int64[2,num_edges] edges) => (float[num_nodes,4] y) {
    from = Gather(edges, zero) to = Gather(edges, one)
    h = MatMul(x, w) r = Relu(h) sent = Gather(r, from)
    i = Unsqueeze(to, last) e = Expand(i, width) nothing = Mul(r, naught)
    got = ScatterElements<axis = 0, reduction = "add">(nothing, e, sent)
    y = MatMul(got, v)
}"""
NODES = {
    "w": weight(6, 5),
    "v": weight(5, 4),
    "zero": np.array(0),
    "one": np.array(1),
    "last": np.array([1]),
    "width": np.array([1, 5]),
    "naught": np.array(0, np.float32),
}
MEAN = "(float[{},6] x) => (float[5] y) {{ h = MatMul(x, w) y = ReduceMean<keepdims = 0>(h, zeros) }}"


def single(text: str, weights: dict[str, np.ndarray]) -> Signature:
    return Network.of(load(model(text, weights)), ScoreConfig.for_protocol(**QUICK)).single


def test_the_nodes_of_a_graph_are_no_samples() -> None:
    found = single(GRAPH, NODES)
    assert found.separate
    assert [spec.batch_axis for spec in found.inputs] == [None, None]
    assert [(spec.kind, spec.high) for spec in found.inputs] == [("noise", 0), ("edge_index", 64)]


def test_samples_without_an_axis_are_calls_of_their_own() -> None:
    report = score(model(GRAPH, NODES), ScoreConfig.for_protocol(**QUICK)).document
    assert (report.settings.execution, report.settings.samples) == ("sample_by_sample", 3)
    assert [row.rows for row in report.layers] == [3 * 64] * 2
    assert "no_batch_axis" in {row.code for row in report.warnings}


@pytest.mark.parametrize(
    ("text", "separate"),
    [
        ("(float[3,H,W] x) => (float[5] y) { r = ReduceMean(x) e = Mul(r, five) y = Reshape(e, to) }", True),
        (
            "(float[frames,6] x) => (float[5] y) { h = MatMul(x, w) y = ReduceMean<keepdims = 0>(h, zeros) }",
            True,
        ),
        ("(float[N,6] x) => (float[N,5] y) { y = MatMul(x, w) }", False),
        ("(float[N,6] x) => (float[Gemm_dim_0,5] y) { y = MatMul(x, w) }", False),
        ("(float[4,6] x) => (float[4,5] y) { y = MatMul(x, w) }", False),
        ("(float[1,6] x) => (float[5] y) { h = MatMul(x, w) y = Reshape(h, to) }", False),
        (
            "(float[batch,6] x) => (float[5] y) { h = MatMul(x, w) y = ReduceMean<keepdims = 0>(h, zeros) }",
            False,
        ),
    ],
)
def test_an_axis_that_no_output_has_holds_no_samples(text: str, separate: bool) -> None:
    weights = {
        "w": weight(6, 5),
        "five": np.ones(5, np.float32),
        "to": np.array([5]),
        "zeros": np.array([0]),
    }
    assert single(text, weights).separate == separate


def test_an_embedding_that_is_looked_up_by_ids_keeps_its_samples() -> None:
    text = "(int64[N,T] ids, float[N,6] x) => (float[N,T,4] y) { y = Gather(table, ids) }"
    assert not single(text, {"table": weight(9, 4)}).separate


LINEAR = "(float[{}] x, float[{}] z) => (float y) {{ h = MatMul(x, w) g = MatMul(z, w) y = Add(h, g) }}"


def axes(dims: tuple[str, str], told: dict[str, int | None]) -> Signature:
    config = ScoreConfig.for_protocol(**QUICK, batch_axes=told)
    return Network.of(load(model(LINEAR.format(*dims), {"w": weight(6, 5)})), config).single


@pytest.mark.parametrize(
    ("dims", "told", "found", "fixed"),
    [
        (("A,B,6", "A,B,6"), {"x": 1}, [1, 1], None),  # by the symbol
        (("A,B,6", "C,D,6"), {"x": 1}, [1, 0], None),
        (("A,B,6", "C,D,6"), {"x": 1, "z": None}, [1, None], None),
        (("3,B,6", "3,B,6"), {"x": 0, "z": 0}, [0, 0], 3),
        (("3,B,6", "3,B,6"), {"x": 1}, [1, 1], None),
        (("A,B,6", "A,B,6"), {"x": None, "z": None}, [None, None], 1),
        (("3,4,6", "3,4,6"), {"x": 1, "z": None}, [1, None], 4),
    ],
)
def test_told_axes_overrule(
    dims: tuple[str, str], told: dict[str, int | None], found: list[int | None], fixed: int | None
) -> None:
    signature = axes(dims, told)
    assert [spec.batch_axis for spec in signature.inputs] == found
    assert (signature.fixed_batch, signature.separate) == (fixed, set(found) == {None})


def test_told_axes_decide_how_many_samples_are_fed() -> None:
    """The frames of an unbatched sequence would be taken for samples where the output has them."""
    text = "(float[frames,6] x) => (float[frames,5] y) { y = MatMul(x, w) }"
    plain = ScoreConfig.for_protocol(**QUICK, sequence=7)
    told = ScoreConfig.for_protocol(**QUICK, sequence=7, batch_axes={"x": None})
    weights = {"w": weight(6, 5)}
    shapes = [score(model(text, weights), c).document.settings.inputs_fed[0].shape for c in (plain, told)]
    assert shapes == [(3, 6), (7, 6)]
    report = score(model(text, weights), told).document
    assert report.settings.batch_axes == {"x": None}
    assert (report.settings.samples, report.layers[0].rows) == (3, 3 * 7)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"q": 0}, "the model has no input 'q'"),
        ({"x": 3}, "input 'x' has no axis 3"),
        ({"x": 0, "z": 1}, "the batch axis of 'x' is fixed at 3, and that of 'z' at 4"),
    ],
)
def test_told_axes_that_do_not_fit_are_refused(told: dict[str, int | None], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        axes(("3,4,6", "3,4,6"), told)


@pytest.mark.parametrize(
    ("option", "axis", "shape"),
    [("x:1", 1, (64, 3, 6)), ("x:none", None, (64, 64, 6)), ("x:0", 0, (3, 64, 6))],
)
def test_the_option_and_a_policy_say_it_alike(
    option: str, axis: int | None, shape: tuple[int, ...], tmp_path: Path
) -> None:
    text = "(float[A,B,6] x) => (float[A,B,5] y) { y = MatMul(x, w) }"
    onnx.save(model(text, {"w": weight(6, 5)}), tmp_path / "m.onnx")
    quick = ["--seeds", "1", "--batch", "3", "--threads", "1"]
    arguments = ["score", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.json"), *quick]
    done = CliRunner().invoke(cli.main, [*arguments, "--batch-axis", option])
    assert done.exit_code == 0, done.stderr
    assert Report.load(tmp_path / "m.json").document.settings.inputs_fed[0].shape == shape
    written = json.dumps(option[2:] if axis is None else axis)
    told = policy.parse(f"version = 1\n[run.batch_axes]\nx = {written}\n")
    assert config_for("checkpoint", told.run, None).batch_axes == {"x": axis}


def test_an_option_that_is_none_is_refused() -> None:
    done = CliRunner().invoke(cli.main, ["score", "m.onnx", "--batch-axis", "x:first"])
    assert done.exit_code == 2
    assert "'x:first' is not NAME:0 or NAME:none" in done.stderr


GAT = """(float[num_nodes,6] x, int64[2,num_edges] edges) => (float[num_nodes,4] y) {
    h = MatMul(x, w) v = Reshape(h, heads) a = Mul(v, each) s = ReduceSum<keepdims = 0>(a, last)
    to = Gather(edges, one) u = Unsqueeze(to, end) q = GatherND(s, u) m = ReduceMean(q) k = Mul(h, m)
    y = MatMul(k, out)
}"""


def test_rows_are_followed_through_heads_and_sums() -> None:
    """Attention of a graph network: scores of nodes in heads, selected by a GatherND."""
    weights = {"w": weight(6, 8), "heads": np.array([-1, 2, 4]), "each": weight(1, 2, 4), "out": weight(8, 4)}
    constants = {"last": np.array([-1]), "end": np.array([-1]), "one": np.array(1)}
    found = single(GAT, weights | constants)
    assert found.separate
    assert [(spec.kind, spec.high) for spec in found.inputs] == [("noise", 0), ("edge_index", 64)]


def test_positions_in_a_flattened_batch_are_no_rows() -> None:
    """The masked positions of a language model: rows of hidden states whose samples were merged with time."""
    text = """(float[N,T,6] x, int64[M] masked) => (float y) {
        h = MatMul(x, w) f = Reshape(h, flat) g = Gather(f, masked) y = MatMul(g, v)
    }"""
    found = single(text, {"w": weight(6, 8), "v": weight(8, 4), "flat": np.array([-1, 8])})
    assert not found.separate
    assert found.inputs[0].batch_axis == 0


def test_the_number_of_entries_is_that_of_the_indexed_input() -> None:
    """Edges first, as some exporters order them."""
    text = GRAPH.replace("float[num_nodes,6] x, int64[2,num_edges] edges", "int64[2,E] edges, float[7,6] x")
    found = single(text.replace("float[num_nodes,4] y", "float[7,4] y"), NODES)
    assert [(spec.kind, spec.high) for spec in found.inputs] == [("edge_index", 7), ("noise", 0)]


@pytest.mark.parametrize(
    ("text", "separate"),
    [
        ("u = Unsqueeze(n, lead) y = Conv(u, k)", True),
        ("u = Unsqueeze(n, lead) g = Gather(u, zero) p = Unsqueeze(g, lead) y = Conv(p, k)", True),
        (
            "t = Transpose<perm = [1, 2, 0]>(n) b = Transpose<perm = [2, 0, 1]>(t) u = Unsqueeze(b, lead) "
            "y = Conv(u, k)",
            True,
        ),
        ("u = Unsqueeze(n, one) y = Conv(u, grey)", False),
    ],
)
def test_what_a_convolution_sums_over_are_channels(text: str, separate: bool) -> None:
    """An image without a batch, as detection networks take one: how many boxes there are has a new name."""
    graph = f"(float[3,H,W] x) => (float[boxes,C,V,U] y) {{ n = Sub(x, mean) {text} }}"
    constants = {
        "mean": weight(3, 1, 1),
        "lead": np.array([0]),
        "one": np.array([1]),
        "zero": np.array(0),
        "k": weight(4, 3, 3, 3),
        "grey": weight(4, 1, 3, 3),
    }
    words = graph.replace("(", " ").replace(")", " ").replace(",", " ").split()
    found = single(graph, {name: array for name, array in constants.items() if name in words})
    assert found.separate == separate
    assert found.inputs[0].batch_axis == (None if separate else 0)


def test_every_node_has_an_edge_in_either_direction() -> None:
    """Networks take the logarithm of degrees, or divide by them."""
    found = single(GRAPH, NODES)
    assert found.inputs[1].shape == (2, 4 * 64)
    _, edges = draw(found, torch.Generator().manual_seed(0), torch.device("cpu"))
    for ends in edges:
        assert set(ends.tolist()) == set(range(64))
        assert len(set(ends.bincount().tolist())) > 3
    told = ScoreConfig.for_protocol(**QUICK, input_shapes={"edges": (2, 9)})
    few = Network.of(load(model(GRAPH, NODES)), told).single
    assert [spec.shape for spec in few.inputs] == [(64, 6), (2, 9)]


def test_an_index_into_other_rows_stays_below_their_number() -> None:
    """Nodes are added up into graphs, whose number is the length of another input."""
    text = """(float[nodes,6] x, int64[2,edges] e, int64[nodes] of, float[graphs] slots) => (float y) {
        to = Gather(e, one) h = MatMul(x, w) m = Gather(h, to) s = ReduceMean(m) a = Add(h, s)
        u = Unsqueeze(slots, last) z = Mul(u, naught) i = Unsqueeze(of, last) c = Expand(i, width)
        b = Expand(z, width) g = ScatterElements<axis = 0, reduction = "add">(b, c, a) y = MatMul(g, v) }"""
    told = ScoreConfig.for_protocol(**QUICK, input_shapes={"slots": (8,)})
    network = Network.of(load(model(text, NODES)), told, runs_on(torch.device("cpu")))
    kinds = {spec.name: (spec.kind, spec.high) for spec in network.single.inputs}
    assert kinds["e"] == ("edge_index", 64)
    assert kinds["of"] == ("edge_index", 8)
