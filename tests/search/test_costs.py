"""Costs from the graph alone, against torch's twins of the networks and a hook on their layers."""

from __future__ import annotations

import pytest
import torch
from bench.examples import EXAMPLES
from torch import nn

from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.errors import SettingsError
from intrain_onnx.search.costs import Counter, of_model

ZICO = "16 k7e1b40c40n1s2 k7e2b64c80n1s2 k7e4b96c96n5s2 k7e2b224c224n5s2 2048"
"""The winner at 450M that ZiCo publishes: SuperResIDWE1K7(16,40,2,40,1) and so on."""


def torch_costs(twin: nn.Module, size: int) -> dict[str, int]:
    """Products of convolutions and linear layers, by what goes through them; elements of their weights."""
    macs = 0

    def hook(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output[0].numel() * layer.weight[0].numel()

    layers = [layer for layer in twin.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        layer.register_forward_hook(hook)
    with torch.no_grad():
        twin.eval()(torch.zeros(1, 3, size, size))
    return {"macs": macs, "params": sum(layer.weight.numel() for layer in layers)}


@pytest.mark.parametrize(
    ("name", "description", "size"),
    [
        ("mobilenet_v2", ZICO, 224),
        ("mobilenet_v2", "32 k3e1c16n1s1 k5e6c24n2s2 128", 64),
        ("nats_size", "8:16:24:32:40", 32),
        ("macro", "01201201", 32),
    ],
)
def test_costs_are_those_of_the_network_in_torch(name: str, description: str, size: int):
    space, twin = SPACES[name], EXAMPLES[name].twin
    assert twin is not None
    expected = torch_costs(twin(description, size, space.classes), size)
    assert Counter(space, size)(description) == expected
    kept = space.build(description, fold=False, size=size)
    assert of_model(kept, size) == expected


def test_the_published_winner_is_just_below_its_budget():
    costs = Counter(SPACES["mobilenet_v2"], 224)(ZICO)
    assert 0.97 < costs["macs"] / 450e6 <= 1


def test_an_architecture_is_counted_once(monkeypatch: pytest.MonkeyPatch):
    counter = Counter(SPACES["macro"], 32)
    first = counter("00000000")
    monkeypatch.setattr(counter, "_space", None)
    assert counter("00000000") is first


def test_what_is_no_architecture_is_told():
    with pytest.raises(SettingsError, match="is no architecture of"):
        Counter(SPACES["macro"], 32)("nonsense")
