"""NAS-Bench-NLP: language models of three recurrent layers whose cell is a graph of simple operations.

Each layer is a Scan over time with its cell as the body. The head is tied to the embedding. Dropout, which
does nothing in evaluation, is left out. Counts are the published ones for all 33,278 words.

By default there are 2,000 words: a batch holds some hundred tokens, so more words add nothing that could be
measured, and the head would take most of the time.
"""

from __future__ import annotations

import graphlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import onnx

from intrain_onnx.bench.spaces.base import Space, bad, column, compact, fields
from intrain_onnx.bench.token_writer import TokenWriter
from intrain_onnx.bench.writer import Writer

WIDTHS = (400, 600, 600, 400)
"""Channels of the embedding, and of each layer."""
BENDS = {"activation_tanh": "Tanh", "activation_sigm": "Sigmoid", "activation_leaky_relu": "LeakyRelu"}
PAIRS = {"elementwise_prod": "Mul", "elementwise_sum": "Add"}
INPUTS = {"blend": 3} | dict.fromkeys(PAIRS, 2) | dict.fromkeys(BENDS, 1)
MOST = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cell: an operation, and the names of what it reads."""

    op: str
    inputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    Attributes:
        nodes: by name; those that make states are ``h_new_0`` and so on.
        order: names, each after all that its node reads.
        states: number of states.
    """

    nodes: Mapping[str, Node]
    order: Sequence[str]
    states: int

    def __str__(self) -> str:
        return compact({name: {"op": n.op, "input": n.inputs} for name, n in self.nodes.items()})


def parse(description: str) -> Cell:
    """Parse JSON: by name of a node, ``op`` and ``input``, a list of nodes, ``x`` and ``h_prev_0`` ...."""
    values = fields(description, "NAS-Bench-NLP")
    if not 0 < len(values) <= MOST:
        raise bad(description, "NAS-Bench-NLP", f"a cell has up to {MOST} nodes")
    nodes = {name: parse_node(description, name, value) for name, value in values.items()}
    states = 0
    while f"h_new_{states}" in nodes:
        states += 1
    if not states:
        raise bad(description, "NAS-Bench-NLP", "no node 'h_new_0'")
    known = {"x", *(f"h_prev_{i}" for i in range(states))}
    unknown = sorted({name for node in nodes.values() for name in node.inputs} - known - set(nodes))
    if unknown:
        raise bad(description, "NAS-Bench-NLP", f"{unknown[0]!r} is no node and no input")
    graph = {name: [i for i in node.inputs if i in nodes] for name, node in nodes.items()}
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise bad(description, "NAS-Bench-NLP", "nodes read each other in a circle") from error
    return Cell(nodes, order, states)


def parse_node(description: str, name: str, value: object) -> Node:
    """One node, with as many inputs as its operation takes; only linear maps may read ``x``."""
    op, inputs = (value.get("op"), value.get("input")) if isinstance(value, dict) else (None, None)
    if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
        raise bad(description, "NAS-Bench-NLP", f"node {name!r} has no list of inputs")
    if op != "linear" and op not in INPUTS:
        raise bad(description, "NAS-Bench-NLP", f"no operation {op!r}")
    if not 0 < len(inputs) <= MOST or len(inputs) != INPUTS.get(op, len(inputs)):
        raise bad(description, "NAS-Bench-NLP", f"node {name!r} has {len(inputs)} inputs")
    if op != "linear" and "x" in inputs:
        raise bad(description, "NAS-Bench-NLP", f"node {name!r} reads 'x', which has another width")
    return Node(op, inputs)


def build(
    description: str, *, fold: bool, size: int | None = None, classes: int | None = None
) -> onnx.ModelProto:
    """The language model; it has no BatchNorm to fold."""
    cell, writer = parse(description), TokenWriter(fold)
    size, classes = size or SPACE.size, classes or SPACE.classes
    table = writer.weight(classes, WIDTHS[0])
    x = writer.embedding(table, "tokens")
    for inputs, outputs in pairwise(WIDTHS):
        step = partial(write_step, cell=cell, inputs=inputs, outputs=outputs)
        x = writer.scan(x, inputs, [outputs] * cell.states, step)
    logits = writer.node("Add", writer.tied(x, table), writer.weight(classes))
    return writer.language_model(logits, name=SPACE.name, size=size, classes=classes)


