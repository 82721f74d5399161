"""Networks and checks that the tests of several commands use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
from builders import model, weight
from click.testing import Result

from intrain_onnx.report import document

SAMPLES = Path(__file__).parents[2] / "samples"
CHECKPOINT = ("--protocol", "checkpoint")
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\u202e"
"""Clears a screen, renames its window, rings, breaks the line, turns the text around."""

Run = Callable[..., Result]


def strict(text: str) -> Any:
    """JSON without NaN and infinities."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def valid(text: str) -> dict[str, Any]:
    """A report, checked against the schema in the package."""
    data: dict[str, Any] = strict(text)
    jsonschema.Draft202012Validator(document.schema()).validate(data)
    return data


def save(folder: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    """Write a model below a folder."""
    onnx.save(proto, folder / name)
    return folder / name


def mlp(
    second: np.ndarray | None = None, *, act: str = "Relu", first: np.ndarray | None = None
) -> onnx.ModelProto:
    """Two linear layers; their nodes are called one, act and two."""
    proto = model(
        f"(float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w)\n r = {act}(h)\n y = MatMul(r, v) }}",
        {
            "w": weight(4, 8) if first is None else first,
            "v": weight(8, 3) if second is None else second,
        },
    )
    for node, name in zip(proto.graph.node, ("one", "act", "two"), strict=True):
        node.name = name
    return proto


def unknown_operators(folder: Path) -> Path:
    """A file with operators of two unknown domains, one of them in a branch."""
    text = """(float[N,4] x) => (float[N,4] y) {
        a = acme.Magic(x)
        b = acme.Magic(a)
        c = other.Trick(b)
        d = MatMul(c, w)
        y = If(t) <then_branch = yes () => (e) { e = acme.Magic(d) },
                   else_branch = no () => (f) { f = Relu(d) }>
    }"""
    weights = {"w": weight(4, 4), "t": np.array(True)}
    return save(folder, model(text, weights, domains={"acme": 1, "other": 3}))
