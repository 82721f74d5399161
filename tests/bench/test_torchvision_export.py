"""torchvision's classifiers: the export computes what the module does, and is scored alike folded or not."""

from __future__ import annotations

import random
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torchvision import models

import intrain_onnx
from intrain_onnx import ScoreConfig
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.bench.spaces.torchvision import FAMILIES
from intrain_onnx.bench.torchvision_export import _export, module
from intrain_onnx.errors import SettingsError

from .twins.weights import randomise

SPACE = SPACES["torchvision"]
NAMES = [name for names in FAMILIES.values() for name in names]
SMALL = {
    # Of each peculiarity: a batch in reshapes, windows, an auxiliary head, positions, norms before layers.
    "mnasnet0_5": 32,
    "shufflenet_v2_x0_5": 33,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "squeezenet1_1": 40,
    "densenet121": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "vit_b_32": 64,
    "swin_v2_t": 32,
    "maxvit_t": 64,
}
PUBLISHED = {
    "squeezenet1_1": 1_235_496,
    "shufflenet_v2_x0_5": 1_366_792,
    "mnasnet0_5": 2_218_512,
    "googlenet": 6_624_904,
    "efficientnet_b0": 5_288_548,
    "maxvit_t": 30_919_624,
}
"""At 224 pixels and 1000 classes, from torchvision's documentation."""


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@pytest.mark.parametrize(("name", "size"), SMALL.items())
def test_the_export_computes_what_the_module_does(name: str, size: int, fold: bool):
    torch.manual_seed(0)
    network = module(name, size, 7).eval()
    randomise(network)
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            nn.init.normal_(layer.weight)  # the head of a vision transformer
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        expected = network(images).numpy()
    model = _export(network, fold, size)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": images.numpy()})
    assert np.ptp(expected, 0).max() > 0
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_numbers_of_parameters(name: str, count: int):
    assert sum(p.numel() for p in module(name, 224, 1000).parameters()) == count


def test_the_names_are_torchvisions():
    """All but the two that torchvision has no weights of that saw ImageNet-1K alone, at their own size."""
    known = set(models.list_models(module=models))
    assert len(NAMES) == len(set(NAMES))
    assert known - set(NAMES) == {"vit_h_14", "regnet_y_128gf"}
    assert set(NAMES) <= known


def test_families_hold_together():
    assert SPACE.family is not None
    assert [SPACE.family(name) for name in ("resnet50", "wide_resnet50_2", "vgg16_bn", "swin_v2_t")] == [
        "resnet",
        "wide_resnet",
        "vgg_bn",
        "swin_v2",
    ]
    assert SPACE.family(SPACE.sample(random.Random(0))) in FAMILIES


@pytest.mark.parametrize(("name", "size"), [("vit_b_16", 40), ("maxvit_t", 48), ("inception_v3", 32)])
def test_a_size_that_a_model_cannot_take_is_one_line(name: str, size: int):
    with pytest.raises(SettingsError, match=f"{name} cannot be built for images of {size}x{size}: .+"):
        SPACE.build(name, fold=True, size=size)


def test_a_missing_torchvision_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "intrain_onnx.bench.torchvision_export")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(SettingsError, match=r"needs torchvision.*intrain-onnx\[bench\]"):
        SPACE.build("resnet18", fold=True)


@pytest.mark.parametrize("name", ["mnasnet0_5", "densenet121"])
def test_folded_or_kept_the_layers_and_the_weights_are_the_same(name: str):
    """densenet121 has norms that no convolution can take up."""
    found = set()
    for fold in (False, True):
        model = SPACE.build(name, fold=fold, size=64)
        config = ScoreConfig.for_protocol("architecture", seeds=1, batch=2, threads=1, size=64, device="cpu")
        report = intrain_onnx.score(model, config)
        assert report.data["parity"]["ok"]
        found.add((report.data["score"]["layers"], round(report.intrain, 4)))
    assert len(found) == 1
