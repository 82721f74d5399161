"""Reports for the tests of what people look at: real ones, synthetic ones, hostile ones."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import onnx
import pytest
from builders import model, weight
from models import exports

from intrain_onnx import ScoreConfig, score
from intrain_onnx.report.document import Report

SAMPLES = Path(__file__).parents[1] / "samples"
CONFIG = ScoreConfig.for_protocol(seeds=2, batch=4, threads=1, device="cpu", parity=False)


def dead() -> onnx.ModelProto:
    """A network with a branch whose weight gets a gradient of nothing but zeros."""
    text = """(float[N,8] x) => (float[N,4] y) {
        a = MatMul(x, w0) r = Relu(a) b = MatMul(r, w1) z = MatMul(r, w2)
        n = Mul(z, zero) s = Add(b, n) y = MatMul(s, w3)
    }"""
    weights = {"w0": weight(8, 12), "w1": weight(12, 12), "w2": weight(12, 12), "w3": weight(12, 4)}
    return model(text, weights | {"zero": weight(1, scale=0.0)})


def missing(error: LookupError) -> NoReturn:
    """Something that a command brings is not there: fail in CI and skip elsewhere, with the reason."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


NETWORKS: dict[str, Callable[[], Path | onnx.ModelProto]] = {
    "cnn": lambda: SAMPLES / "keras_mobile.onnx",
    "vit": lambda: exports.path("vit-dynamo-20"),
    "lstm": lambda: exports.path("Tagger-dynamo-20"),
    "dead": dead,
}
"""A network of each kind that a page must show."""


def real(name: str) -> Report:
    """The report of one of these networks, as it is read back from JSON."""
    return score(NETWORKS[name](), CONFIG)


def synthetic(base: Report, layers: int = 500) -> Report:
    """A report of a network with so many layers, two at each depth, with names as long as exporters write."""
    data: dict[str, Any] = copy.deepcopy(dict(base.data))
    layer, parameter = data["layers"][0], data["parameters"][0]
    data["layers"], data["parameters"], data["depth_profile"] = [], [], []
    for i in range(layers):
        depth, ratio = i // 2 + 1, 1 + 60 * abs(math.sin(i))
        name = f"/backbone/stages.{i % 4}/blocks.{i}/attention/projection/MatMul_{i}"
        data["layers"].append(
            layer
            | {"inputs": [data["layers"][j]["name"] for j in (i - 2, i - 7) if j >= 0]}
            | {"name": name, "depth": depth, "weights": [f"{name}.weight"], "channels": 64, "rows": 1000}
            | {"participation_ratio": ratio, "log_participation_ratio": math.log(ratio)}
        )
        data["parameters"].append(
            parameter
            | {
                "name": f"{name}.weight",
                "role": "weight",
                "layer": name,
                "depth": depth,
                "status": "measured",
            }
            | {"health": 0.5 * abs(math.cos(i)), "grad_std": 10 ** (-i / 100)}
        )
        data["depth_profile"].append(
            {
                "depth": depth,
                "layers": 1,
                "cumulative_log_participation_ratio": float(i),
                "cumulative_health": i / 9,
            }
        )
    return Report(data)


HOSTILE = (
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u2066",
    "a\x00b\x1b[2J\ud800",
    "<!-- ]]> &lt; &#x3c;",
    "javascript:alert(1)",
)
"""Names that files from strangers may hold."""


def hostile(base: Report) -> Report:
    """A report in which every text that comes from a model file tries to break out of the page."""
    data: dict[str, Any] = copy.deepcopy(dict(base.data))
    number = iter(range(10**6))

    def name() -> str:
        i = next(number)
        return f"{HOSTILE[i % len(HOSTILE)]}{i}"

    renamed = {}
    for parameter in data["parameters"]:
        renamed[parameter["name"]] = parameter["name"] = name()
    for layer in data["layers"]:
        layer["name"], layer["op"], layer["inputs"] = name(), name(), [name()]
        layer["weights"] = [name()]
    data["model"]["path"], data["model"]["producer"] = name(), name()
    data["model"]["opset_imports"][name()] = 1
    for value in (*data["model"]["inputs"], *data["model"]["outputs"]):
        value["name"], value["shape"] = name(), [name(), 3]
    for row in data["settings"]["losses"]:
        row["output"], row["attached_to"] = name(), name()
    data["warnings"] = [{"code": name(), "message": name(), "node": name()} for _ in HOSTILE]
    data["gradient_reach"] |= {
        "share": 0.5,
        "stopped_by": [{"node": name(), "op": name(), "parameters": 1, "elements": 1}],
    }
    data["environment"]["device"] = name()
    return Report(data)
