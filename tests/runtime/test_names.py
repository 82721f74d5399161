"""Paths of parameters: whatever the file calls them, each has its own, and finding them takes linear time."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from builders import model

from intrain_onnx import to_torch

ODD = [
    "a",
    "a.b",
    "a/b",
    "a.b.c",
    "a_b",
    "a.b.c.d",
    ".",
    "..",
    "1",
    "1.2",
    "1.2.3",
    "forward",
    "forward.x",
    "training",
    "graph",
    "code",
    "meta",
    "__class__",
    "__class__.__init__.__globals__",
    "__dict__",
    "_modules.a",
    "_parameters",
    "a..b",
    ".a",
    "a.",
    "0.weight",
    "self",
    "lambda",
    "None",
    "__debug__",
    "__weight",
    "print",
    "torch",
    "device",
    "inf",
]

KINDS: dict[str, Callable[[int], list[str]]] = {
    "odd": lambda n: ODD,
    "odd_backwards": lambda n: ODD[::-1],
    "underscores": lambda n: [
        f"{a}{c * i}" for i in range(1, n // 3) for a, c in (("a", "_"), ("a!", "_"), ("a!", "?"))
    ],
    "numbers": lambda n: [f"a_{i}{end}" for i in range(n // 2) for end in ("", ".b")],
    "numbers_backwards": lambda n: [f"a{end}_{i}" for i in range(n // 2, 0, -1) for end in ("", ".b")],
    "characters": lambda n: [f"a{chr(0x4E00 + i)}" for i in range(n)],
    "deeper": lambda n: [".".join("a" * i) for i in range(1, n // 8)],
    "shallower": lambda n: [".".join("a" * i) for i in range(n // 8, 0, -1)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_has_a_path_of_its_own(kind: str):
    """A chain of additions of 2**-i would lose some; each parameter adds its own index, so all are read."""
    names = list(dict.fromkeys(KINDS[kind](2000)))
    values = {f"v{i}": np.array([i], np.float32) for i in range(len(names))}
    steps = " ".join(f"s{i} = Add({f's{i - 1}' if i else 'x'}, v{i})" for i in range(len(names)))
    proto = model(f"(float[1] x) => (float[1] y) {{ {steps} y = Identity(s{len(names) - 1}) }}", values)
    renamed = {f"v{i}": name for i, name in enumerate(names)}
    for tensor in proto.graph.initializer:
        tensor.name = renamed[tensor.name]
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    onnx.checker.check_model(proto)

    started = time.thread_time()
    module = to_torch(proto)

    assert time.thread_time() - started < 30
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    assert sorted(tensor.item() for tensor in held.values()) == list(range(len(names)))
    assert module(torch.tensor([0.5])).item() == 0.5 + len(names) * (len(names) - 1) / 2


@pytest.mark.parametrize("name", ["self", "lambda", "forward", "torch", "x.y", "1", "é", ""])
def test_an_input_may_have_any_name(name: str):
    proto = model("(float[1] x) => (float[1] y) { y = Neg(x) }", {})
    proto.graph.input[0].name = proto.graph.node[0].input[0] = name or "\n"
    assert to_torch(proto)(torch.tensor([0.5])).item() == -0.5


def test_names_that_do_not_meet_are_kept():
    weights = {name: np.zeros((4, 4), np.float32) for name in ("block.0.weight", "block.1.weight", "head")}
    renamed = dict(zip(("a", "b", "c"), weights, strict=True))
    proto = model(
        "(float[N,4] x) => (float[N,4] y) { h = MatMul(x, a) k = MatMul(h, b) y = MatMul(k, c) }",
        dict(zip(renamed, weights.values(), strict=True)),
    )
    for tensor in proto.graph.initializer:
        tensor.name = renamed[tensor.name]
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    assert {name for name, _ in to_torch(proto).named_parameters()} == set(weights)
