"""The sequence of a protocol's rewrites: each says what it changed, and why it declined elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from builders import for_probing, model, normalised, run_onnxruntime, weight

from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.inspection import inspect
from intrain_onnx.loading.load import load
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.network import input_shapes
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import STEPS, for_protocol
from intrain_onnx.rewrites.protocol.step import Changes, Draft

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("samples/*.onnx"), *ROOT.glob("tests/forms/*.onnx")])
RUNS = runs_on(torch.device("cpu"))


def described(graph: ir.Model) -> list[object]:
    """All that is computed: nodes, outputs, and which tensors the initializers are; no shapes."""
    nodes = [
        (
            n.domain,
            n.op_type,
            [v and v.name for v in n.inputs],
            [v.name for v in n.outputs],
            str(n.attributes),
        )
        for n in graph.graph.all_nodes()
    ]
    tensors = {name: id(v.const_value) for name, v in graph.graph.initializers.items() if v.uses()}
    return [nodes, tensors, [v.name for v in graph.graph.outputs]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_an_analysis_that_is_kept_is_that_of_the_graph(
    path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a rewrite asks for it: no rewrite leaves a stale one."""
    read = []

    def checked(draft: Draft) -> LayerMap:
        found = kept.__get__(draft)
        assert found == analyse(draft.model, keys=False)
        read.append(found)
        return found

    kept = Draft.layers
    monkeypatch.setattr(Draft, "layers", property(checked))
    config = ScoreConfig.for_protocol(protocol)
    for_protocol(Network.of(load(path), config, RUNS), config, RUNS.see)
    assert read


@pytest.mark.parametrize("name", ["jax_cnn", "pytorch_resnet_torchscript"])
def test_a_graph_that_is_cut_nowhere_is_not_analysed_again(name: str) -> None:
    config = ScoreConfig.for_protocol("checkpoint")
    network = Network.of(load(ROOT / f"samples/{name}.onnx"), config, RUNS)
    draft = Draft(network.model.clone(), config, network.single, RUNS.see, network.layers)
    for step in STEPS[1:3]:
        done = step.rewrite(draft)
        assert done is None or not done.rewired
    assert draft.layers is network.layers


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_rewrite_names_places_where_it_changed_the_graph(path: Path, protocol: str) -> None:
    """And nowhere else: the static pass is made anew where places are named."""
    config = ScoreConfig.for_protocol(protocol)
    graph = Network.of(load(path), config, RUNS).model.clone()
    draft = Draft(graph, config, input_shapes.resolve(graph, config, batch=1), RUNS.see)
    for step in STEPS:
        if not step.when(draft):
            continue
        before, outputs = described(graph), [v.name for v in graph.graph.outputs]
        done = step.rewrite(draft)
        changed = described(graph) != before
        if done is None:
            assert not changed, step.name
        elif done.heads:
            assert {h.value for h in done.heads} == {v.name for v in graph.graph.outputs}, step.name
            assert bool(done.places) == (outputs != [v.name for v in graph.graph.outputs]), step.name
        else:
            assert changed == bool(done.places), step.name
        draft.changed()


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_protocol_leaves_the_network_as_it_was(path: Path) -> None:
    network = Network.of(load(path), ScoreConfig.for_protocol(), RUNS)
    before = described(network.model), described(network.exact)
    first = for_protocol(network, ScoreConfig.for_protocol(), RUNS.see)
    for_protocol(network, ScoreConfig.for_protocol("paper"), RUNS.see)
    assert (described(network.model), described(network.exact)) == before
    again = for_protocol(network, ScoreConfig.for_protocol(), RUNS.see)
    assert again.layers == first.layers
    assert described(again.model)[0] == described(first.model)[0]


NORM = {n: np.abs(weight(6, seed=i)) + 0.5 for i, n in enumerate(("scale", "offset", "mean", "var"))}
CHANNELS = {"g": weight(1, 6, 1, 1, scale=1.0), "o": weight(1, 6, 1, 1), "last": weight(6, scale=1.0)}
CONV = "h = Conv<pads = [1, 1, 1, 1]>(x, w)"
NORMALISE = "n = BatchNormalization(h, scale, offset, mean, var)"

