"""An example of a search space of one's own: plain networks of 3x3 convolutions, with a width for each.

intrain-onnx bench docs/example_space.py --accuracies docs/example_space.csv
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from intrain_onnx.bench.spaces import Genome, Space, bad, column
from intrain_onnx.bench.writer import Writer

WIDTHS = (4, 8, 16, 32)
DEPTH = 4


def parse(description: str) -> list[int]:
    """Widths such as 8-16-16-32, of one architecture each."""
    cells = description.split("-")
    if not 1 <= len(cells) <= DEPTH or not {*cells} <= {str(width) for width in WIDTHS}:
        raise bad(description, "stacks", f"1 to {DEPTH} widths of {WIDTHS}, with - between them")
    return [int(cell) for cell in cells]


def describe(row: Mapping[str, str]) -> str:
    """The architecture of a row of the table."""
    return "-".join(map(str, parse(column(row, "widths"))))


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """Its network: each convolution after the first halves the image."""
    writer, x, before = Writer(fold), "image", 3
    for index, width in enumerate(parse(description)):
        x = writer.node("Relu", writer.convolution_norm(x, before, width, 3, stride=2 if index else 1))
        before = width
    logits = writer.classifier(x, before, classes or SPACE.classes)
    return writer.model(logits, name="stacks", size=size or SPACE.size, classes=classes or SPACE.classes)


def express(genes: tuple[int, ...]) -> str:
    """The architecture of genes: a width each, the last one or two of which may be left out."""
    return "-".join(str(WIDTHS[gene]) for gene in genes if gene < len(WIDTHS))


SPACE = Space(
    name="stacks",
    title="Stacks of convolutions",
    describe=describe,
    build=build,
    accuracies={"made up": "accuracy"},
    size=16,
    batch=16,
    classes=10,
    genome=Genome(alleles=(len(WIDTHS), len(WIDTHS), len(WIDTHS) + 1, len(WIDTHS) + 1), express=express),
)
