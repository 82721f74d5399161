"""``inspect --modules``: layers nested in the framework's modules."""

from __future__ import annotations

import io
import re

import pytest
from torch import nn

import intrain_onnx
from intrain_onnx.commands.terminal.modules import modules, tree

from .helpers import SAMPLES, Run

ENCODER = SAMPLES / "pytorch_encoder_dynamo.onnx"


def rows(text: str) -> dict[str, list[str]]:
    found = [
        re.split(r"  +", line.strip())
        for line in text.splitlines()
        if re.search(r"\d( [kM])?$", line.strip())
    ]
    return {row[0]: row[1:] for row in found}


def test_weights_of_a_module_are_those_of_the_layers_in_it():
    """Against PyTorch's own count of the same encoder layer, without biases, norms and positions."""
    layer = nn.TransformerEncoderLayer(64, 4, 256)
    wanted = sum(p.numel() for name, p in layer.named_parameters() if "weight" in name and "norm" not in name)
    root = tree(intrain_onnx.inspect(ENCODER).document.layers)
    assert [root.inner["layers"].inner[n].weights for n in "01"] == [wanted, wanted]
    assert root.weights == 2 * wanted + 256 * 64 + 5 * 64
    assert [len(m.layers) for m in root.inner.values()] == [1, 8, 1]


def test_the_sum_of_all_modules_is_that_of_the_model(cli: Run):
    result = cli("inspect", ENCODER, "--modules")
    assert result.exit_code == 0
    found = rows(result.stdout)
    assert found["layers"][0] == "8"
    assert found["all"] == ["10", "115 k", "1.64 M"]


def test_a_module_that_is_called_twice_has_its_weight_once():
    data = intrain_onnx.inspect(ENCODER).document
    twice = (*data.layers, data.layers[0])
    assert tree(twice).weights == tree(data.layers).weights
    assert len(tree(twice).inner["tokens"].own) == 2


@pytest.mark.parametrize("columns", ["80", "200"])
def test_layers_of_no_module_stand_by_their_nodes_and_this_is_said(
    cli: Run, monkeypatch: pytest.MonkeyPatch, columns: str
):
    monkeypatch.setenv("COLUMNS", columns)
    found = cli("inspect", SAMPLES / "jax_cnn.onnx", "--modules").stdout
    assert "node_Conv_15" in found
    assert "4 of 4 layers stand by their nodes" in " ".join(found.split())
    stream = io.StringIO()
    modules((), stream)
    assert "all" in stream.getvalue()