DECLINED = {
    "a skip beside the BatchNorm": (
        f"(float[N,6,6,6] x) => (float y) {{ {CONV} {NORMALISE} y = Add(n, h) }}",
        "absorb_batch_norm",
        "is read without it, too",
    ),
    "a BatchNorm behind an activation": (
        f"(float[N,6,6,6] x) => (float y) {{ h = Relu(x) {NORMALISE} y = Conv(n, w) }}",
        "absorb_batch_norm",
        "not the output of a convolution or linear layer",
    ),
    "a BatchNorm along another axis": (
        f"(float[N,6,4] x) => (float y) {{ h = MatMul(x, u) {NORMALISE} y = Relu(n) }}",
        "absorb_batch_norm",
        "normalises axis 1",
    ),
    "preprocessing": (
        "(float[N,6,6,6] x) => (float y) { a = Mul(x, g) b = Add(a, o) y = Conv(b, w) }",
        "absorb_affine_chains",
        "preprocessing",
    ),
    "a scale along the last axis": (
        "(float[N,6,6,6] x) => (float y) { h = Conv(x, w) a = Mul(h, last4) y = Add(a, last4) }",
        "absorb_affine_chains",
        "another axis than the channels",
    ),
    "a head that shares no numbers": (
        "(int64[N,5] x) => (float y) { e = Gather(table, x) y = MatMul(e, head) }",
        "tie_embeddings",
        "its numbers are not those of the table",
    ),
    "a layer that is used whole and in part": (
        """(float[N,6] x) => (float y, float z) {
            h = MatMul(x, u) a, b = Split<axis = 1, num_outputs = 2>(h) y = Mul(a, b) z = Relu(h)
        }""",
        "split_fused_linear",
        "disjoint sets of channels",
    ),
    "an output of integers": (
        "(float[N,6] x) => (float y, int64[N,6] z) { y = MatMul(x, u) z = Shape(x) }",
        "cut_at_loss_heads",
        "no gradient reaches",
    ),
}
WEIGHTS = {
    "w": weight(6, 6, 3, 3),
    "u": weight(6, 6),
    "last4": weight(4, scale=1.0),
    "table": weight(40, 32),
    "head": weight(32, 40, seed=5),
    **NORM,
    **CHANNELS,
}


@pytest.mark.parametrize("case", DECLINED)
def test_a_rewrite_says_why_it_declined(case: str) -> None:
    text, name, reason = DECLINED[case]
    used = {n: a for n, a in WEIGHTS.items() if n in re.findall(r"\w+", text)}
    found = inspect(model(text, used), rewrites=True).rewrites[name]
    assert any(reason in d.reason for d in found.declined), found
    assert all(d.place for d in found.declined)


def test_every_rewrite_has_a_case_that_declines() -> None:
    """But for those whose condition is the protocol alone, which `Step.when` says."""
    unconditional = {
        "forget_computed_values",
        "infer_shapes_again",
        "complete_shapes_again",
        "own_biases",
        "own_norms",
        "free_batch",
    }
    assert {step.name for step in STEPS} == {name for _, name, _ in DECLINED.values()} | unconditional


def test_a_reshape_with_allowzero_keeps_its_batch() -> None:
    text = "(float[2,6] x) => (float y) { r = Reshape<allowzero = 1>(x, to) y = MatMul(r, u) }"
    graph = normalised(model(text, {"u": weight(6, 6), "to": np.array([2, 6])}))
    config = ScoreConfig.for_protocol()
    draft = Draft(graph, config, input_shapes.resolve(graph, config, batch=1))
    (step,) = (s for s in STEPS if s.name == "free_batch")
    assert step.when(draft)
    done = step.rewrite(draft)
    assert done is not None
    assert done == Changes(places=[], declined=done.declined)
    assert "allowzero" in done.declined[0].reason
    x = weight(2, 6, scale=1.0)
    np.testing.assert_allclose(run_onnxruntime(graph, {"x": x})[0], x @ weight(6, 6), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("views", "shape", "absorbed"),
    [
        ("h = Squeeze(c, at)", "N,6,1,4", True),
        ("h = Squeeze(c, from_the_end)", "N,6,1,4", True),
        ("t = Transpose<perm = [0, 2, 1, 3]>(c) h = Squeeze(t, first)", "N,6,1,4", True),
        ("h = Unsqueeze(c, at)", "N,6,4,4", True),
        ("h = Unsqueeze(c, first)", "N,6,4,4", False),
        ("h = Squeeze(c)", "N,6,1,4", False),
        ("h = Squeeze(c, all_but_channels)", "1,6,1,1", False),
        ("s = Squeeze(c, all_but_channels) h = Transpose<perm = [0]>(s)", "1,6,1,1", False),
    ],
)
def test_a_batch_norm_is_absorbed_behind_axes_that_come_and_go(
    views: str, shape: str, absorbed: bool
) -> None:
    """A convolution in one dimension that is written in two, as TensorFlow's, has a Squeeze behind it."""
    size = {"first": [1], "at": [2], "from_the_end": [-2], "all_but_channels": [0, 2, 3]}
    graph = model(
        f"(float[{shape}] x) => (y) {{ c = Conv(x, w) {views} {NORMALISE} y = Relu(n) }}",
        {"w": weight(6, 6, 1, 1), **NORM, **{name: np.array(axes) for name, axes in size.items()}},
    )
    probed = for_probing(graph)
    assert ("BatchNormalization" not in {node.op_type for node in probed.model.graph}) == absorbed
