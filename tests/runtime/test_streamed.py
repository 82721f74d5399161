"""Weights that are made when they are read: the numbers of weights that are held, and none is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from builders import model, weight
from torch import Tensor

from intrain_onnx import memory, pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import LimitError
from intrain_onnx.loading.load import load
from intrain_onnx.measure.prepare import Runnable, prepare
from intrain_onnx.measure.probe import calibrate_and_probe, probe
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.measure.segments import Way
from intrain_onnx.measure.trial import Trial
from intrain_onnx.network.footprint import held_bytes
from intrain_onnx.parity.check import check_parity
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.runtime import convert, streamed
from intrain_onnx.runtime.machine import machine_for

torch.set_num_threads(1)
CPU = torch.device("cpu")

MODELS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "convolutions": (
        """(float[N,3,8,8] x) => (float[N,5] y) {
            h = Conv(x, w1, b1) r = Relu(h) g = Conv<group = 2>(r, w2) p = GlobalAveragePool(g)
            f = Flatten(p) y = Gemm<transB = 1>(f, w3, b3) }""",
        {
            "w1": weight(8, 3, 3, 3),
            "b1": weight(8),
            "w2": weight(6, 4, 3, 3),
            "w3": weight(5, 6),
            "b3": weight(5),
        },
    ),
    "attention": (
        """(float[N,7,8] x) => (float[N,7,5] y) {
            q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) t = Transpose<perm = [0, 2, 1]>(k)
            s = MatMul(q, t) p = Softmax(s) a = MatMul(p, v) o = MatMul(a, wo)
            z = Add(o, x) y = MatMul(z, wy) }""",
        {"wq": weight(8, 8), "wk": weight(8, 8, seed=1), "wv": weight(8, 8, seed=2)}
        | {"wo": weight(8, 8, seed=3), "wy": weight(8, 5)},
    ),
    "tied embedding": (
        """(int64[N,6] x) => (float[N,6,11] y) {
            e = Gather(table, x) h = MatMul(e, w) r = Tanh(h) t = Transpose<perm = [1, 0]>(table)
            y = MatMul(r, t) }""",
        {"table": weight(11, 8), "w": weight(8, 8)},
    ),
    "a weight at two places": (
        """(float[N,8] x) => (float[N,5] y) {
            h = MatMul(x, w) r = Relu(h) g = MatMul(r, w) s = Relu(g) y = MatMul(s, v) }""",
        {"w": weight(8, 8), "v": weight(8, 5)},
    ),
    "recurrence": (
        """(float[N,6,4] x) => (float[N,5] y) {
            t = Transpose<perm = [1, 0, 2]>(x) o, h, c = LSTM<hidden_size = 3>(t, w, r)
            f = Transpose<perm = [1, 0, 2]>(h) g = Reshape(f, rows) y = MatMul(g, v) }""",
        {
            "w": weight(1, 12, 4),
            "r": weight(1, 12, 3),
            "v": weight(3, 5),
            "rows": np.array([-1, 3]),
        },
    ),
}


@pytest.fixture(autouse=True)
def _every_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "LEAST", 1)


def built(name: str) -> onnx.ModelProto:
    return model(*MODELS[name])


def settings(protocol: str) -> ScoreConfig:
    return ScoreConfig.for_protocol(protocol, seeds=2, batch=6, parity=False, device="cpu", threads=1)


def leaves(row: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(row, dict):
        for name, value in row.items():
            if name != "timings_s":
                yield from leaves(value, f"{path}/{name}")
    elif isinstance(row, list):
        for index, value in enumerate(row):
            yield from leaves(value, f"{path}/{index}")
    else:
        yield path, row


def close(row: Any) -> dict[str, Any]:
    """What equals the leaves of a row to float32 rounding; the gradient of a key's bias is but rounding."""
    return {
        path: pytest.approx(value, rel=1e-5, abs=1e-7) if isinstance(value, float) else value
        for path, value in leaves(row)
    }


def ready(proto: onnx.ModelProto, protocol: str, *, stream: bool = True) -> Runnable:
    config, runs = settings(protocol), runs_on(CPU)
    network = Network.of(load(proto), config, runs)
    made = prepare(for_protocol(network, config, runs.see), config, CPU, Way(stream=stream))
    if config.weights == "reinitialise":
        made.redraw(0)
    return made


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
@pytest.mark.parametrize("name", MODELS)
def test_the_report_is_that_of_held_weights(name: str, protocol: str):
    held = pipeline.score(built(name), settings(protocol)).data
    made = pipeline.score(built(name), settings(protocol), stream=True).data

    assert dict(leaves(made)) == close(held)


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint"])
@pytest.mark.parametrize("name", MODELS)
def test_no_value_outlives_the_node_that_reads_it(name: str, protocol: str):
    """Of all values of weights, those that the backward pass needs are made again: none is alive before."""
    runnable = ready(built(name), protocol)
    generator = torch.Generator().manual_seed(0)
    fed = runnable.feed(generator)
    alive: list[weakref.ref[Tensor]] = []
    for one in streamed.weights(runnable.module).values():
        one.restart(watched(one, alive))

    made_at: list[int] = []
    original = Runnable.loss

    def loss(self: Runnable, *arguments: Any) -> Any:
        gc.collect()
        assert alive
        assert not [reference for reference in alive if reference() is not None]
        made_at.append(len(alive))
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runnable, "loss", loss)
        found = probe(runnable, fed, generator)

    assert not [p for p in runnable.parameters if p in streamed.weights(runnable.module)]
    assert found.gradients.keys() >= streamed.weights(runnable.module).keys()
    assert len(alive) > made_at[0]  # again on the way back
    gc.collect()
    assert not [reference for reference in alive if reference() is not None]


