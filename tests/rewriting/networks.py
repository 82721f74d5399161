"""Small networks to rewrite: random ones, and those of the matrix and the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from matrix import EXPORTERS, NETWORKS, UNREACHED, path
from numpy.random import Generator
from onnx import numpy_helper

from .editing import Edit
from .weights import put_on_grid

SAMPLES = Path(__file__).parents[2] / "samples"
OPSETS = (13, 15, 17, 18, 20, 22)
TOKENS, VOCABULARY = 6, 23


@dataclass(frozen=True)
class Plan:
    """A random network: what it reads, and its blocks in order.

    Attributes:
        kind: image, signal, features or tokens.
        opset: of ONNX.
        width: channels behind the first layer.
        seed: of the weights.
        blocks: name and choices of each.
    """

    kind: str
    opset: int
    width: int
    seed: int
    blocks: tuple[tuple[str, int, str], ...]


ACTIVATIONS = ("Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Softplus", "Silu", "Gelu", "Elu")
BLOCKS = {
    "image": (
        "conv",
        "residual",
        "dense",
        "squeeze",
        "separable",
        "pool",
        "repeated",
        "group_norm",
        "gated",
        "branches",
    ),
    "signal": ("conv", "residual", "dense", "separable", "repeated", "group_norm", "gated", "gru"),
    "features": ("linear", "residual", "gated", "repeated", "norm", "dense", "branches"),
    "tokens": (
        "attention",
        "linear",
        "residual",
        "gated",
        "branches",
        "repeated",
        "norm",
        "lstm",
        "gru",
        "over_tokens",
    ),
}


def random_plan(rng: Generator) -> Plan:
    """A network of one to four blocks."""

    def pick(choices: Sequence[Any]) -> Any:
        return choices[int(rng.integers(len(choices)))]

    kind = pick(tuple(BLOCKS))
    blocks = tuple(
        (pick(BLOCKS[kind]), pick((4, 6, 8, 12)), pick(ACTIVATIONS)) for _ in range(int(rng.integers(1, 5)))
    )
    return Plan(kind, pick(OPSETS), pick((4, 6, 8)), int(rng.integers(2**20)), blocks)


def build(plan: Plan) -> onnx.ModelProto:
    """The network of a plan, its weights on the grid of `weights.on_grid`."""
    return _Builder(plan).model()


class _Builder:
    def __init__(self, plan: Plan) -> None:
        graph = onnx.helper.make_graph([], "net", [], [])
        opsets = [onnx.helper.make_opsetid("", plan.opset)]
        ir_version = 8 if plan.opset < 20 else 10
        empty = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        self.plan, self.edit = plan, Edit(empty, np.random.default_rng(plan.seed))
        self.images = plan.kind in {"image", "signal"}
        self.positions = 2 if plan.kind == "image" else 1

    def model(self) -> onnx.ModelProto:
        x, width = self.head()
        for name, size, activation in self.plan.blocks:
            x, width = getattr(self, name)(x, width, size, activation)
        x = self.tail(x, width)
        x.name = "logits"
        x.type, x.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", 5])
        self.edit.graph.outputs.append(x)
        return onnx.shape_inference.infer_shapes(ir.to_proto(self.edit.model))

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: object) -> ir.Value:
        return self.edit.op(None, op_type, inputs, attributes)

    def ints(self, *numbers: int) -> ir.Value:
        return self.edit.ints(*numbers)

    def weight(self, *shape: int) -> ir.Value:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = self.edit.rng.standard_normal(shape) / np.sqrt(fan_in)
        return self.edit.constant(put_on_grid(values), hint="weight")

    def vector(self, size: int, centre: float = 0.0) -> ir.Value:
        values = np.round(8 * self.edit.rng.uniform(-0.5, 0.5, size)) / 8
        return self.edit.constant(values + centre, hint="vector")

    def input(self, name: str, dtype: ir.DataType, *shape: int) -> ir.Value:
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(["batch", *shape]))
        self.edit.graph.inputs.append(value)
        return value

    def head(self) -> tuple[ir.Value, int]:
        width = self.plan.width
        if self.plan.kind == "tokens":
            ids = self.input("ids", ir.DataType.INT64, TOKENS)
            x = self.op("Gather", self.weight(VOCABULARY, width), ids)
            return self.op("Add", x, self.weight(TOKENS, width)), width
        if self.plan.kind == "features":
            return self.input("features", ir.DataType.FLOAT, width), width
        return self.input("signal", ir.DataType.FLOAT, 3, *[8] * self.positions), 3

    def tail(self, x: ir.Value, width: int) -> ir.Value:
        if self.images:
            x = self.op("Flatten", self.op("GlobalAveragePool", x), axis=1)
        elif self.plan.kind == "tokens":
            x = self.op("Squeeze", self.edit.reduce(None, "ReduceMean", x, [1]), self.ints(1))
        if self.edit.chance():
            return self.op("Gemm", x, self.weight(width, 5), self.vector(5))
        return self.op("Add", self.op("MatMul", x, self.weight(width, 5)), self.vector(5))

    # Parts

    def activate(self, x: ir.Value, name: str) -> ir.Value:
        if name == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if name == "Gelu" and self.plan.opset < 20:
            one = self.op("Erf", self.op("Div", x, self.edit.constant(2**0.5)))
            one = self.op("Add", one, self.edit.constant(1))
            return self.op("Mul", self.op("Mul", x, one), self.edit.constant(0.5))
        if name == "HardSwish" and self.plan.opset < 14:
            return self.op("Mul", x, self.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))
        return self.op(name, x)

    def map(self, x: ir.Value, inputs: int, outputs: int, kernel: int = 1, group: int = 1) -> ir.Value:
        """A convolution, or a linear map over the last axis; half of them with a bias."""
        bias = self.vector(outputs) if self.edit.chance() else None
        if self.images:
            shape = [kernel] * self.positions
            pads = [kernel // 2] * (2 * self.positions)
            w = self.weight(outputs, inputs // group, *shape)
            operands = [x, w] if bias is None else [x, w, bias]
            return self.op("Conv", *operands, kernel_shape=shape, pads=pads, group=group)
        y = self.op("MatMul", x, self.weight(inputs, outputs))
        return y if bias is None else self.op("Add", y, bias)

    def normalise(self, x: ir.Value, width: int) -> ir.Value:
        if self.images:
            statistics = self.vector(width), self.vector(width), self.vector(width), self.vector(width, 1)
            return self.op("BatchNormalization", x, *statistics, epsilon=1e-5)
        if self.plan.opset < 17:
            centred = self.op("Sub", x, self.edit.reduce(None, "ReduceMean", x, [-1]))
            variance = self.edit.reduce(None, "ReduceMean", self.op("Mul", centred, centred), [-1])
            deviation = self.op("Sqrt", self.op("Add", variance, self.edit.constant(1e-5)))
            y = self.op("Mul", self.op("Div", centred, deviation), self.vector(width, 1))
            return self.op("Add", y, self.vector(width))
        return self.op("LayerNormalization", x, self.vector(width, 1), self.vector(width), axis=-1)

    # Blocks: (x, width, size, activation) -> (y, its width)

    def conv(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        y = self.map(x, width, size, self.edit.pick((1, 3, 5)))
        if self.edit.chance(0.7):
            y = self.normalise(y, size)
        return self.activate(y, activation), size

    def linear(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        return self.activate(self.map(x, width, size), activation), size

    def norm(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        return self.activate(self.map(self.normalise(x, width), width, size), activation), size

    def residual(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        y = self.activate(self.normalise(self.map(x, width, size, 3), size), activation)
        y = self.normalise(self.map(y, size, width, 3), width)
        return self.activate(self.op("Add", y, x), activation), width

    def dense(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        y = self.activate(self.map(x, width, size, 3), activation)
        return self.op("Concat", x, y, axis=1 if self.images else -1), width + size

    def separable(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        y = self.activate(self.normalise(self.map(x, width, width, 3, group=width), width), activation)
        return self.map(y, width, size), size

    def squeeze(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        gate = self.op("GlobalAveragePool", x)
        gate = self.map(self.activate(self.map(gate, width, size), activation), size, width)
        return self.op("Mul", x, self.op("Sigmoid", gate)), width

    def pool(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        y = self.activate(self.map(x, width, size, 3), activation)
        pool = self.edit.pick(("MaxPool", "AveragePool"))
        return self.op(pool, y, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]), size

    def group_norm(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        y = self.map(x, width, size, 3)
        flat = self.op("Reshape", y, self.ints(0, 2, -1))
        ones, zeros = self.edit.constant(np.ones(2)), self.edit.constant(np.zeros(2))
        flat = self.op("InstanceNormalization", flat, ones, zeros, epsilon=1e-5)
        y = self.op("Reshape", flat, self.ints(0, size, *[8] * self.positions))
        shape = (size, *[1] * self.positions)
        for op, centre in (("Mul", 1), ("Add", 0)):
            values = self.edit.rng.uniform(-0.5, 0.5, shape) + centre
            y = self.op(op, y, self.edit.constant(values))
        return self.activate(y, activation), size

    def gated(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        axis = 1 if self.images else -1
        both = self.map(x, width, 2 * size)
        halves = self.edit.split(None, both, (size, size), axis)
        return self.op("Mul", self.activate(halves[0], activation), halves[1]), size

    def branches(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        """Two or three maps of one value that meet in a product, one of them behind an activation."""
        branches = [self.map(x, width, size) for _ in range(int(self.edit.rng.integers(2, 4)))]
        y = self.activate(branches[0], activation)
        for other in branches[1:]:
            y = self.op("Mul", other, y)
        return y, size

    def repeated(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        shape = [3] * self.positions
        biased, normed = self.edit.chance(), self.edit.chance()
        for _ in range(int(self.edit.rng.integers(2, 5))):
            if self.images:
                w = self.weight(width, width, *shape)
                y = self.op("Conv", x, w, kernel_shape=shape, pads=[1] * (2 * self.positions))
            else:
                y = self.op("MatMul", x, self.weight(width, width))
            if biased and not self.images:
                y = self.op("Add", y, self.vector(width))
            if normed:
                y = self.normalise(y, width)
            x = self.op("Add", self.activate(y, activation), x)
        return x, width

    def attention(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        """Two heads; one map for queries, keys and values, or three."""
        y = self.normalise(x, width)
        if self.edit.chance():
            joined = self.map(y, width, 3 * width)
            parts = self.edit.split(None, joined, [width] * 3, -1)
        else:
            parts = [self.map(y, width, width) for _ in range(3)]
        heads = self.ints(0, TOKENS, 2, width // 2)
        q, k, v = (self.op("Transpose", self.op("Reshape", p, heads), perm=[0, 2, 1, 3]) for p in parts)
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.op("Mul", scores, self.edit.constant((width // 2) ** -0.5))
        y = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        y = self.op("Transpose", y, perm=[0, 2, 1, 3])
        y = self.op("Reshape", y, self.ints(0, TOKENS, width))
        return self.op("Add", x, self.map(y, width, width)), width

    def recurrence(self, x: ir.Value, width: int, size: int, op: str) -> tuple[ir.Value, int]:
        gates = {"LSTM": 4, "GRU": 3}[op]
        channels_first = self.plan.kind == "signal"
        perm = [2, 0, 1] if channels_first else [1, 0, 2]
        y = self.op("Transpose", x, perm=perm)
        rows = gates * size
        w = self.edit.constant(put_on_grid(self.edit.rng.normal(0, 0.5, (1, rows, width))), hint="w")
        r = self.edit.constant(put_on_grid(self.edit.rng.normal(0, 0.5, (1, rows, size))), hint="r")
        extra = {"linear_before_reset": 1} if op == "GRU" else {}
        y = self.op(op, y, w, r, self.edit.constant(np.zeros((1, 2 * rows))), hidden_size=size, **extra)
        y = self.op("Squeeze", y, self.ints(1))
        return self.op("Transpose", y, perm=[1, 2, 0] if channels_first else [1, 0, 2]), size

    def lstm(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        return self.recurrence(x, width, size, "LSTM")

    def gru(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        return self.recurrence(x, width, size, "GRU")

    def over_tokens(self, x: ir.Value, width: int, size: int, activation: str) -> tuple[ir.Value, int]:
        """A perceptron over positions, as in a mixer; or a convolution over them."""
        y = self.op("Transpose", x, perm=[0, 2, 1])
        if self.edit.chance():
            y = self.op("MatMul", y, self.weight(TOKENS, TOKENS))
        else:
            y = self.op("Conv", y, self.weight(width, width, 3), kernel_shape=[3], pads=[1, 1])
        return self.op("Add", x, self.op("Transpose", self.activate(y, activation), perm=[0, 2, 1])), width


# Files


def on_grid(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A model with every weight rounded to the grid of `weights.on_grid`: it can be quantised exactly.

    Shapes that the file declares and that contradict its graph are dropped: jax2onnx keeps those from before
    a change of layout, and onnxruntime refuses some rewritings of such a file, by chance.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    for tensor in result.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            array = put_on_grid(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    try:
        onnx.shape_inference.infer_shapes(result, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        del result.graph.value_info[:]
    return result


def files() -> dict[str, Path]:
    """The samples, and the cells of the matrix."""
    found = {sample.stem: sample for sample in sorted(SAMPLES.glob("*.onnx"))}
    for name in NETWORKS:
        for exporter in EXPORTERS:
            if (name, exporter) not in UNREACHED:
                found[f"{name}-{exporter}"] = path(name, exporter)
    return found
