"""TransNAS-Bench-101, macro level: four to six modules, which may double channels or halve the resolution.

Descriptions read ``64-<digits>-basic``, one digit per module: 1 changes neither, 2 doubles the channels,
3 halves the resolution, 4 does both.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

import onnx

from intrain_onnx.bench.spaces.base import Genes, Genome, Space, bad, column
from intrain_onnx.bench.writer import Writer

STEM = 64
LENGTHS = (4, 5, 6)
DOUBLE, HALVE = "24", "34"
"""Digits of the modules that double the channels, and of those that halve the resolution."""
DOUBLED, HALVED = range(1, 4), range(1, 5)
"""How many modules of a network do."""
DESCRIPTION = re.compile(rf"{STEM}-([1-4]+)-basic")


def parse(description: str) -> str:
    """The digits of a description."""
    match = DESCRIPTION.fullmatch(description)
    if not match or not is_code(match[1]):
        why = "it reads 64-<digits>-basic: 4 to 6 of 1, 2, 3, 4; 1 to 3 of them 2 or 4; 1 to 4 of them 3 or 4"
        raise bad(description, "TransNAS-Bench-101, macro level", why)
    return match[1]


def is_code(digits: str) -> bool:
    """Whether the benchmark holds the network of these digits."""
    doubled, halved = (sum(digit in kind for digit in digits) for kind in (DOUBLE, HALVE))
    return len(digits) in LENGTHS and doubled in DOUBLED and halved in HALVED


def write_block(writer: Writer, x: str, inputs: int, outputs: int, stride: int) -> str:
    """Two times ReLU, convolution, BatchNorm; the shortcut is a 1x1 convolution if the shape changes."""
    first = writer.convolution_norm(writer.node("Relu", x), inputs, outputs, 3, stride)
    second = writer.convolution_norm(writer.node("Relu", first), outputs, outputs, 3)
    changes = stride > 1 or inputs != outputs
    return writer.node(
        "Add", writer.convolution_norm(x, inputs, outputs, 1, stride) if changes else x, second
    )


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network as a classifier, which all tasks share but for the head.

    The stem quarters the resolution; nothing is between the sum of the last block and the pooling.
    """
    digits, writer = parse(description), Writer(fold)
    classes, width = classes or SPACE.classes, STEM
    x = writer.convolution_norm("image", 3, width // 2, 3, 2)
    x = writer.convolution_norm(writer.node("Relu", x), width // 2, width, 3, 2)
    for digit in digits:
        before, width = width, 2 * width if digit in DOUBLE else width
        x = write_block(writer, x, before, width, 2 if digit in HALVE else 1)
        x = write_block(writer, x, width, width, 1)
    logits = writer.classifier(x, width, classes)
    return writer.model(logits, name=SPACE.name, size=size or SPACE.size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The description from the column ``arch_str``."""
    description = column(row, "arch_str")
    parse(description)
    return description


def sample(generator: random.Random) -> str:
    """Draw the number of modules, then digits until the benchmark holds them."""
    length, digits = generator.choice(LENGTHS), ""
    while not is_code(digits):
        digits = "".join(generator.choices("1234", k=length))
    return f"{STEM}-{digits}-basic"


def express(genes: Genes) -> str:
    """The modules of genes, each a digit or none; those that are none may stand anywhere."""
    description = f"{STEM}-{''.join(str(gene) for gene in genes if gene)}-basic"
    parse(description)
    return description


SPACE = Space(
    name="transnas_macro",
    title="TransNAS-Bench-101 macro",
    source="Duan et al., TransNAS-Bench-101, CVPR 2021",
    describe=describe,
    build=build,
    # All of them grow with the quality: accuracies, structural similarities, mIoU, and a negated loss.
    accuracies={
        "scene": "test_class_scene",
        "object": "test_class_object",
        "jigsaw": "test_jigsaw",
        "room layout": "test_room_layout",
        "autoencoder": "test_autoencoder",
        "normal": "test_normal",
        "segmentation": "test_segmentsemantic",
    },
    sample=sample,
    size=64,
    batch=16,
    classes=63,
    genome=Genome(alleles=(5,) * max(LENGTHS), express=express),
)
