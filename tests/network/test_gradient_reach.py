"""Which weights a gradient reaches, and what stops it for the others, on graphs made by hand."""

from __future__ import annotations

import io
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from builders import model, normalised, weight

import intrain_onnx
from intrain_onnx.commands.terminal import summary as terminal
from intrain_onnx.network import gradient_reach
from intrain_onnx.network.gradient_reach import UNKNOWN, Reach, Stop
from intrain_onnx.network.layers import Slot, analyse
from intrain_onnx.report.document import schema
from intrain_onnx.rewrites.protocol.loss_heads import find_heads

I64 = np.int64
W = {"w": weight(4, 5), "v": weight(5, 3)}


def stops(proto: onnx.ModelProto) -> dict[str, tuple[str | None, str | None] | None]:
    network = normalised(proto)
    found = gradient_reach.trace(network.graph, find_heads(network))
    used = analyse(network).slots
    return {n: None if s is None else (s.node, s.op) for n, s in found.stops.items() if n in used}


def score(proto: onnx.ModelProto, protocol: str = "checkpoint", **settings: Any) -> intrain_onnx.Report:
    config = intrain_onnx.ScoreConfig.for_protocol(
        protocol, seeds=1, batch=4, threads=1, parity=False, device="cpu", **settings
    )
    found = intrain_onnx.score(proto, config)
    jsonschema.validate(found.data, schema())
    assert found.data["gradient_reach"]["elements"] == found.data["model"]["parameters"]
    return found


def test_all_is_reached_in_a_plain_network():
    proto = model("(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }", W)
    assert stops(proto) == {"w": None, "v": None}
    assert score(proto).data["gradient_reach"] == {
        "share": 1.0,
        "reached_elements": 35,
        "elements": 35,
        "stopped_by": [],
    }


def test_softmax_and_argmax_behind_the_loss_stop_nothing():
    proto = model(
        "(float[N,4] x) => (float[N,3] p, int64[N] c)"
        " { h = MatMul(x, w) y = MatMul(h, v) p = Softmax(y) c = ArgMax<axis = 1, keepdims = 0>(p) }",
        W,
    )
    assert stops(proto) == {"w": None, "v": None}


BLOCKERS = {
    "ArgMax": ("a = ArgMax<axis = 1>(h) b = Cast<to = 1>(a)", 1),
    "Cast": ("a = Cast<to = 7>(h) b = Cast<to = 1>(a)", 5),
    "Greater": ("a = Greater(h, zero) b = Cast<to = 1>(a)", 5),
    "Round": ("b = Round(h)", 5),
    "Sign": ("b = Sign(h)", 5),
    "QuantizeLinear": ("a = QuantizeLinear(h, zero) b = Cast<to = 1>(a)", 5),
    "Floor": ("n = Neg(h) b = Floor(n)", 5),
}


@pytest.mark.parametrize("op", BLOCKERS)
def test_the_node_that_stops_it_is_named(op):
    text, width = BLOCKERS[op]
    weights = {"w": weight(4, 5), "v": weight(width, 3), "zero": np.array(0.5, np.float32)}
    proto = model(f"(float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w) {text} y = MatMul(b, v) }}", weights)
    for node in proto.graph.node:
        node.name = f"the {node.op_type} of {node.output[0]}"
    output = next(n.output[0] for n in proto.graph.node if n.op_type == op)
    assert stops(proto) == {"w": (f"the {op} of {output}", op), "v": None}


def test_report_counts_what_is_stopped():
    proto = model(
        "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) a = ArgMax<axis = 1, keepdims = 0>(h)"
        " e = Gather(t, a) s = Add(e, c) y = MatMul(s, v) }",
        W | {"t": weight(5, 5), "c": weight(5)},
    )
    for protocol in ("checkpoint", "architecture"):
        assert score(proto, protocol).data["gradient_reach"] == {
            "share": pytest.approx(45 / 65, abs=1e-11),
            "reached_elements": 45,
            "elements": 65,
            "stopped_by": [{"node": "a", "op": "ArgMax", "parameters": 1, "elements": 20}],
        }


def test_zero_gradients_of_round_do_not_count_but_those_of_a_dead_relu_do():
    dead = {"w": weight(4, 5), "b": np.full(5, -100, np.float32), "v": weight(5, 3)}
    text = "(float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w) s = Add(h, b) r = {}(s) y = MatMul(r, v) }}"
    found = score(model(text.format("Round"), dead)).data["gradient_reach"]
    assert found["reached_elements"] == 15
    assert found["stopped_by"] == [{"node": "r", "op": "Round", "parameters": 2, "elements": 25}]
    proto = model(
        "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) s = Add(h, b) r = Relu(s) t = Add(r, x2)"
        " y = MatMul(t, v) z = MatMul(x, u) x2 = Sigmoid(z) }".replace(
            "t = Add(r, x2) y = MatMul(t, v) z = MatMul(x, u) x2 = Sigmoid(z)",
            "z = MatMul(x, u) x2 = Sigmoid(z) t = Add(r, x2) y = MatMul(t, v)",
        ),
        dead | {"u": weight(4, 5, seed=1)},
    )
    found = score(proto)
    assert {p["status"] for p in found.data["parameters"] if p["name"] == "w"} == {"zero_gradient"}
    assert found.data["gradient_reach"]["share"] == 1.0


def test_one_open_path_is_enough():
    proto = model(
        "(float[N,4] x) => (float[N,5] y) { h = MatMul(x, w) r = Round(h) y = Add(h, r) }",
        {"w": weight(4, 5)},
    )
    assert stops(proto) == {"w": None}


