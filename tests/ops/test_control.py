"""Control flow: nested graphs, captured values, gradients and limits; onnxruntime is the oracle."""

import numpy as np
import pytest
import torch
from node_oracle import assert_close, make_model, onnxruntime_cpu, ours
from onnx import TensorProto, helper

from intrain_onnx.errors import LimitError
from intrain_onnx.loading.allowance import held
from intrain_onnx.loading.limits import Limits
from intrain_onnx.ops import control

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def value(name, kind=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes, inputs, outputs):
    return helper.make_graph(nodes, "body", inputs, outputs)


def loop_model():
    """Loop(n): for each of n rounds, Loop(2): s = s + x (captured from outside twice over); gathers s."""
    inner = graph(
        [
            helper.make_node("Add", ["s_in", "x"], ["s_out"]),
            helper.make_node("Identity", ["c_in"], ["c_out"]),
        ],
        [value("j", TensorProto.INT64, []), value("c_in", TensorProto.BOOL, []), value("s_in")],
        [value("c_out", TensorProto.BOOL, []), value("s_out")],
    )
    outer = graph(
        [
            helper.make_node("Loop", ["two", "go", "t_in"], ["t_out"], body=inner),
            helper.make_node("ReduceSum", ["t_out"], ["total"], keepdims=0),
            helper.make_node("Less", ["total", "bound"], ["go_out"]),
        ],
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("t_in")],
        [value("go_out", TensorProto.BOOL, []), value("t_out"), value("total")],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["last", "totals"], body=outer)
    constants = {"two": np.array(2), "bound": np.array(100, np.float32)}
    return lambda n: (
        make_model([node], {"x": X, "n": np.array(n)}, ["last", "totals"], initializers=constants),
        {"x": X, "n": np.array(n)},
    )


@pytest.mark.parametrize("n", [1, 2, 9])
def test_nested_loops_with_captured_values(n):
    model, inputs = loop_model()(n)
    for got, expected in zip(ours(model, inputs), onnxruntime_cpu(model, inputs), strict=True):
        assert_close(got, expected)


def test_a_loop_that_never_runs_gives_empty_outputs_of_the_right_type():
    model, inputs = loop_model()(0)
    last, totals = ours(model, inputs)
    np.testing.assert_array_equal(last.numpy(), X)
    assert totals.shape == (0,)
    assert totals.dtype == torch.float32


@pytest.mark.parametrize("condition", [True, False])
def test_if_with_captured_values(condition):
    branches = {
        "then_branch": graph([helper.make_node("Neg", ["x"], ["a"])], [], [value("a")]),
        "else_branch": graph([helper.make_node("Mul", ["x", "x"], ["b"])], [], [value("b")]),
    }
    inputs = {"x": X, "c": np.array(condition)}
    model = make_model([helper.make_node("If", ["c"], ["y"], **branches)], inputs, ["y"])
    assert_close(ours(model, inputs)[0], onnxruntime_cpu(model, inputs)[0])


def scan_model(**attributes):
    body = graph(
        [
            helper.make_node("Add", ["s_in", "e"], ["s_out"]),
            helper.make_node("Mul", ["s_out", "k"], ["y"]),
        ],
        [value("s_in", shape=[2]), value("e", shape=[2])],
        [value("s_out", shape=[2]), value("y", shape=[2])],
    )
    node = helper.make_node("Scan", ["s", "x"], ["last", "all"], body=body, num_scan_inputs=1, **attributes)
    inputs = {"s": np.ones(2, np.float32), "x": X}
    return make_model([node], inputs, ["last", "all"], initializers={"k": np.array(3, np.float32)}), inputs


@pytest.mark.parametrize(
    "attributes",
    [
        {"scan_input_axes": [1]},
        {"scan_input_axes": [-1], "scan_input_directions": [1], "scan_output_axes": [1]},
        {"scan_input_axes": [1], "scan_output_directions": [1], "scan_output_axes": [-1]},
    ],
)
def test_scan_axes_and_directions(attributes):
    model, inputs = scan_model(**attributes)
    for got, expected in zip(ours(model, inputs), onnxruntime_cpu(model, inputs), strict=True):
        assert_close(got, expected)


def test_gradients_pass_through_a_loop():
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)

    def body(i, go, s):
        return go, s * x, s.sum()

    last, sums = control.loop(torch.tensor(4), None, x, n_outputs=2, body=body)
    (last.sum() + sums.sum()).backward()
    torch.testing.assert_close(x.grad, torch.full((3,), 5.0 + 1 + 2 + 3 + 4, dtype=torch.float64))


def endless(i, go, s):
    return go, s + 1


def test_an_endless_loop_stops_at_the_limit():
    with held(Limits(loop_rounds=50)), pytest.raises(LimitError, match="51"):
        control.loop(None, None, torch.zeros(1), n_outputs=1, body=endless)


@pytest.mark.parametrize(("rounds", "runs"), [(4 + 4 * 4, True), (4 + 4 * 4 - 1, False)])
def test_rounds_of_nested_loops_are_counted_together(rounds, runs):
    def loop(times, body):
        return lambda i, go, s: (go, *control.loop(torch.tensor(times), None, s, n_outputs=1, body=body))

    nested = loop(4, loop(4, endless))
    with held(Limits(loop_rounds=rounds)):
        if runs:
            assert nested(0, True, torch.zeros(1))[1] == 16
        else:
            with pytest.raises(LimitError, match=r"--limit loop_rounds=\d+"):
                nested(0, True, torch.zeros(1))


def test_a_loop_stops_when_the_time_is_over():
    with held(Limits(seconds=0.2)), pytest.raises(LimitError, match=r"--limit seconds=2"):
        control.loop(None, None, torch.zeros(1), n_outputs=1, body=endless)


def test_a_scan_asks_for_the_limit_before_it_runs():
    def body(s, e):
        return (s + e,)

    with held(Limits(loop_rounds=4)), pytest.raises(LimitError):
        control.scan(torch.zeros(()), torch.zeros(5), n_outputs=1, body=body, num_scan_inputs=1)


def test_sequence_map_gives_tensors_to_every_round():
    def body(a, b, k):
        return a + b, a * k

    sums, products = control.sequence_map(
        [torch.ones(2), torch.ones(3)],
        [torch.ones(2), torch.zeros(3)],
        torch.tensor(4.0),
        n_outputs=2,
        body=body,
    )
    assert [s.tolist() for s in sums] == [[2, 2], [1, 1, 1]]
    assert [p.tolist() for p in products] == [[4, 4], [4, 4, 4]]
