"""What exporters write: every opset, framework and element type converts, agrees and differentiates."""

from __future__ import annotations

from pathlib import Path

import matrix
import pytest
from models import exports

from intrain_onnx import ScoreConfig, score

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("jax_*.onnx"))
FRAMEWORKS = [
    *(("keras", name) for name in ("cnn", "lstm", "vit_token")),
    *(("jax", name) for name in ("cnn", "vit_token")),
    ("sklearn", "classifier"),
]


def check(path: Path, protocol: str = "architecture") -> None:
    config = ScoreConfig.for_protocol(protocol, seeds=1, batch=4, threads=1, device="cpu")
    data = score(path, config).data
    parity = data["parity"]
    assert parity["ok"] is True, parity
    half = any(value["dtype"] in ("float16", "bfloat16") for value in data["model"]["inputs"])
    exact = not half or "float32" in parity["reference"]
    assert parity["max_rel_diff"] < (1e-3 if exact else 16 * 2**-11)
    assert {layer["name"]: layer["status"] for layer in data["layers"] if layer["status"] != "measured"} == {}
    assert len(data["layers"]) >= 3
    assert data["gradient_reach"]["share"] > 0.9, data["gradient_reach"]


@pytest.mark.parametrize("name", exports.CELLS)
def test_an_export_of_pytorch(name: str):
    check(exports.path(name))


@pytest.mark.parametrize(("exporter", "name"), FRAMEWORKS)
def test_an_export_of_another_framework(exporter: str, name: str):
    check(matrix.path(name, exporter))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_of_jax(path: Path):
    check(path)


@pytest.mark.parametrize("name", [f"{network}-torchscript-20" for network in exports.NETWORKS])
def test_a_checkpoint(name: str):
    check(exports.path(name), "checkpoint")


@pytest.mark.parametrize(
    ("network", "exporter"),
    [(network, "") for network in exports.NETWORKS if network != "Gpt"]
    + [("Gpt", exporter) for exporter in exports.OPSETS],  # TorchScript unties its embedding from its head
)
def test_opsets_and_exporters_give_one_score(network: str, exporter: str):
    """The same network, drawn anew: what the exporter wrote around it must not matter."""
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu", parity=False)
    alike = [c for c in exports.CELLS.values() if c.network == network and not c.is_half]
    cells = [c.name for c in alike if exporter in ("", c.exporter)]
    figures = {name: score(exports.path(name), config).data["score"]["intrain"] for name in cells}
    assert max(figures.values()) == pytest.approx(min(figures.values()), rel=1e-4), figures
