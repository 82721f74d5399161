"""What must not change a score, what a user's module is, and what scoring leaves behind."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, run_onnxruntime, weight
from onnx import numpy_helper
from torch import fx, nn

import intrain_onnx
from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, NumericalError
from intrain_onnx.measure import initialise, probe
from intrain_onnx.measure.prepare import Runnable

SAMPLES = Path(__file__).parents[2] / "samples"
PROTOCOLS = ["architecture", "checkpoint", "paper"]
NAMES = ["jax_cnn", "jax_mixer", "keras_mobile", "pytorch_encoder_dynamo", "pytorch_resnet_training"]


def scored(source: Any, protocol: str = "architecture", **settings: Any) -> dict[str, Any]:
    config = ScoreConfig.for_protocol(
        protocol, **{"seeds": 1, "batch": 8, "threads": 1, "device": "cpu", "parity": False} | settings
    )
    return json.loads(pipeline.score(source, config).to_json())


def sample(name: str) -> onnx.ModelProto:
    return onnx.load(SAMPLES / f"{name}.onnx")


def same(a: dict[str, Any], b: dict[str, Any], rel: float) -> None:
    for part in ("geometric_capacity", "optimization_resilience", "intrain"):
        assert a["score"][part] == pytest.approx(b["score"][part], rel=rel), part
    for part in ("layers", "parameter_tensors"):
        assert a["score"][part] == b["score"][part]


# Names and order


def renamed(proto: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """Every value and node under another name, in no order that has to do with the old one."""
    proto = copy.deepcopy(proto)
    graph = proto.graph
    names = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    names |= {name for node in graph.node for name in (*node.input, *node.output)} - {""}
    numbers = list(range(len(names)))
    random.Random(seed).shuffle(numbers)
    new = {name: f"value/{number}" for name, number in zip(sorted(names), numbers, strict=True)} | {"": ""}
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = new[value.name]
    del graph.value_info[:]
    for index, node in enumerate(graph.node):
        assert not any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)
        node.name = f"node {1000 - index}"
        node.input[:] = [new[name] for name in node.input]
        node.output[:] = [new[name] for name in node.output]
    return proto


def reordered(proto: onnx.ModelProto, *, valid: bool, seed: int = 0) -> onnx.ModelProto:
    """Nodes in another order, topological or any; initializers too."""
    proto = copy.deepcopy(proto)
    rng = random.Random(seed)
    rest = list(proto.graph.node)
    rng.shuffle(rest)
    nodes = rest
    if valid:
        made = {v.name for v in (*proto.graph.input, *proto.graph.initializer)} | {""}
        nodes = []
        while rest:
            node = next(n for n in rest if made.issuperset(n.input))
            rest.remove(node)
            nodes.append(node)
            made.update(node.output)
    initializers = list(proto.graph.initializer)
    rng.shuffle(initializers)
    for field, values in ((proto.graph.node, nodes), (proto.graph.initializer, initializers)):
        copies = [copy.deepcopy(v) for v in values]
        del field[:]
        field.extend(copies)
    return proto


def keys(report: dict[str, Any]) -> Counter[tuple[str, int, int]]:
    return Counter((row["key"], row["depth"], row["rows"]) for row in report["layers"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", NAMES)
def test_names_and_order_change_nothing(name: str, protocol: str) -> None:
    proto = sample(name)
    expected = scored(proto, protocol)
    for other in (
        renamed(proto),
        reordered(proto, valid=True),
        renamed(reordered(proto, valid=True, seed=1), seed=1),
    ):
        assert other != proto
        found = scored(other, protocol)
        same(found, expected, rel=1e-6)
        assert keys(found) == keys(expected)
        ratios = ({row["key"]: row["participation_ratio"] for row in r["layers"]} for r in (found, expected))
        assert next(ratios) == pytest.approx(next(ratios), rel=1e-5)


def random_graph(rng: random.Random) -> onnx.ModelProto:
    """Layers of one shape, so that nothing but the structure tells them apart; every value is used."""
    values, body, unused = ["x"], [], {"x"}
    weights = {"last": weight(4, 3)}
    for index in range(rng.randint(3, 10)):
        op = rng.choice(["MatMul", "MatMul", "Add", "Mul", "Tanh"])
        read = [rng.choice(values) for _ in range(2 if op in ("Add", "Mul") else 1)]
        unused -= set(read)
        if op == "MatMul":
            weights[f"w{index}"] = weight(4, 4, seed=index)
        operands = ", ".join(read + ([f"w{index}"] if op == "MatMul" else []))
        body.append(f"v{index} = {op}({operands})")
        values.append(f"v{index}")
        unused.add(f"v{index}")
    body.append(f"s = Sum({', '.join(sorted(unused))}) y = MatMul(s, last)")
    return model(f"(float[N,4] x) => (float[N,3] y) {{ {' '.join(body)} }}", weights)


@pytest.mark.parametrize("seed", range(20))
def test_names_and_order_change_nothing_in_random_graphs(seed: int) -> None:
    proto = random_graph(random.Random(seed))
    expected, found = scored(proto), scored(renamed(reordered(proto, valid=True, seed=seed), seed=seed))
    same(found, expected, rel=1e-6)
    assert keys(found) == keys(expected)


@pytest.mark.parametrize("name", NAMES)
def test_nodes_in_no_valid_order_are_sorted(name: str) -> None:
    """ONNX asks for a topological order; where a file has none, the graph is still one."""
    proto = sample(name)
    same(scored(reordered(proto, valid=False)), scored(proto), rel=1e-6)


# The same settings, other threads


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["keras_mobile", "pytorch_encoder_torchscript"])
def test_the_same_settings_give_the_same_bytes_but_for_timings(name: str, protocol: str) -> None:
    path = SAMPLES / f"{name}.onnx"
    config = ScoreConfig.for_protocol(protocol, seeds=2, batch=8, threads=1, device="cpu")
    texts = []
    for _ in range(2):
        data = dict(intrain_onnx.score(path, config).data)
        assert data.pop("timings_s")
        texts.append(json.dumps(data, allow_nan=False))
        torch.randn(7)  # whatever else draws numbers in the meantime
    assert texts[0] == texts[1]


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_nodes_draw_from_the_score_s_seed_whatever_the_process_began_with(op: str) -> None:
    """Nodes without a seed of their own; torch's initial seed differs from process to process."""
    proto = model(
        f"(float[N,6] x) => (float[N,5] y) {{ s = Sigmoid(x) r = {op}(s) n = Add(x, r) y = MatMul(n, w) }}",
        {"w": weight(6, 5)},
    )
    found = []
    for start in (1, 2):
        torch.manual_seed(start)
        found.append(scored(proto, seeds=2, seed=3)["score"]["runs"])
        assert torch.initial_seed() == start
    assert found[0] == found[1]
    assert found[0][1:] == scored(proto, seed=4)["score"]["runs"]


