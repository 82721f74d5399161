"""Where values stop being finite is the node that made them so, while calibrating too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from builders import model, weight

from intrain_onnx import Report, ScoreConfig, score
from intrain_onnx.errors import NumericalError

DOMAINS = {
    "Log": ("s = Neg(a) h = Log(s)", "Log of values that are not positive (the least is -"),
    "Sqrt": ("s = Neg(a) h = Sqrt(s)", "Sqrt of negative values (the least is -"),
    "Pow": ("s = Neg(a) h = Pow(s, half)", "Pow of negative values (the least is -"),
    "Div": ("s = Mul(x, zero) h = Div(one, s)", "Div by zero"),
    "Reciprocal": ("s = Mul(x, zero) h = Reciprocal(s)", "Reciprocal of zero"),
    "Atanh": ("s = Add(a, one) h = Atanh(s)", "Atanh of values beyond -1 and 1"),
    "Softmax": (
        "c = Less(a, zero) s = Where(c, x, low) h = Softmax(s)",
        "Softmax of rows in which all is masked",
    ),
}
CONSTANTS = {
    "w": weight(4, 3),
    "b": weight(3),
    "zero": np.float32(0),
    "one": np.float32(1),
    "half": np.float32(0.5),
    "low": np.float32(-np.inf),
}


def error_of(text: str, protocol: str = "architecture", **more: Any) -> NumericalError:
    with pytest.raises(NumericalError) as caught:
        scored(text, protocol, **more)
    return caught.value


def scored(
    text: str, protocol: str = "architecture", inputs: Mapping[str, Any] | None = None, **more: Any
) -> Report:
    config = ScoreConfig.for_protocol(
        protocol, seeds=1, batch=4, threads=1, device="cpu", parity=False, inputs=inputs or {}
    )
    constants = {n: np.asarray(a) for n, a in {**CONSTANTS, **more}.items() if n in text}
    return score(model(text, constants), config)


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint"])
@pytest.mark.parametrize("op", DOMAINS)
def test_a_value_outside_a_domain_is_found_by_its_node_and_its_input(op: str, protocol: str):
    body, said = DOMAINS[op]
    error = error_of(f"(float[N,4] x) => (float[N,3] y) {{ a = Abs(x) {body} y = Gemm(h, w, b) }}", protocol)
    assert said in error.message
    assert (error.op, error.node) == (op, "h")
    assert error.hint == "It follows from 'x': feed values that suit the model, such as --input x=1.0"
    assert "weight" not in error.message


def tried(error: NumericalError) -> dict[str, float]:
    """What the hint says to feed."""
    assert error.hint is not None
    name, _, value = error.hint.rpartition("such as --input ")[2].partition("=")
    return {name: float(value)}


SIGMA = """(float[N,4] x, float[N,4] sigma, bool[N,4] seen) => (float[N,3] y) { l = Log(sigma) a = Add(x, l)
    z = Where(seen, a, x) y = Gemm(z, w, b) }"""


def test_only_the_inputs_behind_it_are_named_and_the_hint_works():
    error = error_of(SIGMA, inputs={"sigma": -1.0, "seen": 1})
    assert error.op == "Log"
    assert error.message.startswith(
        "an activation is not finite: Log of values that are not positive (the least is -1)"
    )
    assert error.hint == "It follows from 'sigma': feed values that suit the model, such as --input sigma=1.0"
    assert scored(SIGMA, inputs={"seen": 1, **tried(error)}).data["score"]["intrain"] > 0


IGNORE = """(float[N,4] x, bool[N,4] ignore) => (float[N,3] y) { m = Where(ignore, low, zero) a = Add(x, m)
    h = Softmax(a) y = Gemm(h, w, b) }"""


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint"])
def test_a_mask_that_leaves_nothing_is_named_and_turned(protocol: str):
    error = error_of(IGNORE, protocol, inputs={"ignore": 1})
    assert error.op == "Softmax"
    assert tried(error) == {"ignore": 0}
    assert "'x'" not in str(error.hint)
    assert scored(IGNORE, protocol, inputs={"ignore": 0}).data["score"]["intrain"] > 0


def test_a_softmax_that_the_graph_looks_after_is_not_blamed():
    error = error_of(
        """(float[N,4] x, bool[N,4] ignore) => (float[N,3] y) { m = Where(ignore, low, zero) a = Add(x, m)
        h = Softmax(a) n = IsNaN(h) f = Where(n, zero, h)
        g = Neg(one) l = Log(g) k = Add(f, l) y = Gemm(k, w, b) }""",
        inputs={"ignore": 1},
    )
    assert error.op == "Log"


def test_a_weight_of_the_file_is_still_blamed_where_it_is_not_finite():
    text = "(float[N,4] x) => (float[N,3] y) { y = Gemm(x, w, b) }"
    error = error_of(text, "checkpoint", b=np.array([1, np.nan, 0], np.float32))
    assert error.message == "the weight 'b' holds values that are not finite"
    assert error.hint == "Repair the checkpoint, or score it with --protocol architecture"


def test_calibration_stops_at_the_first_layer_and_changes_no_weight_to_nan():
    """Two layers behind the node, and a third before it."""
    error = error_of(
        """(float[N,4] x) => (float[N,3] y) { f = MatMul(x, v) l = Log(f) u = MatMul(l, v) r = Relu(u)
        y = Gemm(r, w, b) }""",
        v=weight(4, 4),
    )
    assert (error.op, error.node) == ("Log", "l")


def test_a_value_inside_a_loop_is_found():
    error = error_of(
        """(float[N,4] x) => (float[N,3] y) {
        l = Loop<body = b (int64 i, bool k, float[N,4] s) => (bool d, float[N,4] t) {
            d = Identity(k) a = Abs(s) n = Neg(a) t = Sqrt(n) }>(rounds, yes, x)
        y = Gemm(l, w, b) }""",
        rounds=np.array(2),
        yes=np.array(True),
    )
    assert error.op == "Sqrt"
    assert "Sqrt of negative values" in error.message
