"""torchvision's classifiers, each by its name: its own modules, written by PyTorch's exporter."""

from __future__ import annotations

import random
from collections.abc import Mapping

import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column
from intrain_onnx.errors import SettingsError

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "alexnet": ("alexnet",),
    "convnext": ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    "densenet": ("densenet121", "densenet161", "densenet169", "densenet201"),
    "efficientnet": tuple(f"efficientnet_b{size}" for size in range(8)),
    "efficientnet_v2": ("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
    "googlenet": ("googlenet",),
    "inception_v3": ("inception_v3",),
    "maxvit": ("maxvit_t",),
    "mnasnet": ("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"),
    "mobilenet_v2": ("mobilenet_v2",),
    "mobilenet_v3": ("mobilenet_v3_small", "mobilenet_v3_large"),
    **{
        family: tuple(
            f"{family}_{work}" for work in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")
        )
        for family in ("regnet_x", "regnet_y")
    },
    "resnet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "resnext": ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    "shufflenet_v2": ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"),
    "squeezenet": ("squeezenet1_0", "squeezenet1_1"),
    "swin": ("swin_t", "swin_s", "swin_b"),
    "swin_v2": ("swin_v2_t", "swin_v2_s", "swin_v2_b"),
    "vgg": ("vgg11", "vgg13", "vgg16", "vgg19"),
    "vgg_bn": ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    "vit": ("vit_b_32", "vit_b_16", "vit_l_32", "vit_l_16"),
    "wide_resnet": ("wide_resnet50_2", "wide_resnet101_2"),
}
"""Names of models by the design that they share; those whose first weights saw ImageNet-1K alone."""

_FAMILY_OF = {name: family for family, names in FAMILIES.items() for name in names}


def parse(description: str) -> str:
    """Validate the name of a model."""
    if description not in _FAMILY_OF:
        raise bad(description, "torchvision", "it takes the name of a classifier, such as 'resnet18'")
    return description


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """Export the model of a name, with weights drawn by its own initialisation."""
    name = parse(description)
    try:
        from intrain_onnx.bench.torchvision_export import export  # noqa: PLC0415 - torch stays in the workers
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"space {SPACE.name} needs {error.name}, which is not installed",
            hint="pip install 'intrain-onnx[bench]'",
        ) from error
    return export(name, fold=fold, size=size or SPACE.size, classes=classes or SPACE.classes)


def describe(row: Mapping[str, str]) -> str:
    """The name from the column ``model``."""
    return parse(column(row, "model"))


def sample(generator: random.Random) -> str:
    """Draw a model."""
    return generator.choice(tuple(_FAMILY_OF))


SPACE = Space(
    name="torchvision",
    title="torchvision's classifiers",
    source="torchvision, Models and pre-trained weights: the first weights of each model",
    describe=describe,
    build=build,
    accuracies={"ImageNet": "acc@1"},
    sample=sample,
    family=lambda description: _FAMILY_OF[parse(description)],
    size=96,
    batch=8,
    classes=1000,
)