def test_a_run_depends_on_its_own_seed_alone() -> None:
    proto = sample("keras_mobile")
    both = scored(proto, seeds=2, seed=3)["score"]["runs"]
    assert [run["seed"] for run in both] == [3, 4]
    assert scored(proto, seed=4)["score"]["runs"] == [both[1]]
    assert both[0]["intrain"] != both[1]["intrain"]


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_round_off_only(name: str) -> None:
    proto = sample(name)
    same(scored(proto, threads=1), scored(proto, threads=2), rel=1e-5)


def test_a_file_and_the_same_model_in_memory_agree() -> None:
    proto = sample("pytorch_resnet_dynamo")
    before = proto.SerializeToString()
    same(scored(SAMPLES / "pytorch_resnet_dynamo.onnx"), scored(proto), rel=1e-12)
    assert proto.SerializeToString() == before


# Exports of one network


def test_batch_norm_kept_or_folded_by_the_exporter_gives_one_architecture_score() -> None:
    kept, folded = scored(sample("pytorch_resnet_training")), scored(sample("pytorch_resnet_dynamo"))
    assert kept["nodes"]["absorbed"] == 9
    assert folded["nodes"]["absorbed"] == 0
    same(kept, folded, rel=1e-9)
    assert keys(kept) == keys(folded)


@pytest.mark.parametrize("network", ["pytorch_resnet", "pytorch_encoder"])
def test_both_exporters_of_pytorch_give_one_architecture_score(network: str) -> None:
    a, b = (scored(sample(f"{network}_{exporter}")) for exporter in ("torchscript", "dynamo"))
    same(a, b, rel=1e-5)


def test_under_checkpoint_the_two_exports_compute_the_same_activations() -> None:
    """The norm stands between, so the layers differ by its scale for each channel, and PR with it."""
    kept, folded = (scored(sample(f"pytorch_resnet_{name}"), "checkpoint") for name in ("training", "dynamo"))
    assert [row["rows"] for row in kept["layers"]] == [row["rows"] for row in folded["layers"]]
    assert kept["layers"][-1]["participation_ratio"] == pytest.approx(
        folded["layers"][-1]["participation_ratio"], rel=1e-4
    )