def test_nearest_of_several_is_named():
    proto = model(
        "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) n = Neg(h) f = Floor(n) c = Ceil(h)"
        " s = Add(f, c) y = MatMul(s, v) }",
        W,
    )
    assert stops(proto)["w"] == ("c", "Ceil")


def test_values_of_topk_pass_and_its_indices_do_not():
    text = "(float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w) a, b = TopK(h, k) {} y = MatMul(c, v) }}"
    weights = {"w": weight(4, 5), "v": weight(2, 3), "k": np.array([2], I64)}
    assert stops(model(text.format("c = Neg(a)"), weights))["w"] is None
    assert stops(model(text.format("c = Cast<to = 1>(b)"), weights))["w"] == ("a", "TopK")


def test_shape_of_a_value_reads_no_weights():
    proto = model(
        "(float[N,4] x, float[N,5] z) => (float[N,3] y)"
        " { h = MatMul(x, w) s = Shape(h) r = Reshape(z, s) y = MatMul(r, v) }",
        W,
    )
    network = normalised(proto)
    found = gradient_reach.trace(network.graph, find_heads(network))
    assert found.stops["w"] == Stop("s", "Shape")


IF = """(float[N,4] x, bool c) => (float[N,3] y) {{
    m = MatMul(x, u)
    h = If (c) <then_branch = t () => (float[N,5] p) {{ p = MatMul(m, w) }},
                else_branch = e () => (float[N,5] q) {{ {} }}>
    y = MatMul(h, v)
}}"""


def test_gradients_flow_through_branches_and_captured_values():
    weights = W | {"u": weight(4, 4), "z": weight(4, 5, seed=2)}
    assert stops(model(IF.format("q = MatMul(m, z)"), weights)) == dict.fromkeys("uvwz")
    blocked = stops(model(IF.format("g = MatMul(m, z) q = Round(g)"), weights))
    assert blocked == {"u": None, "v": None, "w": None, "z": ("q", "Round")}


def test_branch_that_did_not_run_is_named_by_its_node():
    weights = W | {"u": weight(4, 4), "z": weight(4, 5, seed=2)}
    found = score(model(IF.format("q = MatMul(m, z)"), weights)).data["gradient_reach"]
    assert found["reached_elements"] == 51
    assert found["stopped_by"] == [{"node": "h", "op": "If", "parameters": 1, "elements": 20}]


def test_body_of_a_loop():
    proto = model(
        """(float[N,4] x) => (float[N,4] y) {
            y = Loop (n, go, x) <body = b (int64 i, bool d, float[N,4] s) => (bool e, float[N,4] t) {
                e = Identity(d) g = MatMul(s, w) t = Tanh(g) }>
        }""",
        {"w": weight(4, 4), "n": np.array(2, I64), "go": np.array(True)},
    )
    assert stops(proto) == {"w": None}


SLOTS = {
    name: Slot("weight", layer, 1, name) for name, layer in (("a", "A"), ("b", "B"), ("c", "C"), ("d", None))
}
STOP = Stop("round", "Round")


def summary(measured: dict[str, str], lost: set[str] = frozenset(), **stopped: Stop) -> dict[str, Any]:
    found = Reach(dict.fromkeys("abcd", 10), dict.fromkeys("abcd") | stopped, {"b": Stop("if", "If")})
    return gradient_reach.summary(found, SLOTS, measured, lost)


def test_measured_gradients_have_the_last_word():
    assert summary(dict.fromkeys("abcd", "measured"), a=STOP)["share"] == 1
    assert summary(dict.fromkeys("abcd", "round_off"), a=STOP)["share"] == 1
    found = summary(dict.fromkeys("abcd", "unreached"), a=STOP, d=STOP)
    assert found["reached_elements"] == 0
    assert found["stopped_by"] == [
        {"node": "round", "op": "Round", "parameters": 2, "elements": 20},
        {"node": None, "op": None, "parameters": 1, "elements": 10},
        {"node": "if", "op": "If", "parameters": 1, "elements": 10},
    ]


def test_replaced_parameters_go_by_the_graph_and_by_their_layer():
    assert summary({})["share"] == 1
    assert summary({}, a=STOP)["share"] == 0.75
    assert summary({}, {"A", "C"})["stopped_by"] == [
        {"node": None, "op": None, "parameters": 2, "elements": 20}
    ]


def test_what_no_loss_reads_is_unknown():
    proto = model("(float[N,4] x) => (float[N,5] y) { y = MatMul(x, w) }", {"w": weight(4, 5)})
    network = normalised(proto)
    assert gradient_reach.trace(network.graph, []).stops == {"w": UNKNOWN}


def test_summary_says_it_under_not_measured():
    proto = model("(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) r = Round(h) y = MatMul(r, v) }", W)
    stream = io.StringIO()
    terminal.summary(score(proto), stream)
    assert "no gradient reaches 20 of 35 trainable elements (57.1%)" in stream.getvalue()
    assert "stopped by Round r: 1 tensor, 20 elements" in stream.getvalue()


def test_summary_tells_what_did_not_run_from_what_is_stopped():
    weights = W | {"u": weight(4, 4), "z": weight(4, 5, seed=2)}
    stream = io.StringIO()
    terminal.summary(score(model(IF.format("q = MatMul(m, z)"), weights)), stream)
    assert "not run by If h: 1 tensor, 20 elements" in stream.getvalue()