def test_a_run_makes_each_weight_once_on_each_way(monkeypatch: pytest.MonkeyPatch):
    """Calibration included; the trial run before, whose values do not matter, makes none."""
    made: list[streamed.StreamedWeight] = []
    original = streamed.StreamedWeight.value

    def counted(self: streamed.StreamedWeight) -> Tensor:
        made.append(self)
        return original(self)

    monkeypatch.setattr(streamed.StreamedWeight, "value", counted)
    runnable = ready(built("attention"), "architecture")
    assert not made
    generator = torch.Generator().manual_seed(0)
    calibrate_and_probe(runnable, runnable.feed(generator), generator)
    counts = {name: made.count(weight) for name, weight in streamed.weights(runnable.module).items()}
    # Nothing asks for the gradient of the input, which wq, wk and wv read.
    assert counts == {"wq": 1, "wk": 1, "wv": 1, "wo": 2, "wy": 2}


def watched(one: streamed.StreamedWeight, alive: list[weakref.ref[Tensor]]) -> Any:
    make = one.make_new

    def again() -> Tensor:
        value = make()
        alive.append(weakref.ref(value))
        return value

    return again


def test_the_gradient_is_the_sum_over_all_places_and_read_once():
    """Against the same graph with parameters, differentiated by torch."""
    graph = ir.from_proto(built("a weight at two places"))
    module = convert.convert(graph, stand_ins=streamed.stand_ins(graph, ["w"], CPU))
    read: list[Tensor] = []
    streamed.weights(module)["w"].read = lambda gradient: read.append(gradient.clone())
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))

    with streamed.made_again(module):
        loss = module(x).square().sum()
    loss.backward()

    w, v = (torch.tensor(MODELS["a weight at two places"][1][name]).requires_grad_() for name in "wv")
    (torch.relu(torch.relu(x @ w) @ w) @ v).square().sum().backward()
    assert len(read) == 1
    torch.testing.assert_close(read[0], w.grad)


def external(folder: Path, name: str) -> Path:
    path = folder / "model.onnx"
    onnx.save(built(name), path, save_as_external_data=True, location="data", size_threshold=0)
    return path


def test_no_weight_of_the_file_is_read_where_all_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = external(tmp_path, "attention")
    expected = pipeline.score(built("attention"), settings("architecture")).intrain

    read: set[str | None] = set()
    original = convert.to_tensor

    def noted(tensor: ir.TensorProtocol, **options: Any) -> Tensor:
        read.add(tensor.name)
        return original(tensor, **options)

    monkeypatch.setattr(convert, "to_tensor", noted)
    names = {"wq", "wk", "wv", "wo", "wy"}
    found = pipeline.score(path, settings("architecture"), stream=True)
    assert found.intrain == pytest.approx(expected, rel=1e-5)
    assert not read & names
    pipeline.score(path, settings("architecture"))
    assert not read & names
    for stream in (True, False):
        read.clear()
        pipeline.score(path, settings("checkpoint"), stream=stream)
        assert read >= names


def test_it_is_the_way_where_weights_do_not_fit_and_all_else_does(monkeypatch: pytest.MonkeyPatch):
    """A wide network on few samples; the limit is three quarters of its weights."""
    width = 400
    layers = 8
    body = " ".join(
        f"h{i} = MatMul({f'r{i - 1}' if i else 'x'}, w{i}) r{i} = Relu(h{i})" for i in range(layers)
    )
    proto = model(
        f"(float[N,{width}] x) => (float[N,3] y) {{ {body} y = MatMul(r{layers - 1}, v) }}",
        {f"w{i}": weight(width, width, seed=i) for i in range(layers)} | {"v": weight(width, 3)},
    )
    expected = pipeline.score(proto, settings("architecture")).intrain
    asked: list[bool] = []

    def noted(*arguments: Any) -> Runnable:
        asked.append(arguments[-1].stream)
        return prepare(*arguments)

    monkeypatch.setattr(pipeline, "prepare", noted)
    weights = held_bytes(ir.from_proto(proto))
    monkeypatch.setattr(memory, "elements_of_one_tensor", lambda: 2**31)
    for free, stream in ((10 * weights, False), (weights * 3 // 4, True)):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        assert pipeline.score(proto, settings("architecture")).intrain == pytest.approx(expected, rel=1e-5)
        assert asked.pop() is stream
    monkeypatch.setattr(memory, "available", lambda: weights // 100)
    with pytest.raises(LimitError, match="of memory"):
        pipeline.score(proto, settings("architecture"))


def test_what_runs_before_the_probe_does_without_weights_that_do_not_fit(monkeypatch: pytest.MonkeyPatch):
    network = Network.of(load(built("attention")), settings("checkpoint"))
    held = Trial(network.exact, CPU)
    expected = held.run(network.single)
    monkeypatch.setattr(memory, "available", lambda: 100)

    light = Trial(network.exact, CPU)

    assert streamed.weights(light.module).keys() == {"wq", "wk", "wv", "wo", "wy"}
    assert not streamed.weights(held.module)
    assert sum(tensor.numel() for tensor in light.module.state_dict().values()) == 0
    torch.testing.assert_close(light.run(network.single), expected)


def test_onnxruntime_is_not_asked_to_hold_what_does_not_fit(monkeypatch: pytest.MonkeyPatch):
    config = settings("checkpoint")
    network = Network.of(load(built("attention")), config)
    monkeypatch.setattr(memory, "available", lambda: 100)
    with machine_for(config) as machine:
        found = check_parity(network, machine, 0)
    assert found.ok is None
    assert "do not fit into memory" in (found.reason or "")
