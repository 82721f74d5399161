"""Cells of RNN, GRU and LSTM: one step of each, their activations, and the loop over time.

A step gets the input's contribution to the gates, x W' + b, computed for all steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.errors import UnsupportedError

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]
Activation = Callable[[Tensor], Tensor]


def _affine(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * x + beta


def _scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * torch.tanh(beta * x)


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > alpha, x, 0.0)


_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "sigmoid": (torch.sigmoid, ()),
    "tanh": (torch.tanh, ()),
    "relu": (torch.relu, ()),
    "softsign": (functional.softsign, ()),
    "softplus": (functional.softplus, ()),
    "affine": (_affine, (1.0, 0.0)),
    "elu": (functional.elu, (1.0,)),
    "leakyrelu": (functional.leaky_relu, (0.01,)),
    "thresholdedrelu": (_thresholded_relu, (1.0,)),
    "scaledtanh": (_scaled_tanh, (1.0, 1.0)),
    "hardsigmoid": (_hard_sigmoid, (0.2, 0.5)),
}
"""Each activation with the defaults of the alpha and beta that it has."""


def activations(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None
) -> list[Activation]:
    """The named functions; one with parameters takes the next alpha and beta of the lists.

    Raises:
        UnsupportedError: a name that ONNX does not have.
    """
    remaining: list[Iterator[float]] = [iter(alphas or ()), iter(betas or ())]
    functions: list[Activation] = []
    for name in names:
        try:
            function, defaults = _ACTIVATIONS[name.lower()]
        except KeyError:
            raise UnsupportedError(f"activation {name!r} is not one of ONNX's") from None
        values = [next(given, default) for given, default in zip(remaining, defaults, strict=False)]
        functions.append(_with_arguments(function, values))
    return functions


def _with_arguments(function: Callable[..., Tensor], values: Sequence[float]) -> Activation:
    def apply(x: Tensor) -> Tensor:
        return function(x, *values)

    return apply


@dataclass(frozen=True, slots=True)
class Cell:
    """Parameters of the steps of one direction.

    Attributes:
        recurrent: R, (gates * hidden, hidden).
        bias: the recurrent bias, (gates * hidden,), or None.
        functions: those of the activations f, g and h of ONNX's equations that the cell has.
        clip: bound of every activation's input, or None.
    """

    recurrent: Tensor
    bias: Tensor | None
    functions: Sequence[Activation]
    clip: float | None

    def activate(self, index: int, x: Tensor) -> Tensor:
        """Apply one of the functions to clipped values."""
        return self.functions[index](x if self.clip is None else x.clamp(-self.clip, self.clip))

    def recur(self, h: Tensor) -> Tensor:
        """The state's contribution to all gates: h R' + bias."""
        return functional.linear(h, self.recurrent, self.bias)


def rnn_step(cell: Cell, gates: Tensor, state: State) -> State:
    """Elman cell: h = f(gates)."""
    return (cell.activate(0, gates + cell.recur(state[0])),)


def gru_step(cell: Cell, gates: Tensor, state: State) -> State:
    """GRU whose reset gate multiplies the state before the product: ``linear_before_reset=0``."""
    (h,) = state
    size = h.shape[1]
    z, r = (gates[:, : 2 * size] + functional.linear(h, *_rows(cell, 0, 2 * size))).chunk(2, 1)
    z, r = cell.activate(0, z), cell.activate(0, r)
    new = cell.activate(1, gates[:, 2 * size :] + functional.linear(r * h, *_rows(cell, 2 * size, 3 * size)))
    return ((1 - z) * new + z * h,)


def gru_reset_after_step(cell: Cell, gates: Tensor, state: State) -> State:
    """GRU whose reset gate multiplies the product, h R' + bias: ``linear_before_reset=1``."""
    (h,) = state
    z, r, new = gates.chunk(3, 1)
    hz, hr, hn = cell.recur(h).chunk(3, 1)
    z, r = cell.activate(0, z + hz), cell.activate(0, r + hr)
    return ((1 - z) * cell.activate(1, new + r * hn) + z * h,)


def _rows(cell: Cell, start: int, end: int) -> tuple[Tensor, Tensor | None]:
    return cell.recurrent[start:end], None if cell.bias is None else cell.bias[start:end]


def lstm_step(cell: Cell, peephole: Tensor | None, coupled: bool, gates: Tensor, state: State) -> State:
    """LSTM, gates in ONNX's order i, o, f, c; ``coupled`` sets f = 1 - i."""
    h, c = state
    i, o, f, g = (gates + cell.recur(h)).chunk(4, 1)
    p_i, p_o, p_f = (None, None, None) if peephole is None else peephole.chunk(3)
    i = cell.activate(0, i if p_i is None else i + p_i * c)
    f = 1 - i if coupled else cell.activate(0, f if p_f is None else f + p_f * c)
    c = f * c + i * cell.activate(1, g)
    o = cell.activate(0, o if p_o is None else o + p_o * c)
    return o * cell.functions[2](c), c


def run(
    step: Step, gates: Tensor, state: State, lengths: Tensor | None, backward: bool
) -> tuple[Tensor, State]:
    """Run a cell over time: outputs (time, batch, hidden), zero past a sequence, and the last state."""
    outputs = [gates.new_zeros(state[0].shape)] * gates.shape[0]
    times = range(gates.shape[0])
    for time in reversed(times) if backward else times:
        new = step(gates[time], state)
        if lengths is None:
            outputs[time], state = new[0], new
            continue
        alive = (time < lengths)[:, None]
        outputs[time] = torch.where(alive, new[0], 0.0)
        state = tuple(torch.where(alive, a, b) for a, b in zip(new, state, strict=True))
    return (torch.stack(outputs) if outputs else gates.new_zeros(0, *state[0].shape)), state
