"""Layers rolled into a Scan or Loop are those of the network that writes them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from builders import model, run_onnxruntime, weight
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes import common

from intrain_onnx import ScoreConfig, pipeline, score, to_torch
from intrain_onnx.loading.load import load
from intrain_onnx.network.marks import left_rolled
from intrain_onnx.network.values import of_file
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.rewrites.unroll import capture_unchanging, unroll

FORMS = Path(__file__).parents[1] / "forms"
CONFIG = ScoreConfig.for_protocol(seeds=1, batch=8, threads=1, device="cpu")
Array = np.ndarray


def places(source: Any) -> list[tuple[int, str]]:
    """Depth and key of every layer, as the ``architecture`` protocol sees them."""
    return sorted((x.depth, x.key) for x in pipeline.canonical_layers(source, CONFIG).layers)


def assert_same_network(rolled: Any, plain: Any) -> None:
    assert places(rolled) == places(plain)
    ours, theirs = (score(source, CONFIG).data for source in (rolled, plain))
    assert ours["parity"]["ok"] is True, ours["parity"]
    elements = [sum(int(np.prod(p["shape"])) for p in data["parameters"]) for data in (ours, theirs)]
    assert elements[0] == elements[1]
    for name, row in theirs["scores"].items():
        assert ours["scores"][name]["value"] == pytest.approx(row["value"], rel=1e-3), name


def prepared(proto: onnx.ModelProto) -> ir.Model:
    result = load(proto).fresh()
    normalise(result)
    return result


def loops(prepared_model: ir.Model) -> int:
    return sum(node.op_type in ("Loop", "Scan") for node in prepared_model.graph.all_nodes())


# Files of the field


def test_a_scan_over_stacked_weights_is_six_layers():
    path = FORMS / "scan_layers_float64.onnx"
    given = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    weights = {"win": given["win"], "wout": given["wout"]}
    nodes = ""
    for i, (w, b) in enumerate(zip(given["Ws"], given["Bs"], strict=True)):
        weights |= {f"W{i}": w, f"B{i}": b}
        nodes += (
            f"m{i} = MatMul(h{i}, W{i}) a{i} = Add(m{i}, B{i}) t{i} = Tanh(a{i}) h{i + 1} = Add(t{i}, h{i}) "
        )
    text = f"(double[B,6] x) => (double[B,5] y) {{ h0 = MatMul(x, win) {nodes} y = MatMul(h4, wout) }}"
    assert_same_network(path, model(text, weights, opset=17))
    data = score(path, CONFIG).data
    assert [layer["depth"] for layer in data["layers"]] == [1, 2, 3, 4, 5, 6]
    checkpoint = score(path, ScoreConfig.for_protocol("checkpoint", seeds=1, threads=1, device="cpu")).data
    assert sum(int(np.prod(p["shape"])) for p in checkpoint["parameters"]) == 1264


@pytest.mark.parametrize("name", ["scan", "nested"])
def test_what_jax_scans_is_what_it_writes_out(name: str):
    assert_same_network(FORMS / f"jax_{name}.onnx", FORMS / f"jax_{name}_written_out.onnx")


@pytest.mark.parametrize("name", ["fori_loop", "while_loop"])
def test_what_jax_loops_over_is_what_it_writes_out(name: str):
    assert_same_network(FORMS / f"jax_{name}.onnx", FORMS / "jax_loop_written_out.onnx")


def test_what_jax_scans_over_time_is_a_layer_that_runs_often():
    data = score(FORMS / "jax_time.onnx", CONFIG).data
    rows = {layer["weights"][0]: layer["rows"] for layer in data["layers"]}
    assert len(rows) == 3  # one before the loop, two in it, each for all steps


# Random networks


@dataclass(frozen=True)
class Plan:
    """A network: a layer in front, ``rounds`` times a body, a layer behind.

    Attributes:
        rolled: how the rounds are written.
        width: channels.
        body: what a round does.
        bias: whether its layers have one.
        residual: whether a round adds what it was given.
        act: the activation.
        backward: the last slice first.
        axis: of the stack, along which slices lie.
        transposed: the stack lies in the file in another order of axes.
        gathers: per round, what it puts out as well.
        data: a second input of the network, of which each round adds a slice.
    """

    rolled: str
    rounds: int
    width: int
    body: str
    bias: bool
    residual: bool
    act: str
    backward: bool
    axis: int
    transposed: bool
    gathers: bool
    data: bool


PLANS = st.builds(
    Plan,
    rolled=st.sampled_from(["scan", "gather", "slice", "vector", "counted"]),
    rounds=st.integers(1, 4),
    width=st.sampled_from([3, 4, 6]),
    body=st.sampled_from(["matmul", "gemm", "two", "conv"]),
    bias=st.booleans(),
    residual=st.booleans(),
    act=st.sampled_from(["Relu", "Tanh", "Sigmoid"]),
    backward=st.booleans(),
    axis=st.integers(0, 2),
    transposed=st.booleans(),
    gathers=st.booleans(),
    data=st.booleans(),
)


class Writer:
    """Collects nodes; values get the names that are asked for, or new ones."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.prefix = prefix

    def __call__(self, op: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        output = to or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output


def stacks(plan: Plan) -> dict[str, Array]:
    """The weights of all rounds, by name, stacked along the first axis in the order of the rounds."""
    n, c = plan.rounds, plan.width
    square = (n, c, c, 3, 3) if plan.body == "conv" else (n, c, c)
    found = {"W": weight(*square, seed=1, scale=0.4)}
    if plan.body == "two":
        found["V"] = weight(*square, seed=2, scale=0.4)
    if plan.bias:
        found["B"] = weight(n, c, seed=3, scale=0.1)
    return found


def a_round(emit: Writer, plan: Plan, h: str, given: Mapping[str, str]) -> str:
    """One round on value ``h`` with its weights by name."""
    bias = [given["B"]] if plan.bias else []
    if plan.body == "conv":
        made = emit("Conv", h, given["W"], *bias, pads=[1, 1, 1, 1])
    elif plan.body == "gemm":
        made = emit("Gemm", h, given["W"], *bias, transB=1)
    else:
        made = emit("MatMul", h, given["W"])
        made = emit("Add", made, *bias) if bias else made
    made = emit(plan.act, made)
    if plan.body == "two":
        made = emit("MatMul", made, given["V"])
    if plan.data:
        made = emit("Add", made, given["data"])
    return emit("Add", made, h) if plan.residual else made


def info(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def free(plan: Plan, name: str) -> onnx.ValueInfoProto:
    """A value of the body, of a rank alone."""
    return info(name, *[f"d{i}" for i in range(4 if plan.body == "conv" else 2)])


def network(
    plan: Plan, emit: Writer, middle: Callable[[str], list[str]], constants: dict[str, Array]
) -> onnx.ModelProto:
    """The model around the rounds; what ``middle`` gives beside the first value is put out as it is."""
    c, conv = plan.width, plan.body == "conv"
    op, first, last = ("Conv", (c, 2, 1, 1), (3, c, 1, 1)) if conv else ("MatMul", (5, c), (c, 3))
    constants |= {"first": weight(*first), "last": weight(*last)}
    h, *rest = middle(emit(op, "x", "first"))
    emit(op, h, "last", to="y")
    inputs = [info("x", "N", 2, 4, 4) if conv else info("x", "N", 5)]
    if plan.data:
        inputs.append(info("slices", plan.rounds, c, 1, 1) if conv else info("slices", plan.rounds, c))
    made = helper.make_graph(
        emit.nodes,
        "net",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", *rest)],
        [numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), n) for n, a in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def plain(plan: Plan) -> onnx.ModelProto:
    """The network with its rounds written out."""
    emit, constants = Writer("p"), {"ahead": np.array([0])}

    def middle(h: str) -> list[str]:
        rows = []
        for k in range(plan.rounds):
            given = {name: f"{name}{k}" for name in stacks(plan)}
            constants.update({given[name]: stack[k] for name, stack in stacks(plan).items()})
            if plan.data:
                constants[f"k{k}"] = np.array(k)
                given["data"] = emit("Gather", "slices", f"k{k}")
            h = a_round(emit, plan, h, given)
            rows.append(emit("Unsqueeze", h, "ahead") if plan.gathers else "")
        backward = plan.rolled == "scan" and plan.backward
        return [h, emit("Concat", *rows[:: -1 if backward else 1], axis=0, to="all")] if plan.gathers else [h]

    return network(plan, emit, middle, constants)


def rolled(plan: Plan) -> onnx.ModelProto:
    """The network with its rounds in a Scan or Loop."""
    emit, constants = Writer("r"), dict[str, Array]()
    stored: dict[str, tuple[str, int]] = {}
    for name, stack in stacks(plan).items():
        axis = min(plan.axis, stack.ndim - 1)
        lying = np.moveaxis(stack[::-1] if plan.backward else stack, 0, axis)
        constants[name] = lying.T if plan.transposed else lying
        stored[name] = (emit("Transpose", name) if plan.transposed else name), axis
    if plan.rolled == "scan":
        return network(plan, emit, lambda h: scan(plan, emit, h, stored), constants)
    return network(plan, emit, lambda h: loop(plan, emit, h, stored, constants), constants)


def scan(plan: Plan, emit: Writer, h: str, stored: Mapping[str, tuple[str, int]]) -> list[str]:
    body = Writer("b")
    wholes = dict(stored) | ({"data": ("slices", 0)} if plan.data else {})
    parts = {name: f"part_{name}" for name in wholes}
    formals = [helper.make_tensor_value_info(part, TensorProto.FLOAT, None) for part in parts.values()]
    body("Identity", a_round(body, plan, "state", parts), to="made")
    outputs = [free(plan, "made")]
    if plan.gathers:
        body("Identity", "made", to="row")
        outputs.append(free(plan, "row"))
    directions = [int(plan.backward and name != "data") for name in wholes]
    ends = ["h", "all"][: len(outputs)]
    node = helper.make_node(
        "Scan",
        [h, *(whole for whole, _ in wholes.values())],
        ends,
        body=helper.make_graph(body.nodes, "body", [free(plan, "state"), *formals], outputs),
        num_scan_inputs=len(wholes),
        scan_input_axes=[axis for _, axis in wholes.values()],
        scan_input_directions=directions,
        **({"scan_output_directions": [int(plan.backward)]} if plan.gathers else {}),
    )
    emit.nodes.append(node)
    return ends


def loop(
    plan: Plan, emit: Writer, h: str, stored: Mapping[str, tuple[str, int]], constants: dict[str, Array]
) -> list[str]:
    body = Writer("b")
    constants |= {"trip": np.array(plan.rounds), "true": np.array(True), "one": np.array(1)}
    constants |= {"zero": np.array(0), "ahead": np.array([0]), "end": np.array(plan.rounds - 1)}
    counter = "counter" if plan.rolled == "counted" else "i"
    at = body("Sub", "end", counter) if plan.backward else counter
    given = {}
    for name, (whole, axis) in stored.items():
        constants[f"axis{axis}"] = np.array([axis])
        start = body("Unsqueeze", at, "ahead")
        if plan.rolled == "slice":
            part = body("Slice", whole, start, body("Add", start, "one"), f"axis{axis}")
            given[name] = body("Squeeze", part, f"axis{axis}")
        elif plan.rolled == "vector":
            given[name] = body("Squeeze", body("Gather", whole, start, axis=axis), f"axis{axis}")
        else:
            given[name] = body("Gather", whole, at, axis=axis)
    if plan.data:
        given["data"] = body("Gather", "slices", counter)
    body("Identity", a_round(body, plan, "state", given), to="made")
    carried, outputs = [free(plan, "state")], [free(plan, "made")]
    begins, ends = [h], ["h"]
    if plan.rolled == "counted":  # as a while loop does
        body("Less", body("Add", counter, "one", to="next"), "trip", to="going")
        carried.append(info(counter, kind=TensorProto.INT64))
        outputs.append(info("next", kind=TensorProto.INT64))
        begins, ends = [*begins, "zero"], [*ends, "rounds"]
    else:
        body("Identity", "condition", to="going")
    if plan.gathers:
        body("Identity", "made", to="row")
        outputs, ends = [*outputs, free(plan, "row")], [*ends, "all"]
    formals = [info("i", kind=TensorProto.INT64), info("condition", kind=TensorProto.BOOL), *carried]
    made = helper.make_graph(body.nodes, "body", formals, [info("going", kind=TensorProto.BOOL), *outputs])
    trip = "" if plan.rolled == "counted" else "trip"
    emit.nodes.append(helper.make_node("Loop", [trip, "true", *begins], ends, body=made))
    return [name for name in ends if name != "rounds"]


def feeds(proto: onnx.ModelProto) -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes = {v.name: [d.dim_value or 2 for d in v.type.tensor_type.shape.dim] for v in proto.graph.input}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@settings(deadline=None, max_examples=60)
@given(plan=PLANS)
def test_rolled_layers_are_those_written_out(plan: Plan):
    ours, theirs = rolled(plan), plain(plan)
    given_ = feeds(ours)
    expected = run_onnxruntime(theirs, given_)
    for a, b in zip(run_onnxruntime(ours, given_), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    unrolled = prepared(ours)
    assert loops(unrolled) == 0
    assert left_rolled(unrolled) == []
    for a, b in zip(run_onnxruntime(unrolled, given_), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert_same_network(ours, theirs)


# Kinds that the random networks leave out

STACK = {"W": weight(4, 3, 3, seed=1, scale=0.6), "u": weight(5, 3), "v": weight(3, 2)}
PLAIN = {"u": STACK["u"], "v": STACK["v"]} | {f"W{k}": STACK["W"][k] for k in range(4)}


def around(middle: str, given: Mapping[str, Array], opset: int = 17, shape: str = "N,5") -> onnx.ModelProto:
    text = f"(float[{shape}] x) => (float[{shape[:-1]}2] y) {{ h0 = MatMul(x, u) {middle} y = MatMul(h, v) }}"
    return model(text, given, opset=opset)


def in_turn(*weights: str, wrap: str = "Tanh") -> str:
    lines = [f"m{i} = MatMul(h{i}, {w}) h{i + 1} = {wrap}(m{i})" for i, w in enumerate(weights)]
    return " ".join([*lines, f"h = Identity(h{len(weights)})"])


def test_the_batch_of_opset_8():
    """Every value has an axis for the batch in front, of one sample here."""
    body = """h = Scan<num_scan_inputs = 1, directions = [1],
        body = b (float[3,3] s, float[3,3] w) => (float[3,3] t) { m = MatMul(s, w) t = Tanh(m) }>(, h0, Ws)"""
    ours = around(body, PLAIN | {"Ws": STACK["W"][None]}, 8, "1,3,5")
    del ours.graph.initializer[2:6]
    assert_same_network(ours, around(in_turn("W3", "W2", "W1", "W0"), PLAIN, 8, "1,3,5"))


def test_rounds_that_take_turns_share_their_weights():
    body = """h = Loop<body = b (int64 i, bool c, float[N,3] s) => (bool d, float[N,3] t) {
        d = Identity(c) k = Mod(i, two) w = Gather(W, k) m = MatMul(s, w) t = Tanh(m) }>(four, , h0)"""
    ours = around(body, STACK | {"four": np.array(4), "two": np.array(2)})
    assert_same_network(ours, around(in_turn("W0", "W1", "W0", "W1"), PLAIN))
    names = {w for layer in score(ours, CONFIG).data["layers"] for w in layer["weights"]}
    assert names == {"u", "v", "W[0]", "W[1]"}


def test_rounds_that_share_all_weights_stay_one_layer():
    body = """h = Loop<body = b (int64 i, bool c, float[N,3] s) => (bool d, float[N,3] t) {
        d = Identity(c) b = Gather(B, i) m = MatMul(s, w) n = Add(m, b) t = Tanh(n) }>(four, , h0)"""
    ours = prepared(around(body, STACK | {"w": STACK["W"][0], "B": weight(4, 3), "four": np.array(4)}))
    assert loops(ours) == 1
    assert left_rolled(ours) == []


def test_a_loop_in_a_branch_and_a_branch_in_a_loop():
    body = """n = Shape(x) two = Size(n) yes = Greater(two, one)
        h = If<then_branch = a () => (float[N,3] p) {
            p = Scan<num_scan_inputs = 1, body = b (float[N,3] s, float[3,3] w) => (float[N,3] t) {
                t = If<then_branch = e () => (float[N,3] o) { m = MatMul(s, w) o = Tanh(m) },
                       else_branch = f () => (float[N,3] q) { q = Identity(s) }>(yes) }>(h0, W) },
            else_branch = g () => (float[N,3] r) { r = Identity(h0) }>(yes)"""
    ours = around(body, STACK | {"one": np.array(1)})
    branch = """n = Shape(x) two = Size(n) yes = Greater(two, one)
        h = If<then_branch = a () => (float[N,3] h4) { %s },
            else_branch = g () => (float[N,3] r) { r = Identity(h0) }>(yes)"""
    inner = "h{j} = If<then_branch = e{i} () => (float[N,3] o{i})"
    inner += " {{ m{i} = MatMul(h{i}, W{i}) o{i} = Tanh(m{i}) }},"
    inner += " else_branch = f{i} () => (float[N,3] q{i}) {{ q{i} = Identity(h{i}) }}>(yes)"
    text = branch % " ".join(inner.format(i=i, j=i + 1) for i in range(4))
    assert_same_network(ours, around(text, PLAIN | {"one": np.array(1)}))


def test_stacks_that_are_not_float():
    """Quantised by the round: the scale is a slice, too."""
    q = np.random.default_rng(0).integers(-90, 90, (4, 3, 3), np.int8)
    scales = np.array([0.004, 0.006, 0.008, 0.01], np.float32)
    body = """h = Scan<num_scan_inputs = 2, body = b (float[N,3] s, int8[3,3] p, float r) => (float[N,3] t) {
        w = DequantizeLinear(p, r) m = MatMul(s, w) t = Tanh(m) }>(h0, q, r4)"""
    ours = around(body, {"u": STACK["u"], "v": STACK["v"], "q": q, "r4": scales})
    given = {f"W{k}": q[k] * scales[k] for k in range(4)}
    assert_same_network(ours, around(in_turn(*given), PLAIN | given))


def test_stacks_that_the_graph_computes():
    body = """V = Mul(W, half)
        h = Scan<num_scan_inputs = 1, body = b (float[N,3] s, float[3,3] w) => (float[N,3] t) {
            m = MatMul(s, w) t = Tanh(m) }>(h0, V)"""
    ours = around(body, STACK | {"half": np.array(0.5, np.float32)})
    ours.graph.value_info.append(info("V", 4, 3, 3))
    unrolled = prepared(ours)
    assert loops(unrolled) == 0
    assert sum(node.op_type == "MatMul" for node in unrolled.graph) == 6


def test_a_constant_or_an_input_can_be_what_a_loop_puts_out():
    body = """h, same, last = Loop<body = b (int64 i, bool c, float[N,3] s, float[N,5] z, int64 n)
            => (bool d, float[N,3] t, float[N,5] e, int64 k) {
        d = Identity(c) w = Gather(W, i) m = MatMul(s, w) t = Tanh(m) e = Identity(z) k = Add(n, i)
        }>(four, , h0, x, four)"""
    ours = around(body, STACK | {"four": np.array(4)})
    ours.graph.output.extend(
        [helper.make_tensor_value_info("same", 1, None), helper.make_tensor_value_info("last", 7, None)]
    )
    x = weight(2, 5, seed=9)
    expected = run_onnxruntime(ours, {"x": x})
    unrolled = prepared(ours)
    assert loops(unrolled) == 0
    assert [v.name for v in unrolled.graph.outputs] == ["y", "same", "last"]
    for a, b in zip(run_onnxruntime(unrolled, {"x": x}), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_slices_share_memory_and_know_where_they_come_from():
    body = """h = Scan<num_scan_inputs = 1, body = b (float[N,3] s, float[3,3] w) => (float[N,3] t) {
        m = MatMul(s, w) t = Tanh(m) }>(h0, W)"""
    result = load(around(body, STACK)).fresh()
    normalise(result)
    slices = [result.graph.initializers[f"W[{k}]"] for k in range(4)]
    assert "W" not in result.graph.initializers
    assert {row[0] for v in slices for row in of_file(v)} == {"W"}
    whole = slices[0].const_value.numpy().base
    for k, value in enumerate(slices):
        np.testing.assert_array_equal(value.const_value.numpy(), STACK["W"][k])
        assert np.shares_memory(value.const_value.numpy(), whole)


def test_to_torch_keeps_the_parameters_of_the_file():
    path = FORMS / "scan_layers_float64.onnx"
    module = to_torch(path)
    found = {name: tuple(p.shape) for name, p in module.named_parameters()}
    stored = {t.name: tuple(t.dims) for t in onnx.load(path).graph.initializer}
    assert found.items() <= stored.items()
    assert {"win", "wout"} <= found.keys()
    x = np.random.default_rng(0).standard_normal((3, 6))
    np.testing.assert_allclose(
        module(torch.from_numpy(x)).detach(), run_onnxruntime(onnx.load(path), {"x": x})[0]
    )


def test_a_state_that_the_body_hands_on_as_it_is_is_no_state():
    """The weight of a loop over time, carried through it, is its weight all the same."""
    time_loop = """h, w_, s_ = Loop<body = b (int64 i, bool c, float[N,3] s, float[3,3] w, float[3,3] z)
        => (bool d, float[N,3] t, float[3,3] w, float[3,3] e) {
        d = Identity(c) m = MatMul(s, w) a = Tanh(m) n = MatMul(a, z) t = Tanh(n) e = Identity(z)
        }>(four, , h0, W0, W1)"""
    data = score(around(time_loop, PLAIN | {"four": np.array(4)}), CONFIG).data
    rows = {w: layer["rows"] for layer in data["layers"] for w in layer["weights"]}
    assert rows == {"u": 8, "v": 8, "W0": 4 * 8, "W1": 4 * 8}


# What stays

UNTIL = """k = {rounds} h = Loop<body = b (int64 i, bool c, float[N,3] s) => (bool d, float[N,3] t) {{
    d = {goes_on} j = Mod(i, four) w = Gather(W, j) m = MatMul(s, w) t = Tanh(m) }}>(k, , h0)"""


@pytest.mark.parametrize(
    ("rounds", "goes_on", "reason"),
    [
        ("Size(x)", "Identity(c)", "depends on data"),
        ("Identity(four)", "Greater(zero, i)", ""),
        ("Identity(four)", "Equal(top, zero)", "depends on data"),
        ("Identity(many)", "Identity(c)", "over expanded_nodes"),
        ("Identity(none)", "Identity(c)", "no rounds"),
    ],
)
def test_what_stays_is_named(rounds: str, goes_on: str, reason: str):
    counts = {"four": np.array(4), "zero": np.array(0), "many": np.array(10**15), "none": np.array(0)}
    middle = (
        f"z = ReduceMax<keepdims = 0>(x) top = Cast<to = 7>(z) {UNTIL.format(rounds=rounds, goes_on=goes_on)}"
    )
    ours = prepared(around(middle, STACK | counts))
    left = left_rolled(ours)
    if not reason:
        assert left == []
        assert loops(ours) == 0
        return
    assert loops(ours) == 1
    assert [(row.node, row.op, sum(n for _, n in row.initializers)) for row in left] == [("h", "Loop", 36)]
    assert reason in left[0].reason


def test_rounds_without_end_are_counted_in_bounded_time():
    """Each of 300 loops goes on until a counter reaches a million; together they get one budget."""
    one = """h{j}, n{i} = Loop<body = b (int64 i, bool c, float[N,3] s, int64 k)
            => (bool d, float[N,3] t, int64 e) {{
        e = Add(k, one) d = Less(e, many) j = Mod(i, four) w = Gather(W, j) m = MatMul(s, w) t = Tanh(m)
        }}>(, yes, h{i}, zero)"""
    middle = " ".join(one.format(i=i, j=i + 1) for i in range(300)) + " h = Identity(h300)"
    counts = {"four": np.array(4), "zero": np.array(0), "one": np.array(1), "many": np.array(10**6)}
    started = time.perf_counter()
    ours = prepared(around(middle, STACK | counts | {"yes": np.array(True)}))
    assert time.perf_counter() - started < 60
    assert len(left_rolled(ours)) == 300


# Files that are not what they say


def graphs(proto: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield proto
    for node in proto.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def damages(proto: onnx.ModelProto) -> Iterator[Callable[[onnx.ModelProto], None]]:
    """Ways to break a model: each input, output and attribute of each node and body left out or exchanged."""

    def change(
        place: int, change_graph: Callable[[onnx.GraphProto], None]
    ) -> Callable[[onnx.ModelProto], None]:
        return lambda copy: change_graph(list(graphs(copy.graph))[place])

    def set_input(node: int, index: int, name: str) -> Callable[[onnx.GraphProto], None]:
        return lambda g: g.node[node].input.__setitem__(index, name)

    def retype(node: int, index: int, value: Any) -> Callable[[onnx.GraphProto], None]:
        new = helper.make_attribute(g.node[node].attribute[index].name, value)
        return lambda g: g.node[node].attribute[index].CopyFrom(new)

    for place, g in enumerate(graphs(proto.graph)):
        for kind in ("input", "output"):
            for i in range(len(getattr(g, kind))):
                yield change(place, lambda g, k=kind, i=i: getattr(g, k).__delitem__(i))
        for n, node in enumerate(g.node):
            for i in range(len(node.input)):
                yield change(place, lambda g, n=n, i=i: g.node[n].input.__delitem__(i))
                for name in ("", "x", "W", node.output[0]):
                    yield change(place, set_input(n, i, name))
            for i in range(len(node.attribute)):
                yield change(place, lambda g, n=n, i=i: g.node[n].attribute.__delitem__(i))
                for value in (7, -1, 2**62, 0.5, "text", [3, -9]):
                    yield change(place, retype(n, i, value))


@pytest.mark.parametrize("name", ["scan", "gather", "slice", "counted"])
def test_damaged_loops_are_unrolled_or_left(name: str):
    plan = Plan(name, 3, 3, "matmul", True, True, "Tanh", True, 1, True, True, True)
    proto = rolled(plan)
    tried = 0
    for damage in damages(proto):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        damage(copy)
        try:
            broken = ir.from_proto(copy)
            common.TopologicalSortPass()(broken)
        except Exception:  # onnx_ir's to refuse, cycles too
            continue
        capture_unchanging(broken)
        unroll(broken)
        ir.to_proto(broken)
        tried += 1
    assert tried > 100
