"""Writes torchvision's classifiers to ONNX by PyTorch's TorchScript exporter."""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.maxvit import MaxVit

from intrain_onnx.errors import SettingsError


def module(name: str, size: int, classes: int) -> nn.Module:
    """A classifier with random weights and without auxiliary heads, for square images of a size.

    Raises:
        AssertionError, RuntimeError, ValueError: torchvision's own, if it cannot be made for this size.
    """
    if name == "maxvit_t":
        return _maxvit(size, classes)
    options: dict[str, Any] = {}
    if name.startswith("vit"):
        options["image_size"] = size
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    made: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    if name.startswith(("alexnet", "vgg")):
        made.avgpool = WindowMeans(6 if name == "alexnet" else 7)
    return made


class WindowMeans(nn.Module):
    """Adaptive average pooling as slices and means: exporters refuse maps smaller than its output."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Means of (samples, channels, height, width) over windows that tile it, as torch has them."""
        rows = [x[:, :, a:b].mean(2, keepdim=True) for a, b in self._windows(x.shape[2])]
        whole = torch.cat(rows, 2)
        return torch.cat([whole[..., a:b].mean(3, keepdim=True) for a, b in self._windows(x.shape[3])], 3)

    def _windows(self, traced: int) -> list[tuple[int, int]]:
        length = int(traced)  # else the export divides in the graph, and rounds towards zero
        return [(i * length // self.side, -(-(i + 1) * length // self.side)) for i in range(self.side)]


def _maxvit(size: int, classes: int) -> nn.Module:
    """MaxViT-T. Its windows have a side of 1/32 of the image's, as in the paper: 7 at 224."""
    if size % 32:
        raise ValueError("the side must be a multiple of 32")
    made: nn.Module = MaxVit(
        input_size=(size, size),
        stem_channels=64,
        partition_size=size // 32,
        block_channels=[64, 128, 256, 512],
        block_layers=[2, 2, 5, 2],
        head_dim=32,
        stochastic_depth_prob=0.2,
        num_classes=classes,
    )
    return made


def export(name: str, *, fold: bool, size: int, classes: int) -> onnx.ModelProto:
    """The model of a classifier, its batch free; BatchNorm is folded into convolutions, or all is kept.

    Raises:
        SettingsError: the classifier takes no images of this size.
    """
    try:
        return _export(module(name, size, classes).eval(), fold, size)
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise SettingsError(
            f"{name} cannot be built for images of {size}x{size}: {reason}", hint="Take another --size"
        ) from error


def _export(network: nn.Module, fold: bool, size: int) -> onnx.ModelProto:
    """Both in evaluation mode: what is kept is the operator, not the training of its statistics."""
    mode = torch.onnx.TrainingMode
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        written = Path(folder) / "model.onnx"
        warnings.simplefilter("ignore")  # of the tracer and of the exporter's age
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, size, size),),
            written,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            training=mode.EVAL if fold else mode.PRESERVE,
            do_constant_folding=fold,
        )
        return onnx.load(written)