def scaled(proto: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    proto = copy.deepcopy(proto)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(array * np.float32(factor), tensor.name))
    return proto


@pytest.mark.parametrize("factor", [1e-3, 0.5, 1e3])
def test_the_weights_of_the_file_are_nothing_to_architecture(factor: float) -> None:
    proto = sample("pytorch_resnet_torchscript")
    assert scored(scaled(proto, factor))["score"] == scored(proto)["score"]
    assert scored(scaled(proto, factor), "checkpoint")["score"] != scored(proto, "checkpoint")["score"]


@pytest.mark.parametrize("name", ["pytorch_resnet_torchscript", "jax_mixer"])
def test_calibration_takes_out_the_scale_of_each_channel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights drawn with any positive scale for each channel are calibrated to one network."""
    expected = scored(sample(name))
    drawn: list[int] = []
    original = Runnable.redraw

    def uneven(runnable: Runnable, seed: int) -> None:
        original(runnable, seed)
        drawn.append(seed)
        values = runnable.parameters
        rng = np.random.default_rng(0)
        with torch.no_grad():
            for layer in (x for x in runnable.layers.layers if x.name not in runnable.as_drawn):
                found = layer.weights[0]
                factor = torch.from_numpy(2.0 ** rng.integers(-6, 6, (found.shape[0],)).astype(np.float32))
                spread = factor.reshape(-1, *[1] * (len(found.shape) - 1)).expand(found.shape)
                parameter = values[found.name]
                parameter.mul_(initialise.to_file_layout(spread, tuple(parameter.shape), found.steps))

    monkeypatch.setattr(Runnable, "redraw", uneven)
    same(scored(sample(name)), expected, rel=1e-5)
    assert drawn


def test_the_layout_of_a_weight_in_the_file_is_nothing_to_architecture() -> None:
    """MatMul, Gemm with its weight either way, and a weight behind a Transpose: one linear layer."""
    w, v = weight(6, 8), weight(8, 5)
    head = "(float[N,6] x) => (float[N,5] y) {"
    graphs = [
        (f"{head} h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }}", {"w": w, "v": v}),
        (f"{head} h = Gemm(x, w) r = Relu(h) y = Gemm(r, v) }}", {"w": w, "v": v}),
        (
            f"{head} h = Gemm<transB = 1>(x, w) r = Relu(h) y = Gemm<transB = 1>(r, v) }}",
            {"w": w.T.copy(), "v": v.T.copy()},
        ),
        (
            f"{head} t = Transpose(w) h = MatMul(x, t) r = Relu(h) y = MatMul(r, v) }}",
            {"w": w.T.copy(), "v": v},
        ),
        (
            f"{head} h = MatMul(x, w) b = Add(h, o) r = Relu(b) y = Gemm(r, v, p) }}",
            {"w": w, "v": v, "o": weight(8), "p": weight(5)},
        ),
    ]
    checkpoint = [scored(model(*graph), "checkpoint") for graph in graphs[:4]]
    for found in checkpoint[1:]:
        same(found, checkpoint[0], rel=1e-6)
    for graph in graphs:
        found = scored(model(*graph))
        assert found["score"]["layers"] == 2
        assert [row["weight_shape"] for row in found["layers"]] == [[8, 6], [5, 8]]


# A user's module


def test_the_module_has_the_names_of_the_graph_and_its_values() -> None:
    proto = sample("pytorch_resnet_training")
    module = intrain_onnx.to_torch(proto)
    assert isinstance(module, fx.GraphModule)
    stored = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    parameters = dict(module.named_parameters())
    assert {"head.weight", "head.bias", "stem.0.weight", "stem.1.weight"} <= set(parameters)
    assert set(parameters) <= set(stored)
    for name, parameter in parameters.items():
        assert parameter.requires_grad
        np.testing.assert_array_equal(parameter.detach().numpy(), stored[name])
    assert "stem.1.running_mean" in dict(module.named_buffers())


def test_the_module_prints_saves_and_computes_what_onnxruntime_does(tmp_path: Path) -> None:
    proto = sample("keras_mobile")
    module = intrain_onnx.to_torch(SAMPLES / "keras_mobile.onnx")
    assert "conv" in module.code
    assert "OnnxGraph" in str(module)
    x = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        found = module(torch.from_numpy(x))
    np.testing.assert_allclose(found, run_onnxruntime(proto, {"image": x})[0], rtol=1e-4, atol=1e-6)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    again = intrain_onnx.to_torch(SAMPLES / "keras_mobile.onnx")
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(again(torch.from_numpy(x)), found)


def test_names_that_are_a_part_of_another_name_or_differ_by_a_sign_alone_stay_apart() -> None:
    """A path of a module cannot be a tensor and a module; these names had no end of trying."""
    names = ["a", "a.b", "a/b", "a.b.c", "d.e", "d", "a_", "f g", "f,g", "f.g"]
    values = {name: np.full(3, 10.0**i, np.float32) for i, name in enumerate(names)}
    proto = model("(float[N,3] x) => (float[N,3] y) { y = Sum(x) }")
    proto.graph.node[0].input.extend(names)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in values.items())
    module = intrain_onnx.to_torch(proto)
    held = [*module.named_parameters(), *module.named_buffers()]
    assert len({name for name, _ in held}) == len(names)
    with torch.no_grad():
        assert module(torch.zeros(1, 3))[0].tolist() == [pytest.approx(1111111111.0)] * 3


TIED = """(int64[N,5] ids) => (float[N,5,11] y) {
    h = Gather(table, ids)
    r = Tanh(h)
    t = Transpose<perm = [1, 0]>(table)
    y = MatMul(r, t)
}"""


def test_a_tied_weight_is_one_parameter_and_trains_as_one() -> None:
    module = intrain_onnx.to_torch(model(TIED, {"table": weight(11, 6)}))
    assert [name for name, _ in module.named_parameters()] == ["table"]
    ids = torch.randint(0, 11, (4, 5), generator=torch.Generator().manual_seed(0))
    losses = []
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(module(ids).flatten(0, 1), ids.flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]
    table = module.table.detach()
    torch.testing.assert_close(module(ids), torch.tanh(table[ids]) @ table.T)


def test_a_network_with_batch_norm_trains_a_step() -> None:
    module = intrain_onnx.to_torch(sample("pytorch_resnet_training"))
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    before = nn.functional.cross_entropy(module(x), labels)
    before.backward()
    assert all(p.grad is not None for p in module.parameters())
    optimizer.step()
    assert nn.functional.cross_entropy(module(x), labels) < before


# What scoring leaves behind


def state() -> dict[str, Any]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "flags": (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, cudnn.enabled, matmul.allow_tf32),
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "python": random.getstate(),
    }


BROKEN: dict[str, Any] = {
    "weights that are no numbers": model(
        "(float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", {"w": np.full((4, 3), np.nan, np.float32)}
    ),
    "an activation that overflows": model(
        "(float[N,4] x) => (float[N,3] y) { e = Exp(x) s = Mul(e, k) t = Mul(s, k) y = MatMul(t, w) }",
        {"w": weight(4, 3), "k": np.array(1e30, np.float32)},
    ),
    "a missing operator": model(
        "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) y = nowhere.Secret(h) }",
        {"w": weight(4, 3)},
        domains={"nowhere": 1},
    ),
    "nothing to score": model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"),
    "no such file": "/nowhere/at/all.onnx",
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("enabled", [True, False])
def test_global_state_is_as_it_was_after_a_score(
    threads: int, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", enabled)
    torch.set_num_threads(3 - threads)
    try:
        with torch.set_grad_enabled(enabled):
            before = state()
            report = scored(sample("jax_cnn"), threads=threads, parity=True)
            assert state() == before
    finally:
        torch.set_num_threads(1)
    same(report, scored(sample("jax_cnn")), rel=1e-5)


@pytest.mark.parametrize("kind", BROKEN)
def test_global_state_is_as_it_was_after_a_failure(kind: str) -> None:
    torch.set_num_threads(1)
    before = state()
    with pytest.raises(IntrainError):
        scored(BROKEN[kind], "checkpoint", threads=2)
    assert state() == before


def test_global_state_is_as_it_was_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        torch.set_num_threads(2)
        raise KeyboardInterrupt

    torch.set_num_threads(1)
    monkeypatch.setattr(probe, "backward", interrupt)
    before = state()
    with pytest.raises(KeyboardInterrupt):
        scored(sample("jax_cnn"))
    assert state() == before


@pytest.mark.parametrize(
    ("kind", "named"), [("weights that are no numbers", "'w'"), ("an activation that overflows", "node t")]
)
def test_where_numbers_end_is_named(kind: str, named: str) -> None:
    with pytest.raises(NumericalError) as error:
        scored(BROKEN[kind], "checkpoint")
    assert named in str(error.value) or named == f"node {error.value.node}"
