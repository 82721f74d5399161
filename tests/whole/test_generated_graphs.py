"""Random small graphs, drawn by Hypothesis: they compute what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from ops.node_oracle import onnxruntime_cpu

import intrain_onnx
from intrain_onnx.errors import IntrainError

OPSET = 20
Shape = tuple[int, ...]
Draw = Callable[[st.SearchStrategy], object]


class Drawing:
    """A graph under construction: the shapes of its values, its nodes and its constants."""

    def __init__(self, draw: Draw, shapes: list[Shape]) -> None:
        self.draw = draw
        self.values = {f"x{i}": shape for i, shape in enumerate(shapes)}
        self.inputs = list(self.values)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def pick(self, least_rank: int = 0) -> str | None:
        """A value of at least that rank."""
        found = [name for name, shape in self.values.items() if len(shape) >= least_rank]
        return self.draw(st.sampled_from(found)) if found else None

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def numbers(self, shape: Shape) -> str:
        """A constant of floats, drawn by its seed."""
        seed = self.draw(st.integers(0, 2**16))
        return self.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))

    def node(self, op_type: str, inputs: list[str], shape: Shape, **attributes: object) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        self.values[name] = shape


UNARY = (
    "Relu",
    "Tanh",
    "Sigmoid",
    "Neg",
    "Abs",
    "Softplus",
    "Erf",
    "Gelu",
    "HardSwish",
    "Mish",
    "Floor",
    "Sign",
    "Elu",
)


def unary(made: Drawing) -> None:
    name = made.pick()
    made.node(made.draw(st.sampled_from(UNARY)), [name], made.values[name])


def binary(made: Drawing) -> None:
    name = made.pick()
    shape = made.values[name]
    other = tuple(d if made.draw(st.booleans()) else 1 for d in shape)[
        made.draw(st.integers(0, len(shape))) :
    ]
    operands = [name, made.numbers(other)]
    if made.draw(st.booleans()):
        operands.reverse()
    made.node(made.draw(st.sampled_from(("Add", "Sub", "Mul", "Max", "Min"))), operands, shape)


def two(made: Drawing) -> None:
    name = made.pick()
    same = [n for n, shape in made.values.items() if shape == made.values[name]]
    op_type = made.draw(st.sampled_from(("Add", "Mul", "Sub", "Sum", "Mean")))
    made.node(op_type, [name, made.draw(st.sampled_from(same))], made.values[name])


def transpose(made: Drawing) -> None:
    name = made.pick(2)
    if name is not None:
        perm = made.draw(st.permutations(range(len(made.values[name]))))
        made.node("Transpose", [name], tuple(made.values[name][i] for i in perm), perm=perm)


def reduction(made: Drawing) -> None:
    name = made.pick(1)
    if name is None:
        return
    shape = made.values[name]
    axes = made.draw(st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=2))
    axes = list({a % len(shape): a for a in axes}.values())
    keep = made.draw(st.integers(0, 1))
    gone = {a % len(shape) for a in axes}
    after = tuple(1 if i in gone else d for i, d in enumerate(shape) if i not in gone or keep)
    op_type = made.draw(
        st.sampled_from(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceLogSumExp"))
    )
    made.node(op_type, [name, made.constant(np.array(axes, np.int64))], after, keepdims=keep)


def softmax(made: Drawing) -> None:
    name = made.pick(1)
    if name is not None:
        axis = made.draw(st.integers(-len(made.values[name]), len(made.values[name]) - 1))
        made.node(made.draw(st.sampled_from(("Softmax", "LogSoftmax"))), [name], made.values[name], axis=axis)


def matrix(made: Drawing) -> None:
    name = made.pick(2)
    if name is not None:
        *front, inner = made.values[name]
        width = made.draw(st.integers(1, 4))
        made.node("MatMul", [name, made.numbers((inner, width))], (*front, width))


def convolution(made: Drawing) -> None:
    found = [n for n, shape in made.values.items() if len(shape) == 4 and min(shape[2:]) >= 3]
    if not found:
        return
    name = made.draw(st.sampled_from(found))
    n, channels, height, width = made.values[name]
    group = made.draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
    out = group * made.draw(st.integers(1, 2))
    stride, dilation = (
        made.draw(st.integers(1, 2)),
        made.draw(st.integers(1, 1 if min(height, width) < 5 else 2)),
    )
    pads = made.draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))
    sizes = [
        (d + pads[i] + pads[i + 2] - 2 * dilation - 1) // stride + 1 for i, d in enumerate((height, width))
    ]
    weight = made.numbers((out, channels // group, 3, 3))
    made.node(
        "Conv",
        [name, weight, made.numbers((out,))],
        (n, out, *sizes),
        group=group,
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        pads=pads,
    )


def pool(made: Drawing) -> None:
    found = [n for n, shape in made.values.items() if len(shape) == 4 and min(shape[2:]) >= 2]
    if not found:
        return
    name = made.draw(st.sampled_from(found))
    n, channels, *space = made.values[name]
    stride, ceil = made.draw(st.integers(1, 2)), made.draw(st.integers(0, 1))
    sizes = [-(-(d - 2) // stride) + 1 if ceil else (d - 2) // stride + 1 for d in space]
    op_type = made.draw(st.sampled_from(("MaxPool", "AveragePool")))
    shape = (n, channels, *sizes)
    made.node(op_type, [name], shape, kernel_shape=[2, 2], strides=[stride] * 2, ceil_mode=ceil)


def reshape(made: Drawing) -> None:
    name = made.pick(1)
    if name is not None:
        shape = made.values[name]
        at = made.draw(st.integers(0, len(shape)))
        front, back = int(np.prod(shape[:at])), int(np.prod(shape[at:]))
        target = made.draw(st.sampled_from(([front, back], [-1, back], [front, -1])))
        made.node("Reshape", [name, made.constant(np.array(target, np.int64))], (front, back))


def pick_slices(made: Drawing) -> None:
    name = made.pick(1)
    if name is None:
        return
    shape = list(made.values[name])
    axis = made.draw(st.integers(0, len(shape) - 1))
    start, end = made.draw(st.integers(-9, 9)), made.draw(st.integers(-9, 9))
    step = made.draw(st.sampled_from((1, 2, -1, -2)))
    length = len(range(*slice(start, end, step).indices(shape[axis])))
    # ONNX counts a negative end from the end and clamps it, as Python does; for a negative step too.
    if length:
        parts = [made.constant(np.array([i], np.int64)) for i in (start, end, axis, step)]
        shape[axis] = length
        made.node("Slice", [name, *parts], tuple(shape))


def join(made: Drawing) -> None:
    name = made.pick(1)
    if name is not None:
        shape = list(made.values[name])
        axis = made.draw(st.integers(0, len(shape) - 1))
        same = [n for n, s in made.values.items() if s == made.values[name]]
        shape[axis] *= 2
        made.node("Concat", [name, made.draw(st.sampled_from(same))], tuple(shape), axis=axis)


def lookup(made: Drawing) -> None:
    name = made.pick(1)
    if name is not None:
        shape = made.values[name]
        axis = made.draw(st.integers(0, len(shape) - 1))
        index = made.draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), min_size=1, max_size=4))
        after = (*shape[:axis], len(index), *shape[axis + 1 :])
        made.node("Gather", [name, made.constant(np.array(index, np.int64))], after, axis=axis)


STEPS = (
    unary,
    binary,
    two,
    transpose,
    reduction,
    softmax,
    matrix,
    convolution,
    pool,
    reshape,
    pick_slices,
    join,
    lookup,
)


@st.composite
def graphs(draw: Draw) -> onnx.ModelProto:
    """One or two float inputs, up to ten nodes, and each value that no node reads as an output."""
    shapes = st.sampled_from([(2, 4, 6, 5), (1, 3, 7, 7), (2, 5, 4), (3, 4), (6,), (2, 2, 3)])
    made = Drawing(draw, draw(st.lists(shapes, min_size=1, max_size=2)))
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=10)):
        step(made)
    assume(made.nodes)
    read = {name for node in made.nodes for name in node.input}
    ends = [name for node in made.nodes for name in node.output if name not in read]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        made.nodes,
        "g",
        [helper.make_tensor_value_info(name, floats, made.values[name]) for name in made.inputs],
        [helper.make_tensor_value_info(name, floats, made.values[name]) for name in ends],
        made.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


OF_TORCH = (RuntimeError, ValueError, IndexError)
"""What its operators raise on sizes that do not fit: onnxruntime finds these while it loads, too."""


def ours(proto: onnx.ModelProto, fed: dict[str, np.ndarray]) -> list[torch.Tensor]:
    """The outputs of the converted module."""
    with torch.no_grad():
        found = intrain_onnx.to_torch(proto)(*(torch.from_numpy(a) for a in fed.values()))
    return list(found) if isinstance(found, tuple) else [found]


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs(), st.integers(0, 2**16))
def test_a_generated_graph_computes_what_onnxruntime_does(proto: onnx.ModelProto, seed: int):
    rng = np.random.default_rng(seed)
    fed = {
        v.name: rng.normal(size=[d.dim_value for d in v.type.tensor_type.shape.dim]).astype(np.float32)
        for v in proto.graph.input
    }
    expected = onnxruntime_cpu(proto, fed)
    found = ours(proto, fed)
    assert len(found) == len(expected)
    for own, theirs in zip(found, expected, strict=True):
        assert tuple(own.shape) == theirs.shape
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        np.testing.assert_allclose(own.numpy(), theirs, rtol=1e-4, atol=1e-5 * scale)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs(), st.data())
def test_a_damaged_graph_is_refused_by_both_or_computed_by_both(proto: onnx.ModelProto, data: st.DataObject):
    """An operand too few or too many, or an attribute or operand of a type that it does not take."""
    node = data.draw(st.sampled_from(list(proto.graph.node)))
    how = data.draw(st.sampled_from(("drop", "more", "attribute", "type")))
    if how == "drop":
        node.input.pop()
    elif how == "more":
        node.input.extend(["x0"] * 4)
    elif how == "attribute":
        node.attribute.add().CopyFrom(helper.make_attribute("axis", "one"))
    else:
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.int64), "wrong"))
        node.input[0] = "wrong"
    fed = {
        v.name: np.ones([d.dim_value for d in v.type.tensor_type.shape.dim], np.float32)
        for v in proto.graph.input
    }
    try:
        onnxruntime_cpu(proto, fed)
    except Exception:  # its errors have no common class
        with pytest.raises((IntrainError, *OF_TORCH)):
            ours(proto, fed)
    else:
        ours(proto, fed)
