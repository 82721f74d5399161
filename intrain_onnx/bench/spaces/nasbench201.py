"""NAS-Bench-201: cells of four nodes, each connected to all previous ones by one of five operations."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import onnx

from intrain_onnx.bench.spaces.base import Genes, Genome, Space, bad, column
from intrain_onnx.bench.writer import Writer

Cell = Sequence[Sequence[str]]
"""For each node after the first, the operation on each edge from a previous node."""

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
WIDTHS = (16, 32, 64)
CELLS = 5


def parse(description: str) -> Cell:
    """The operations of a string such as ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
    nodes = [part.strip("|").split("|") for part in description.split("+")]
    cell = [[edge.partition("~")[0] for edge in node] for node in nodes]
    unknown = {operation for node in cell for operation in node} - set(OPERATIONS)
    if unknown:
        raise bad(description, "NAS-Bench-201", f"it has no operation {min(unknown)!r}")
    if len(cell) != 3 or render(cell) != description:
        raise bad(description, "NAS-Bench-201", "a cell reads |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    return cell


def render(cell: Cell) -> str:
    """The inverse of `parse`."""
    return "+".join(f"|{'|'.join(f'{op}~{i}' for i, op in enumerate(node))}|" for node in cell)


def operation(writer: Writer, name: str, x: str, inputs: int, outputs: int) -> str:
    """One edge of a cell. ``none`` multiplies by zero: layers behind it stay, as in the trained networks."""
    if name == "none":
        return writer.node("Mul", x, writer.number(0.0))
    if name == "avg_pool_3x3":
        return writer.node("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    if name == "skip_connect":
        return x if inputs == outputs else writer.convolution_norm(x, inputs, outputs, 1)
    return writer.convolution_norm(writer.node("Relu", x), inputs, outputs, KERNELS[name])


def write_cell(writer: Writer, cell: Cell, x: str, inputs: int, outputs: int) -> str:
    """One cell; the edges from its input change the number of channels."""
    values = [x]
    for node in cell:
        total = ""
        for source, name in enumerate(node):
            made = operation(writer, name, values[source], outputs if source else inputs, outputs)
            total = writer.node("Add", total, made) if total else made
        values.append(total)
    return values[-1]


def write_reduction(writer: Writer, x: str, inputs: int, outputs: int) -> str:
    """The stride-2 residual block between stages."""
    a = writer.convolution_norm(writer.node("Relu", x), inputs, outputs, 3, 2)
    b = writer.convolution_norm(writer.node("Relu", a), outputs, outputs, 3)
    pooled = writer.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    return writer.node("Add", b, writer.convolution(pooled, inputs, outputs, 1))


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network of a cell: three stages of five cells."""
    cell, writer = parse(description), Writer(fold)
    classes = classes or SPACE.classes
    x = writer.convolution_norm("image", 3, WIDTHS[0], 3)
    for stage, width in enumerate(WIDTHS):
        if stage:
            x = write_reduction(writer, x, WIDTHS[stage - 1], width)
        for _ in range(CELLS):
            x = write_cell(writer, cell, x, width, width)
    x = writer.node("Relu", writer.norm(x, WIDTHS[-1]))
    logits = writer.classifier(x, WIDTHS[-1], classes)
    return writer.model(logits, name=SPACE.name, size=size or SPACE.size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The canonical cell string from the column ``arch_str``."""
    return render(parse(column(row, "arch_str")))


def sample(generator: random.Random) -> str:
    """Draw one of the five operations for each edge."""
    return render([[generator.choice(OPERATIONS) for _ in range(node)] for node in (1, 2, 3)])


def express(genes: Genes) -> str:
    """The cell whose edges have these operations, node by node."""
    names = [OPERATIONS[gene] for gene in genes]
    return render([names[:1], names[1:3], names[3:]])


SPACE = Space(
    name="nasbench201",
    title="NAS-Bench-201",
    source="Dong and Yang, NAS-Bench-201: Extending the Scope of Reproducible NAS, ICLR 2020",
    describe=describe,
    build=build,
    accuracies={
        "CIFAR-10": "cifar10_test",
        "CIFAR-100": "cifar100_test",
        "ImageNet16-120": "imagenet16_test",
    },
    sample=sample,
    size=32,
    batch=16,
    classes=10,
    genome=Genome(alleles=(len(OPERATIONS),) * 6, express=express),
)
