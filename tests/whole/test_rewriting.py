"""Networks are rewritten in ways that keep their function, and keep their score; a fresh seed each commit.

``python -m tests.rewriting`` runs many more by hand. What it finds becomes a case in a test of its kind.
"""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import onnx
import pytest
from builders import model, weight
from rewriting import chains, networks
from rewriting.chains import Step
from rewriting.editing import REWRITES, Rewrite

SEED = int(os.environ["INTRAIN_REWRITING_SEED"])
GROUPS, CHAINS, LONGEST = 8, 25, 4
SHARE_OF_FILES = 0.15
FIRST = {
    "functions_inlined": "functions_made",
    "slices_as_split": "split_as_slices",
    "constant_nodes_as_initializers": "initializers_as_constant_nodes",
    "transpose_pushed": "transposes_put_in",
    "shapes_added": "shapes_stripped",
}
"""What makes a form that a rewrite takes back."""


def network(rng: np.random.Generator) -> tuple[str, onnx.ModelProto]:
    """A random network, or one of the samples and the matrix."""
    if rng.random() < SHARE_OF_FILES:
        files = list(networks.files().items())
        name, path = files[int(rng.integers(len(files)))]
        return name, networks.on_grid(onnx.load(path))
    plan = networks.random_plan(rng)
    return repr(plan), networks.build(plan)


def test_halves_of_a_linear_layer_are_seen_behind_a_transposed_batch_norm():
    """Found by the chains of a commit, and older than it."""
    plan = networks.Plan(kind="image", opset=17, width=6, seed=116140, blocks=(("gated", 4, "Relu"),))
    chain = (Step("batch_norm_made", 1739610967), Step("convolution_as_linear", 1081805870))
    assert chains.judge(networks.build(plan), chain, longest=LONGEST).verdict == "equal"


def test_halves_of_a_convolution_in_two_dimensions_are_seen_behind_a_batch_norm_in_one():
    """Found by the chains of a commit, and older than it; Keras writes Conv1D and BatchNorm so."""
    plan = networks.Plan(kind="signal", opset=15, width=8, seed=631392, blocks=(("gated", 8, "Gelu"),))
    chain = (Step("batch_norm_made", 2139845228), Step("conv1d_as_conv2d", 1446549747))
    assert chains.judge(networks.build(plan), chain, longest=LONGEST).verdict == "equal"


@pytest.mark.xfail(
    reason="three rewrites of a ViT's values, one of them as a convolution, leave other layer keys"
)
def test_values_of_an_attention_keep_their_score_as_a_convolution():
    """Found by the chains of a commit, and older than it."""
    names = ("activation_written_out", "linear_as_convolution", "transposes_put_in")
    chain = tuple(map(Step, names, (1679808545, 1941965999, 650358537)))
    proto = networks.on_grid(onnx.load(networks.files()["vit_mean-dynamo"]))
    assert chains.judge(proto, chain, longest=LONGEST).verdict == "equal"


@pytest.mark.xfail(reason="three rewrites of an attention of odd width leave other layer keys")
def test_attention_of_odd_width_keeps_its_score_through_three_rewrites():
    """Found by the chains of a commit, and older than it."""
    blocks = (("attention", 8, "Elu"), ("linear", 12, "Gelu"), ("attention", 6, "Gelu"), ("norm", 4, "Elu"))
    plan = networks.Plan(kind="tokens", opset=17, width=4, seed=747439, blocks=blocks)
    names = ("onnxruntime_extended", "activation_written_out", "transposes_put_in")
    chain = tuple(map(Step, names, (189721219, 726623733, 124183626)))
    assert chains.judge(networks.build(plan), chain, longest=LONGEST).verdict == "equal"


def test_a_weight_that_is_stored_in_double_keeps_the_score():
    """Found by the chains of a commit: the moments of its layer are those of single inputs."""
    proto = onnx.load(networks.files()["pytorch_encoder_dynamo"])
    chain = (Step("weight_behind_views", 435657700),)
    assert chains.judge(proto, chain, longest=LONGEST).verdict == "equal"


