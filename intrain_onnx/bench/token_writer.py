"""Builds networks that read words: tokens, embeddings, causal attention, rotary positions, recurrences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.bench.writer import Writer

LOWEST = float(np.finfo(np.float32).min)


@dataclass
class TokenWriter(Writer):
    """A writer of networks from "tokens", (batch, size), to logits, (batch, size, words).

    Attributes:
        prefix: begins the name of each value; bodies of subgraphs must not repeat names of the graph.
    """

    prefix: str = ""

    def name(self, op: str) -> str:
        """A name that no node has yet."""
        return self.prefix + super().name(op)

    def constant(self, array: np.ndarray) -> str:
        """A constant of any shape and type."""
        return self.node("Constant", value=numpy_helper.from_array(array))

    def embedding(self, table: str, words: str) -> str:
        """Rows of a table."""
        return self.node("Gather", table, words, axis=0)

    def tied(self, x: str, table: str) -> str:
        """The product with a table's transpose: the last layer that shares an embedding's weight."""
        return self.node("MatMul", x, self.node("Transpose", table, perm=[1, 0]))

    def tanh_gelu(self, x: str) -> str:
        """GPT-2's approximation of the GELU."""
        cubed = self.node("Mul", self.node("Pow", x, self.number(3.0)), self.number(0.044715))
        inner = self.node("Mul", self.node("Add", x, cubed), self.number((2 / np.pi) ** 0.5))
        shifted = self.node("Add", self.node("Tanh", inner), self.number(1.0))
        return self.node("Mul", self.node("Mul", x, self.number(0.5)), shifted)

    def causal(self, size: int) -> Callable[[str], str]:
        """A map of scores of attention, (batch, heads, size, size), that hides what follows a token."""
        seen = self.constant(np.tri(size, dtype=np.bool_))
        return lambda scores: self.node("Where", seen, scores, self.number(LOWEST))

    def rotary(self, size: int, dimension: int) -> Callable[[str], str]:
        """A map that turns queries or keys, (batch, heads, size, dimension), by their positions.

        Channel i and channel i + dimension / 2 are a pair, turned by position / 10000^(2 i / dimension).
        """
        speeds = 10000.0 ** (-np.arange(0, dimension, 2) / dimension)
        angles = np.tile(np.outer(np.arange(size), speeds), 2)
        cosine, sine = (self.constant(f(angles).astype(np.float32)) for f in (np.cos, np.sin))
        half = dimension // 2

        def turn(x: str) -> str:
            low, high = self.part(x, 0, half, 3), self.part(x, half, dimension, 3)
            other = self.node("Concat", self.node("Neg", high), low, axis=3)
            return self.node("Add", self.node("Mul", x, cosine), self.node("Mul", other, sine))

        return turn

    def scan(self, x: str, width: int, states: Sequence[int], cell: Cell) -> str:
        """A recurrence over the tokens of x; returns the first state at each token.

        Args:
            x: (batch, tokens, width).
            width: channels of a token.
            states: channels of each state, which starts at zero.
            cell: writes one step, given a writer, the token and the states; returns the new states.
        """
        body = TokenWriter(self.fold, weights=self.weights, prefix=f"{self.name('step')}_")
        before = [body.name(f"state_{i}") for i in range(len(states))]
        token = body.name("token")
        after = cell(body, token, before)
        shown = body.node("Identity", after[0])
        read = [vector(*pair) for pair in zip([*before, token], [*states, width], strict=True)]
        made = [vector(*pair) for pair in zip([*after, shown], [*states, states[0]], strict=True)]
        batch = self.node("Shape", x, start=0, end=1)
        shapes = [self.node("Concat", batch, self.integers(count), axis=0) for count in states]
        starts = [self.node("ConstantOfShape", shape) for shape in shapes]
        name = self.name("scan")
        node = helper.make_node(
            "Scan",
            [*starts, x],
            [*(f"{name}_{i}" for i in range(len(states))), name],
            name=name,
            body=helper.make_graph(body.nodes, "step", read, made),
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_output_axes=[1],
        )
        self.nodes.append(node)
        return name

    def language_model(self, logits: str, *, name: str, size: int, classes: int) -> onnx.ModelProto:
        """The network from "tokens" to logits, checked by onnx."""
        tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", size])
        output = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", size, classes])
        return self.network(tokens, output, name=name)


Cell = Callable[[TokenWriter, str, Sequence[str]], list[str]]
"""Writes one step of a recurrence, given a writer, the token and the states; returns the new states."""


def vector(name: str, width: int) -> onnx.ValueInfoProto:
    """The type of a value with one vector per sample."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