def write_step(
    body: Writer, token: str, states: Sequence[str], *, cell: Cell, inputs: int, outputs: int
) -> list[str]:
    """One step of a layer; returns the new states."""
    values = {"x": token} | {f"h_prev_{i}": state for i, state in enumerate(states)}
    for name in cell.order:
        node = cell.nodes[name]
        read = [values[i] for i in node.inputs]
        if node.op == "linear":
            widths = [inputs if i == "x" else outputs for i in node.inputs]
            values[name] = write_linear(body, read, widths, outputs)
        elif node.op == "blend":
            values[name] = write_blend(body, *read)
        elif node.op == "activation_leaky_relu":
            values[name] = body.node("LeakyRelu", *read, alpha=0.01)
        else:
            values[name] = body.node((BENDS | PAIRS)[node.op], *read)
    return [values[f"h_new_{i}"] for i in range(cell.states)]


def write_linear(body: Writer, read: Sequence[str], widths: Sequence[int], outputs: int) -> str:
    """The sum of a linear map of each input, with one bias."""
    total = ""
    for value, width in zip(read, widths, strict=True):
        product = body.node("MatMul", value, body.weight(width, outputs))
        total = body.node("Add", total, product) if total else product
    return body.node("Add", total, body.weight(outputs))


def write_blend(body: Writer, gate: str, one: str, other: str) -> str:
    """A mean of two inputs, weighed by the gate and what it leaves."""
    left = body.node("Sub", body.number(1.0), gate)
    return body.node("Add", body.node("Mul", gate, one), body.node("Mul", left, other))


def describe(row: Mapping[str, str]) -> str:
    """The cell as JSON without whitespace, from the column ``recepie``."""
    return str(parse(column(row, "recepie")))


def sample(generator: random.Random) -> str:
    """A cell whose nodes read earlier ones and states; what nothing reads is left out."""
    states = generator.choice((1, 2, 3))
    earlier = [f"h_prev_{i}" for i in range(states)]
    nodes = {"node_0": Node("linear", ["x", "h_prev_0"])}
    for index in range(1, generator.randint(2, 9)):
        earlier.append(f"node_{index - 1}")
        nodes[f"node_{index}"] = sample_node(generator, earlier)
    earlier.append(f"node_{len(nodes) - 1}")
    for index in range(states):
        nodes[f"h_new_{index}"] = Node(generator.choice([*BENDS]), [generator.choice(earlier[states:])])
    read = {f"h_new_{i}" for i in range(states)}
    for name in reversed(nodes):
        read |= set(nodes[name].inputs) if name in read else set()
    return str(parse(str(Cell({k: v for k, v in nodes.items() if k in read}, [], states))))


def sample_node(generator: random.Random, earlier: Sequence[str]) -> Node:
    """An operation over earlier values; half of all are linear maps, which read the token too."""
    op = generator.choice(["linear"] * len(INPUTS) + [*INPUTS])
    if op == "linear":
        return Node(op, ["x", generator.choice(earlier)])
    return Node(op, generator.choices(earlier, k=INPUTS[op]))


SPACE = Space(
    name="nas_bench_nlp",
    title="NAS-Bench-NLP",
    source=(
        "Klyuchnikov et al., NAS-Bench-NLP: Neural Architecture Search Benchmark for Natural Language "
        "Processing, IEEE Access 2022"
    ),
    describe=describe,
    build=build,
    accuracies={"WikiText-2": "val_ppl"},
    losses=frozenset({"WikiText-2"}),
    sample=sample,
    size=16,
    batch=16,
    classes=2000,
)
