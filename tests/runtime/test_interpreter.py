"""What observers of a run see and may replace, against onnxruntime and closed forms; and who is blamed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
import torch
from builders import model, normalised, run_onnxruntime, weight
from torch import Tensor, fx

from intrain_onnx.errors import LimitError
from intrain_onnx.measure.initialise import use_batch_statistics
from intrain_onnx.runtime.convert import convert
from intrain_onnx.runtime.interpreter import NodeError, ObservedInterpreter, Samples, run

NETWORK = """(float[N,6] x) => (float[N,3] y, float[N,4] z) {
    h = MatMul(x, u) r = Relu(h) p, q = Split<axis = 1>(r, halves) z = Tanh(q) y = MatMul(p, v)
}"""
WEIGHTS = {"u": weight(6, 8), "halves": np.array([4, 4]), "v": weight(4, 3, seed=1)}
X = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)


def converted(proto: onnx.ModelProto) -> fx.GraphModule:
    return convert(normalised(proto, batch=None))


def seen(module: fx.GraphModule, x: object, names: str) -> dict[str, list[list[Tensor]]]:
    """The parts of each value that is named, for each time that it was made."""
    found: dict[str, list[list[Tensor]]] = {name: [] for name in names}
    with torch.no_grad():
        run(module, [x], {name: found[name].append for name in names})  # type: ignore[list-item]
    return found


def test_every_value_is_seen_once_as_onnxruntime_has_it():
    proto = model(NETWORK, WEIGHTS)
    found = seen(converted(proto), torch.from_numpy(X), "hrpqzy")
    for name, expected in zip("hrpqzy", run_onnxruntime(proto, {"x": X}, list("hrpqzy")), strict=True):
        [[value]] = found[name]
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_what_an_observer_returns_flows_on():
    proto = model(NETWORK, WEIGHTS)
    module = converted(proto)
    with torch.no_grad():
        [y], [z] = run(module, [torch.from_numpy(X)], {"p": lambda parts: [2 * parts[0]]})
        [plain] = run(module, [torch.from_numpy(X)])[0]
    expected, other = run_onnxruntime(proto, {"x": X})
    np.testing.assert_allclose(y.numpy(), 2 * expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z.numpy(), other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_nothing_stays_on_the_module():
    module = converted(model(NETWORK, WEIGHTS))
    before = (module.code, [len(m._forward_hooks) for m in module.modules()], set(module.meta))
    seen(module, torch.from_numpy(X), "hy")
    assert (module.code, [len(m._forward_hooks) for m in module.modules()], set(module.meta)) == before


def test_samples_run_in_lock_step_as_one_by_one():
    """The Reshape bakes one sample in; nodes that no sample reaches run once."""
    text = """(float[1,6] x) => (float[1,2,4] y) {
        w = Mul(u, two) h = MatMul(x, w) y = Reshape(h, shape) }"""
    weights = {"u": weight(6, 8), "two": np.array(2, np.float32), "shape": np.array([1, 2, 4])}
    proto = model(text, weights)
    found = seen(converted(proto), Samples(torch.from_numpy(X[i : i + 1]) for i in range(5)), "why")
    [[constant]] = found["w"]
    np.testing.assert_allclose(constant.numpy(), 2 * weights["u"], rtol=1e-6)
    for name in "hy":
        [parts] = found[name]
        for row, part in zip(X, parts, strict=True):
            [expected] = run_onnxruntime(proto, {"x": row[None]}, [name])
            np.testing.assert_allclose(part.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_statistics_of_a_batch_are_those_of_all_samples():
    text = "(float[1,4,3] x) => (float[1,4,3] y) { y = BatchNormalization(x, s, b, m, v) }"
    rng = np.random.default_rng(0)
    scale, shift = rng.standard_normal(4).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    statistics = {"m": np.full(4, 7, np.float32), "v": np.full(4, 9, np.float32)}
    module = converted(model(text, {"s": scale, "b": shift, **statistics}))
    assert use_batch_statistics(module) == 1
    x = rng.standard_normal((6, 4, 3)).astype(np.float32)
    [parts] = run(module, [Samples(torch.from_numpy(x[i : i + 1]) for i in range(6))])
    wide = x.astype(np.float64)
    mean, variance = wide.mean((0, 2), keepdims=True), wide.var((0, 2), keepdims=True)
    expected = (wide - mean) / np.sqrt(variance + 1e-5) * scale[:, None] + shift[:, None]
    np.testing.assert_allclose(torch.cat(parts).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


LOOP = """(float[N,4] x) => (float[N,4] y) {
    y = Loop<body = b (int64 i, bool c, float[N,4] s) => (bool d, float[N,4] t) {
        d = Identity(c) g = MatMul(s, v) t = Tanh(g)
    }>(m, , x) }"""
IF = """(float[N,4] x, bool c) => (float[N,4] y) {
    y = If<then_branch = a () => (t) { t = Relu(x) }, else_branch = b () => (e) { e = MatMul(x, v) }>(c) }"""


def test_a_value_of_a_loop_is_seen_in_each_round():
    weights = {"v": weight(4, 4), "m": np.array(3)}
    found = seen(converted(model(LOOP, weights)), torch.from_numpy(X[:, :4]), "gt")
    state = X[:, :4].astype(np.float64)
    assert len(found["g"]) == len(found["t"]) == 3
    for [g], [t] in zip(found["g"], found["t"], strict=True):
        np.testing.assert_allclose(g.numpy(), state @ weights["v"], rtol=1e-4, atol=1e-5)
        state = np.tanh(state @ weights["v"])
        np.testing.assert_allclose(t.numpy(), state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("condition", "made"), [(True, "t"), (False, "e")])
def test_a_branch_that_is_not_taken_is_not_seen(condition: bool, made: str):
    module = converted(model(IF, {"v": weight(4, 4)}))
    found: Mapping[str, list[list[Tensor]]] = {"t": [], "e": []}
    observers = {name: found[name].append for name in found}
    run(module, [torch.from_numpy(X[:, :4]), torch.tensor(condition)], observers)  # type: ignore[arg-type]
    assert [name for name in found if found[name]] == [made]


def test_a_node_that_fails_is_named_with_the_reason():
    text = "(float[N,6] x) => (float[A,4] y) { h = Relu(x) y = Reshape(h, shape) }"
    proto = model(text, {"shape": np.array([-1, 4])})
    proto.graph.node[1].name = "fold"
    with pytest.raises(NodeError, match=r"cannot run on these inputs: .*\(at Reshape node 'fold'\)"):
        run(converted(proto), [torch.zeros(3, 6)])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_too_little_memory_is_a_limit_and_names_the_node(error: Exception, monkeypatch: pytest.MonkeyPatch):
    module = converted(model(NETWORK, WEIGHTS))
    node = next(n for n in module.graph.nodes if "r" in n.meta.get("onnx_outputs", ()))

    def fail(*_: object) -> Tensor:
        raise error

    monkeypatch.setattr(node, "target", fail)
    with pytest.raises(LimitError, match=r"out of memory: .* \(at Relu node"):
        ObservedInterpreter(module, {}).outputs(torch.from_numpy(X))
