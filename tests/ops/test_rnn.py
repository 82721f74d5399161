"""Recurrent layers against onnxruntime, torch's modules, and their own loop."""

import itertools

import numpy as np
import pytest
import torch
from node_oracle import check

from intrain_onnx.ops import rnn, rnn_cells

RNG = np.random.default_rng(0)
TIME, BATCH, SIZE, HIDDEN = 6, 3, 4, 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": rnn.rnn, "GRU": rnn.gru, "LSTM": rnn.lstm}


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32) * 0.5


def parameters(kind, direction):
    n, rows = (2 if direction == "bidirectional" else 1), GATES[kind] * HIDDEN
    return [normal(n, rows, SIZE), normal(n, rows, HIDDEN), normal(n, 2 * rows)]


def states(kind, direction):
    n = 2 if direction == "bidirectional" else 1
    return [normal(n, BATCH, HIDDEN) for _ in range(2 if kind == "LSTM" else 1)]


def n_outputs(kind):
    return 3 if kind == "LSTM" else 2


@pytest.mark.parametrize("lengths", [None, (6, 2, 4), (6, 6, 6)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_fused_layers(kind, direction, lengths):
    lengths = None if lengths is None else np.array(lengths, np.int32)
    values = [normal(TIME, BATCH, SIZE), *parameters(kind, direction), lengths, *states(kind, direction)]
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    check(kind, values, n_outputs=n_outputs(kind), hidden_size=HIDDEN, direction=direction, **options)
    check(
        kind, [*values[:3], None, lengths], n_outputs=n_outputs(kind), hidden_size=HIDDEN, direction=direction
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
        ("RNN", {"clip": 0.3}),
        ("GRU", {"clip": 0.3}),
        ("GRU", {"clip": 0.3, "linear_before_reset": 1}),
        ("GRU", {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [0.3, 0.1]}),
        ("LSTM", {"clip": 0.3}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"activations": ["Sigmoid", "ScaledTanh", "Softsign"], "activation_alpha": [1.7]}),
        ("LSTM", {"activations": ["HardSigmoid", "Relu", "Elu"]}),
    ],
)
def test_what_the_fused_kernels_lack(kind, options):
    lengths = np.array([6, 2, 4], np.int32)
    values = [normal(TIME, BATCH, SIZE), *parameters(kind, "forward"), lengths, *states(kind, "forward")]
    if "ScaledTanh" in options.get("activations", ()):
        options = {**options, "activation_beta": [0.6]}
    check(kind, values, n_outputs=n_outputs(kind), hidden_size=HIDDEN, **options)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_peepholes(direction):
    n = 2 if direction == "bidirectional" else 1
    values = [normal(TIME, BATCH, SIZE), *parameters("LSTM", direction), None]
    values += [*states("LSTM", direction), normal(n, 3 * HIDDEN)]
    check("LSTM", values, n_outputs=3, hidden_size=HIDDEN, direction=direction)


def test_an_empty_sequence_keeps_its_state():
    lengths = torch.tensor([0, 3, 6])
    x, w, r, b = (torch.from_numpy(v) for v in (normal(TIME, BATCH, SIZE), *parameters("LSTM", "forward")))
    h, c = (torch.from_numpy(v) for v in states("LSTM", "forward"))
    y, last_h, last_c = rnn.lstm(x, w, r, b, lengths, h, c, n_outputs=3)
    assert not y[:, :, 0].any()
    torch.testing.assert_close((last_h[:, 0], last_c[:, 0]), (h[:, 0], c[:, 0]))


@pytest.mark.parametrize("kind", GATES)
def test_batch_first_layout_is_a_transposition(kind):
    x, *weights = (
        torch.from_numpy(v) for v in (normal(TIME, BATCH, SIZE), *parameters(kind, "bidirectional"))
    )
    given = [torch.from_numpy(v) for v in states(kind, "bidirectional")]
    options = {"n_outputs": n_outputs(kind), "direction": "bidirectional"}
    y, *last = FUNCTIONS[kind](x, *weights, None, *given, **options)
    turned = [s.transpose(0, 1) for s in given]
    batch_y, *batch_last = FUNCTIONS[kind](x.transpose(0, 1), *weights, None, *turned, layout=1, **options)
    torch.testing.assert_close(batch_y, y.permute(2, 0, 1, 3))
    torch.testing.assert_close(batch_last, [s.transpose(0, 1) for s in last])


def test_an_lstm_is_torchs_own():
    module = torch.nn.LSTM(SIZE, HIDDEN)
    order = [0, 3, 1, 2]  # torch's i, f, g, o as ONNX's i, o, f, c
    w, r, *b = (torch.cat([p.chunk(4)[i] for i in order])[None] for p in module.parameters())
    x = torch.randn(TIME, BATCH, SIZE)
    y, h, c = rnn.lstm(x, w, r, torch.cat(b, 1), n_outputs=3)
    expected, (h_expected, c_expected) = module(x)
    torch.testing.assert_close((y[:, 0], h, c), (expected, h_expected, c_expected))


@pytest.mark.parametrize(("kind", "fused"), list(itertools.product(GATES, [True, False])))
def test_gradients_reach_every_parameter(kind, fused):
    arrays = [normal(3, 2, SIZE), *parameters(kind, "bidirectional"), *states(kind, "bidirectional")]
    arrays = [
        torch.from_numpy(a[:, :2] if i > 3 else a).double().requires_grad_() for i, a in enumerate(arrays)
    ]
    lengths = torch.tensor([3, 2])
    options = {"linear_before_reset": 1} if kind == "GRU" else {}
    options |= {} if fused else {"clip": 50.0}

    def run(x, w, r, b, *given):
        return FUNCTIONS[kind](
            x, w, r, b, lengths, *given, n_outputs=n_outputs(kind), direction="bidirectional", **options
        )

    assert torch.autograd.gradcheck(run, arrays)


def test_activation_parameters_go_to_the_functions_that_have_them():
    x = torch.linspace(-2, 2, 5)
    tanh, leaky, affine = rnn_cells.activations(["Tanh", "LeakyRelu", "Affine"], [0.5, 3.0], [7.0])
    torch.testing.assert_close(tanh(x), torch.tanh(x))
    torch.testing.assert_close(leaky(x), torch.where(x > 0, x, 0.5 * x))
    torch.testing.assert_close(affine(x), 3 * x + 7)


@pytest.mark.parametrize(("index", "name"), [(1, "W"), (2, "R"), (3, "B"), (5, "initial state 0")])
def test_shapes_that_do_not_fit_are_refused(index, name):
    """Torch's fused kernels would read and write past the end of the tensors."""
    values = [normal(TIME, BATCH, SIZE), *parameters("LSTM", "forward"), None, *states("LSTM", "forward")]
    values = [None if v is None else torch.from_numpy(v) for v in values]
    cut = {1: (..., slice(-1)), 2: (slice(None), slice(-1)), 3: (..., slice(-1)), 5: (slice(None), slice(1))}
    values[index] = values[index][cut[index]]
    with pytest.raises(ValueError, match=f"{name} has the shape"):
        rnn.lstm(*values, n_outputs=3)