@pytest.mark.parametrize("group", range(GROUPS))
def test_chains_of_rewrites_keep_the_score(group: int):
    """INTRAIN_REWRITING_SEED=N repeats a run; the end of every run says its N."""
    verdicts: Counter[str] = Counter()
    broken = []
    for index in range(CHAINS):
        rng = np.random.default_rng([SEED, group, index])
        title, proto = network(rng)
        outcome = chains.judge(proto, chains.random_chain(rng), longest=LONGEST)
        verdicts[outcome.verdict if outcome.steps else "no step applied"] += 1
        if outcome.verdict in chains.BROKEN:
            chain, outcome = chains.shorten(proto, outcome.steps)
            broken.append(f"{outcome.verdict}: {title}\n  {chain}\n  {outcome.detail}")
    assert not broken, f"INTRAIN_REWRITING_SEED={SEED}: {dict(verdicts)}\n" + "\n".join(broken)
    assert verdicts["equal"] > CHAINS / 2


def test_no_tool_is_missing_but_the_large_ones():
    missing = {name for name, found in REWRITES.items() if not found.available}
    assert missing <= {"onnxsim", "onnxoptimizer"}


@pytest.mark.parametrize("name", sorted(n for n, found in REWRITES.items() if found.tool is None))
def test_a_rewrite_applies_and_keeps_the_function(name: str):
    """Each is met with one network after another, until it has changed three of them."""
    names = [FIRST[name]] * 3 + [name] if name in FIRST else [name]
    applied = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        proto = networks.build(networks.random_plan(rng))
        chain = tuple(Step(step, int(rng.integers(2**16))) for step in names)
        outcome = chains.follow(proto, chain, len(chain))
        assert outcome.verdict == "equal", outcome.detail
        if name in {step.name for step in outcome.steps}:
            assert outcome.model is not None
            assert outcome.model.graph != proto.graph
            applied += 1
        if applied == 3:
            return
    pytest.fail(f"{name} applied to {applied} networks")


@pytest.mark.parametrize("kind", networks.BLOCKS)
def test_all_weights_of_a_random_network_are_counted(kind: str):
    plans = (networks.random_plan(np.random.default_rng(seed)) for seed in range(80))
    found = [plan for plan in plans if plan.kind == kind][:6]
    assert len(found) == 6
    for plan in found:
        data = chains.measure(networks.build(plan))
        assert data["coverage"]["share"] == 1
        assert data["score"]["intrain"] > 0


def another(proto: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """The network with its first weight doubled: another function."""
    tensor = next(t for t in proto.graph.initializer if len(t.dims) > 1)
    tensor.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(tensor), tensor.name))
    return proto


def deeper(proto: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """The same function with a layer more: an identity matrix behind the input."""
    name = proto.graph.input[0].name
    size = proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    for node in proto.graph.node:
        node.input[:] = ["deeper" if v == name else v for v in node.input]
    proto.graph.node.insert(0, onnx.helper.make_node("MatMul", [name, "eye"], ["deeper"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(size, dtype=np.float32), "eye"))
    return proto


NET = model(
    "(float[N,6] x) => (float[N,3] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }",
    {"w": weight(6, 8), "v": weight(8, 3)},
)


@pytest.mark.parametrize(("function", "verdict"), [(another, "faulty"), (deeper, "differs")])
def test_what_is_wrong_is_found_and_shortened(function, verdict: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(REWRITES, "wrong", Rewrite("wrong", function))
    steps = ("names_shuffled", "weight_norm", "wrong", "operands_swapped", "weight_as_sum")
    chain = tuple(Step(name, 3) for name in steps)
    assert chains.judge(NET, chain).verdict == verdict
    shorter, outcome = chains.shorten(NET, chain)
    assert [step.name for step in shorter] == ["wrong"]
    assert outcome.verdict == verdict


def test_a_tool_that_changes_the_function_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(REWRITES, "wrong", Rewrite("wrong", another, tool="onnx"))
    outcome = chains.judge(NET, (Step("wrong", 0), Step("weight_norm", 0)))
    assert [step.name for step in outcome.steps] == ["weight_norm"]
    assert outcome.verdict == "equal"
    assert outcome.gone[0].startswith("wrong moves outputs by")


def test_an_internal_error_is_a_broken_promise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chains, "score", lambda *_: 1 / 0)
    outcome = chains.judge(NET, (Step("weight_norm", 0),), expected={"layers": []})
    assert outcome.verdict == "crashed"
    assert "ZeroDivisionError" in outcome.detail
