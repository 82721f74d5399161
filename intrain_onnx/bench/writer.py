"""Builds networks as ONNX graphs node by node, in the form that exporters produce.

Without torch and tracing, a network takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET = 17
IR_VERSION = 9

_outlined: ContextVar[bool] = ContextVar("outlined", default=False)


@contextmanager
def outlines() -> Iterator[None]:
    """Within it, writers leave out the zeros of weights: see ``loading.outline``."""
    token = _outlined.set(True)
    try:
        yield
    finally:
        _outlined.reset(token)


@dataclass
class Writer:
    """Collects nodes and initializers; each method appends nodes and returns the name of their output.

    Unless they are drawn, all weights are zero: a score re-initialises them.

    Attributes:
        fold: fold each BatchNorm into the convolution before it, as exporters of inference graphs do.
        initial: draws the weights of layers from N(0, gain^2 2 / fan-in); None leaves them zero.
        gain: see ``initial``.
    """

    fold: bool
    initial: np.random.Generator | None = None
    gain: float = 1.0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output."""
        name = self.name(op)
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def name(self, op: str) -> str:
        """A name that no node has yet."""
        return f"{op.lower()}_{len(self.nodes)}"

    def weight(self, *shape: int, value: float = 0.0) -> str:
        """An initializer of one value, or of drawn ones if it has the shape (outputs, inputs…) of a layer."""
        name = f"weight_{len(self.weights)}"
        if _outlined.get() and self.initial is None and len(shape) > 1 and not value:
            self.weights.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape))
            return name
        values = np.full(shape, value, np.float32)
        if self.initial is not None and len(shape) > 1:
            scale = self.gain * math.sqrt(2 / math.prod(shape[1:]))
            values = (scale * self.initial.standard_normal(shape)).astype(np.float32)
        self.weights.append(helper.make_tensor(name, TensorProto.FLOAT, shape, values.tobytes(), raw=True))
        return name

    def number(self, value: float) -> str:
        """A scalar constant."""
        return self.node("Constant", value=helper.make_tensor("value", TensorProto.FLOAT, [], [value]))

    def integers(self, *values: int) -> str:
        """A 1-D int64 constant, such as a shape."""
        return self.node(
            "Constant", value=helper.make_tensor("value", TensorProto.INT64, [len(values)], values)
        )

    def convolution(
        self,
        x: str,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        padding: int | None = None,
        bias: bool = False,
    ) -> str:
        """A square convolution; the default padding, half the kernel, keeps the size at stride 1."""
        pad = kernel // 2 if padding is None else padding
        operands = [x, self.weight(outputs, inputs // groups, kernel, kernel)]
        if bias:
            operands.append(self.weight(outputs))
        sizes = {"kernel_shape": [kernel] * 2, "pads": [pad] * 4, "strides": [stride] * 2}
        return self.node("Conv", *operands, group=groups, **sizes)

    def norm(self, x: str, channels: int) -> str:
        """A BatchNorm; if folded, only a bias of the convolution that computes x."""
        last = self.nodes[-1]
        if self.fold and last.op_type == "Conv" and last.output[0] == x:
            last.input.append(self.weight(channels))
            return x
        # Scale, shift, mean, variance: as before any training.
        values = [self.weight(channels, value=value) for value in (1.0, 0.0, 0.0, 1.0)]
        return self.node("BatchNormalization", x, *values)

    def convolution_norm(
        self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1
    ) -> str:
        """A convolution without bias, and its BatchNorm."""
        return self.norm(self.convolution(x, inputs, outputs, kernel, stride, groups=groups), outputs)

    def classifier(self, x: str, inputs: int, classes: int) -> str:
        """Global average pooling and a linear layer."""
        flat = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.linear(flat, inputs, classes, tokens=False)

    def linear(self, x: str, inputs: int, outputs: int, *, tokens: bool = True, bias: bool = True) -> str:
        """A linear layer: MatMul and Add for (batch, tokens, channels), Gemm for a matrix."""
        if tokens:
            product = self.node("MatMul", x, self.weight(inputs, outputs))
            return self.node("Add", product, self.weight(outputs)) if bias else product
        return self.node("Gemm", x, self.weight(outputs, inputs), self.weight(outputs), transB=1)

    def layer_norm(self, x: str, width: int, *, bias: bool = True) -> str:
        """A LayerNorm over the last axis."""
        offset = [self.weight(width)] if bias else []
        return self.node("LayerNormalization", x, self.weight(width), *offset, axis=-1)

    def gelu(self, x: str) -> str:
        """The exact GELU, decomposed with Erf as at opsets before 20."""
        bend = self.node("Erf", self.node("Div", x, self.number(2**0.5)))
        shifted = self.node("Add", bend, self.number(1.0))
        return self.node("Mul", self.node("Mul", x, shifted), self.number(0.5))

    def attention(
        self, x: str, width: int, heads: int, dimension: int, *, hide: Callable[[str], str] = str
    ) -> str:
        """Multi-head self-attention with a fused linear map for queries, keys and values.

        Args:
            x: tokens, (batch, tokens, width).
            width: channels of a token.
            heads: number of heads.
            dimension: channels of one head.
            hide: masks the scores; by default none are.
        """
        fused = self.linear(x, width, 3 * heads * dimension)
        split = self.node("Reshape", fused, self.integers(0, 0, 3, heads, dimension))
        parts = self.node("Transpose", split, perm=[2, 0, 3, 1, 4])
        queries, keys, values = (self.pick(parts, i, axis=0) for i in range(3))
        joined = self.attend(queries, keys, values, heads, dimension, hide)
        return self.linear(joined, heads * dimension, width)

    def attend(
        self,
        queries: str,
        keys: str,
        values: str,
        heads: int,
        dimension: int,
        hide: Callable[[str], str],
    ) -> str:
        """The values, weighted by the softmax of the scores; (batch, tokens, heads * dimension).

        Args:
            queries: as keys and values of (batch, heads, tokens, dimension).
            keys: see queries.
            values: see queries.
            heads: number of heads.
            dimension: channels of one head.
            hide: masks the scores.
        """
        products = self.node("MatMul", queries, self.node("Transpose", keys, perm=[0, 1, 3, 2]))
        scores = hide(self.node("Mul", products, self.number(dimension**-0.5)))
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), values)
        joined = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.node("Reshape", joined, self.integers(0, 0, heads * dimension))

    def pick(self, x: str, index: int, *, axis: int) -> str:
        """One entry of x along an axis, which is removed."""
        tensor = helper.make_tensor("value", TensorProto.INT64, [], [index])
        return self.node("Gather", x, self.node("Constant", value=tensor), axis=axis)

    def encoder(self, x: str, width: int, heads: int, dimension: int, hidden: int) -> str:
        """A pre-norm transformer block: attention and a two-layer MLP, each with a residual connection."""
        x = self.node("Add", x, self.attention(self.layer_norm(x, width), width, heads, dimension))
        inner = self.gelu(self.linear(self.layer_norm(x, width), width, hidden))
        return self.node("Add", x, self.linear(inner, hidden, width))

    def tokens(self, x: str, width: int) -> str:
        """A feature map (batch, width, height, width) reshaped to tokens (batch, positions, width)."""
        return self.node("Transpose", self.node("Reshape", x, self.integers(0, width, -1)), perm=[0, 2, 1])

    def class_token(self, x: str, width: int) -> str:
        """A learned token, expanded to the batch size of x."""
        batch = self.node("Shape", x, start=0, end=1)
        shape = self.node("Concat", batch, self.integers(1, width), axis=0)
        return self.node("Expand", self.weight(1, 1, width), shape)

    def part(self, x: str, start: int, end: int, axis: int) -> str:
        """A slice of x along one axis."""
        return self.node("Slice", x, *(self.integers(value) for value in (start, end, axis)))

    def model(self, logits: str, *, name: str, size: int, classes: int, channels: int = 3) -> onnx.ModelProto:
        """The network from "image", (batch, channels, size, size), to logits, checked by onnx."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, size, size])
        output = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", classes])
        return self.network(image, output, name=name)

    def network(
        self, given: onnx.ValueInfoProto, output: onnx.ValueInfoProto, *, name: str
    ) -> onnx.ModelProto:
        """The network from an input to an output, checked by onnx unless its weights are outlined."""
        graph = helper.make_graph(self.nodes, name, [given], [output], self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        if not _outlined.get():  # it asks for data
            onnx.checker.check_model(model)
        return model
