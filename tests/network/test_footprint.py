"""Memory and work from shapes: against closed forms, and against what torch keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.network.footprint import Footprint, footprint
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import run

WEIGHTS = {"w": weight(8, 8), "v": weight(8, 8)}
KEPT = {
    # What a product reads, what a ReLU makes; the first input is the caller's.
    "linear, relu, linear": ("h = MatMul(x, w) r = Relu(h) y = MatMul(r, v)", 1),
    "a residual sum": ("h = MatMul(x, w) a = Add(h, x) y = MatMul(a, v)", 1),
    "sums alone": ("h = MatMul(x, w) a = Add(h, x) b = Add(a, h) y = Add(b, x)", 0),
    "a gate": ("h = MatMul(x, w) s = Sigmoid(h) g = Mul(h, s) y = MatMul(g, v)", 3),
    "a gelu": ("h = MatMul(x, w) g = Gelu(h) y = MatMul(g, v)", 2),
    "views": (
        "h = MatMul(x, w) i = Identity(h) t = Transpose<perm = [0, 2, 1]>(i) r = Relu(t) "
        "u = Transpose<perm = [0, 2, 1]>(r) y = MatMul(u, v)",
        1,
    ),
    "by a number": ("h = MatMul(x, w) d = Div(h, two) y = MatMul(d, v)", 1),
}


def built(body: str, shape: str = "N,16,8") -> tuple[Network, Footprint]:
    proto = model(f"(float[{shape}] x) => (float y) {{ {body} }}", constants(body))
    network = Network.of(load(proto), ScoreConfig.for_protocol())
    return network, footprint(network.model, network.single.batch)


def constants(body: str) -> dict[str, Any]:
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    known = {**WEIGHTS, "two": torch.tensor(2.0).numpy()}
    return {name: array for name, array in known.items() if name in words}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_kept_is_what_autograd_saves(case: str) -> None:
    body, values = KEPT[case]
    network, found = built(body)
    assert found.kept == values * 16 * 8 * 4
    assert found.largest == 16 * 8 * 4
    module = convert.convert(network.model, {"w", "v"})
    x = torch.randn(1, 16, 8)
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        run(module, [x])
    own = {x.untyped_storage().data_ptr(), *(p.untyped_storage().data_ptr() for p in module.parameters())}
    kept = sum(size for pointer, size in saved.items() if pointer not in own and size > 64)
    assert kept == found.kept


def test_work_and_constants_are_sums() -> None:
    _, found = built("h = MatMul(x, w) r = Relu(h) y = MatMul(r, v)")
    assert found.macs == 2 * 16 * 8 * 8
    assert found.constant == 2 * 8 * 8 * 4
    assert found.peak(4) == int(1.25 * found.constant) + 4 * (found.kept + 3 * found.largest)


def test_a_built_in_batch_is_divided_by() -> None:
    assert built("y = MatMul(x, w)", "5,16,8")[1].macs == 16 * 8 * 8


def test_the_rounds_of_a_loop_count() -> None:
    body = """l = Loop<body = b (int64 r, bool k, float[1,16,8] s) => (bool d, float[1,16,8] t) {
        d = Identity(k) t = MatMul(s, w) }>(n, yes, x) y = MatMul(l, v)"""
    known = {"n": torch.tensor(7).numpy(), "yes": torch.tensor(True).numpy()}
    proto = model(f"(float[N,16,8] x) => (float y) {{ {body} }}", WEIGHTS | known)
    network = Network.of(load(proto), ScoreConfig.for_protocol(), runs_on(torch.device("cpu")))
    assert footprint(network.model).macs == 8 * 16 * 8 * 8
