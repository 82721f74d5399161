"""NAS-Bench-101: cells are graphs of up to seven vertices and nine edges."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column
from intrain_onnx.bench.writer import Writer

KERNELS = {"conv1x1-bn-relu": 1, "conv3x3-bn-relu": 3}
OPERATIONS = (*KERNELS, "maxpool3x3")
VERTICES = 7
EDGES = 9
STEM = 128
STACKS = 3
CELLS = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """A directed acyclic graph; its first vertex is the input, its last the output."""

    edges: Sequence[Sequence[bool]]
    operations: Sequence[str]

    def __str__(self) -> str:
        return f"{''.join(str(int(edge)) for row in self.edges for edge in row)} {','.join(self.operations)}"

    def pruned(self) -> Cell | None:
        """The cell without vertices that are on no path from input to output; None if there is no path."""
        last = len(self.operations) - 1
        forward, backward = {0}, {last}
        for vertex in range(1, last + 1):
            if any(self.edges[source][vertex] for source in forward):
                forward.add(vertex)
        for vertex in range(last - 1, -1, -1):
            if any(self.edges[vertex][target] for target in backward):
                backward.add(vertex)
        kept = sorted(forward & backward)
        if last not in forward:
            return None
        rows = [[self.edges[source][target] for target in kept] for source in kept]
        return Cell(rows, [self.operations[vertex] for vertex in kept])


def parse(description: str) -> Cell:
    """Parse an adjacency matrix, row by row, and the operations: ``011001000 input,maxpool3x3,output``.

    Vertices on no path from input to output are removed, as in the benchmark.
    """
    matrix, _, names = description.partition(" ")
    operations = names.split(",")
    count = len(operations)
    if len(matrix) != count**2 or not set(matrix) <= {"0", "1"}:
        raise bad(description, "NAS-Bench-101", "the matrix needs a 0 or 1 for each pair of operations")
    edges = [[matrix[row * count + target] == "1" for target in range(count)] for row in range(count)]
    if any(edges[row][target] for row in range(count) for target in range(row + 1)):
        raise bad(description, "NAS-Bench-101", "an edge leads backwards")
    if operations[0] != "input" or operations[-1] != "output" or not set(operations[1:-1]) <= set(OPERATIONS):
        raise bad(description, "NAS-Bench-101", f"between input and output there are {', '.join(OPERATIONS)}")
    cell = Cell(edges, operations).pruned()
    if cell is None:
        raise bad(description, "NAS-Bench-101", "no way leads from the input to the output")
    return cell


def vertex_channels(cell: Cell, inputs: int, outputs: int) -> list[int]:
    """Channels of each vertex: those concatenated divide the output's, others take their targets' maximum."""
    last = len(cell.operations) - 1
    channels = [inputs, *[0] * (last - 1), outputs]
    joined = [vertex for vertex in range(1, last) if cell.edges[vertex][last]]
    for place, vertex in enumerate(joined):
        share, rest = divmod(outputs, len(joined))
        channels[vertex] = share + (place < rest)
    for vertex in range(last - 1, 0, -1):
        if vertex not in joined:
            channels[vertex] = max(channels[t] for t in range(vertex + 1, last) if cell.edges[vertex][t])
    return channels


def activated(writer: Writer, x: str, inputs: int, outputs: int, kernel: int) -> str:
    """Convolution, BatchNorm, ReLU."""
    return writer.node("Relu", writer.convolution_norm(x, inputs, outputs, kernel))


def operate(writer: Writer, name: str, x: str, channels: int) -> str:
    """The operation of a vertex: max-pooling, or convolution, BatchNorm and ReLU."""
    if name == "maxpool3x3":
        return writer.node("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    return activated(writer, x, channels, channels, KERNELS[name])


def cut(writer: Writer, x: str, before: int, after: int) -> str:
    """The first ``after`` channels: shares of the output's channels may differ by one."""
    return x if before == after else writer.part(x, 0, after, 1)


def write_cell(writer: Writer, cell: Cell, x: str, inputs: int, outputs: int) -> str:
    """One cell: vertices sum their inputs, the output concatenates; the cell's input is projected (1x1)."""
    channels = vertex_channels(cell, inputs, outputs)
    values = [x]
    last = len(channels) - 1
    for vertex in range(1, last):
        width = channels[vertex]
        terms = [
            cut(writer, values[source], channels[source], width)
            for source in range(1, vertex)
            if cell.edges[source][vertex]
        ]
        if cell.edges[0][vertex]:
            terms.append(activated(writer, x, inputs, width, 1))
        values.append(operate(writer, cell.operations[vertex], add(writer, terms), width))
    joined = [values[vertex] for vertex in range(1, last) if cell.edges[vertex][last]]
    made = [writer.node("Concat", *joined, axis=1) if len(joined) > 1 else joined[0]] if joined else []
    if cell.edges[0][last]:
        made.append(activated(writer, x, inputs, outputs, 1))
    return add(writer, made)


def add(writer: Writer, terms: Sequence[str]) -> str:
    """The sum of one or more values."""
    total = terms[0]
    for term in terms[1:]:
        total = writer.node("Add", total, term)
    return total


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The network of a cell: three stacks of three cells; between stacks, stride 2 and twice the channels."""
    cell, writer = parse(description), Writer(fold)
    classes, width = classes or SPACE.classes, STEM
    x = activated(writer, "image", 3, width, 3)
    for stack in range(STACKS):
        inputs = width
        if stack:
            x = writer.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
            width *= 2
        for _ in range(CELLS):
            x = write_cell(writer, cell, x, inputs, width)
            inputs = width
    logits = writer.classifier(x, width, classes)
    return writer.model(logits, name=SPACE.name, size=size or SPACE.size, classes=classes)


def describe(row: Mapping[str, str]) -> str:
    """The canonical pruned cell from the columns ``adjacency`` and ``ops``."""
    return str(parse(f"{column(row, 'adjacency')} {column(row, 'ops')}"))


def sample(generator: random.Random) -> str:
    """Draw each edge and operation uniformly, until the cell is connected and has at most ``EDGES`` edges."""
    while True:
        edges = [[s < t and generator.random() < 0.5 for t in range(VERTICES)] for s in range(VERTICES)]
        inner = generator.choices(OPERATIONS, k=VERTICES - 2)
        cell = Cell(edges, ["input", *inner, "output"]).pruned()
        if cell is not None and sum(map(sum, cell.edges)) <= EDGES:
            return str(cell)


SPACE = Space(
    name="nasbench101",
    title="NAS-Bench-101",
    source="Ying et al., NAS-Bench-101: Towards Reproducible Neural Architecture Search, ICML 2019",
    describe=describe,
    build=build,
    accuracies={"CIFAR-10": "test_acc"},
    sample=sample,
    size=32,
    batch=8,
    classes=10,
)
