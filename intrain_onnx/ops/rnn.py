"""Recurrent layers: torch's fused kernels if the attributes allow, otherwise a loop over time.

Parameters keep ONNX's layout: W (directions, gates * hidden, input), R (directions, gates * hidden, hidden)
and B (directions, 2 * gates * hidden). Gates are reordered in the forward pass, so gradients reach them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from intrain_onnx.ops import rnn_cells
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.rnn_cells import Activation, Cell, State, Step

Floats = Sequence[float]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A recurrent node with time-first inputs and defaults for all optional inputs.

    Attributes:
        order: torch's order of the gates in terms of ONNX's.
        state: initial states, each (directions, batch, hidden).
    """

    x: Tensor
    w: Tensor
    r: Tensor
    b: Tensor | None
    lengths: Tensor | None
    state: State
    direction: str
    order: tuple[int, ...]


def _layer(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    lengths: Tensor | None,
    states: Sequence[Tensor | None],
    direction: str,
    layout: int,
    order: tuple[int, ...],
) -> _Layer:
    if layout:
        x = x.transpose(0, 1)
        states = [None if s is None else s.transpose(0, 1) for s in states]
    shape = (w.shape[0], x.shape[1], r.shape[2])
    _check(x, w, r, b, states, shape, len(order))
    state = tuple(x.new_zeros(shape) if s is None else s.contiguous() for s in states)
    if lengths is not None and bool((lengths == x.shape[0]).all()):
        lengths = None
    return _Layer(x, w, r, b, lengths, state, direction, order)


def _check(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None,
    states: Sequence[Tensor | None],
    state_shape: tuple[int, ...],
    gates: int,
) -> None:
    """Check the shapes: torch's kernels do not, and would write out of bounds.

    Raises:
        ValueError: names the input that does not fit.
    """
    directions, _, hidden = state_shape
    rows = gates * hidden
    wanted = {
        "W": (w, (directions, rows, x.shape[2])),
        "R": (r, (directions, rows, hidden)),
        "B": (b, (directions, 2 * rows)),
    }
    wanted |= {f"initial state {i}": (state, state_shape) for i, state in enumerate(states)}
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)} instead of {shape}")


def _outputs(y: Tensor, state: State, layout: int) -> tuple[Tensor, ...]:
    """Transpose (time, directions, batch, hidden) and the last states to ``layout``."""
    if layout:
        return y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in state)
    return y, *state


@op("RNN", 7, 14, 22)
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    n_outputs: int,
    activation_alpha: Floats | None = None,
    activation_beta: Floats | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Elman network: h <- f(x W' + h R' + b)."""
    layer = _layer(x, w, r, b, sequence_lens, [initial_h], direction, layout, order=(0,))
    names = [name.lower() for name in activations or ["tanh"] * w.shape[0]]
    if not clip and set(names) in ({"tanh"}, {"relu"}) and _can_fuse(layer):
        return _outputs(*_fused(layer, "rnn_" + names[0]), layout)
    functions = rnn_cells.activations(names, activation_alpha, activation_beta)
    return _outputs(*_looped(layer, functions, clip, _plain_step(rnn_cells.rnn_step)), layout)


@op("GRU", 7, 14, 22)
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    n_outputs: int,
    activation_alpha: Floats | None = None,
    activation_beta: Floats | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """Gated recurrent unit, gates in the order z, r, h."""
    layer = _layer(x, w, r, b, sequence_lens, [initial_h], direction, layout, order=(1, 0, 2))
    default = ["sigmoid", "tanh"] * w.shape[0]
    names = [name.lower() for name in activations or default]
    if linear_before_reset and not clip and names == default and _can_fuse(layer):
        return _outputs(*_fused(layer, "gru"), layout)
    functions = rnn_cells.activations(names, activation_alpha, activation_beta)
    step = rnn_cells.gru_reset_after_step if linear_before_reset else rnn_cells.gru_step
    return _outputs(*_looped(layer, functions, clip, _plain_step(step)), layout)


@op("LSTM", 7, 14, 22)
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    n_outputs: int,
    activation_alpha: Floats | None = None,
    activation_beta: Floats | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int = 0,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Long short-term memory, gates in the order i, o, f, c."""
    layer = _layer(x, w, r, b, sequence_lens, [initial_h, initial_c], direction, layout, order=(0, 2, 3, 1))
    default = ["sigmoid", "tanh", "tanh"] * w.shape[0]
    names = [name.lower() for name in activations or default]
    plain = p is None and not clip and not input_forget
    if plain and names == default and _can_fuse(layer):
        return _outputs(*_fused(layer, "lstm"), layout)
    functions = rnn_cells.activations(names, activation_alpha, activation_beta)
    step = partial(_lstm_step, p, bool(input_forget))
    return _outputs(*_looped(layer, functions, clip, step), layout)


def _plain_step(step: Callable[[Cell, Tensor, State], State]) -> Callable[[int, Cell], Step]:
    def bind(direction: int, cell: Cell) -> Step:
        return partial(step, cell)

    return bind


def _lstm_step(p: Tensor | None, coupled: bool, direction: int, cell: Cell) -> Step:
    return partial(rnn_cells.lstm_step, cell, None if p is None else p[direction], coupled)


def _looped(
    layer: _Layer, functions: list[Activation], clip: float | None, make_step: Callable[[int, Cell], Step]
) -> tuple[Tensor, State]:
    """Run each direction by a Python loop over time."""
    outputs, states = [], []
    each = len(functions) // layer.w.shape[0]
    for d in range(layer.w.shape[0]):
        w_bias, r_bias = (None, None) if layer.b is None else layer.b[d].chunk(2)
        gates = functional.linear(layer.x, layer.w[d], w_bias)
        cell = Cell(layer.r[d], r_bias, functions[d * each : (d + 1) * each], clip or None)
        state = tuple(s[d] for s in layer.state)
        backward = layer.direction == "reverse" or d == 1
        y, state = rnn_cells.run(make_step(d, cell), gates, state, layer.lengths, backward)
        outputs.append(y)
        states.append(state)
    return torch.stack(outputs, 1), tuple(torch.stack(s) for s in zip(*states, strict=True))


def _can_fuse(layer: _Layer) -> bool:
    """Whether torch's kernel can run the layer: it accepts no empty sequence, batch or time axis."""
    return layer.x.numel() > 0 and (layer.lengths is None or bool((layer.lengths > 0).all()))


def _fused(layer: _Layer, kernel: str) -> tuple[Tensor, State]:
    """Run all directions by torch's fused kernel."""
    reverse = layer.direction == "reverse"
    x = _reverse(layer.x, layer.lengths) if reverse else layer.x
    state: Any = layer.state if len(layer.state) > 1 else layer.state[0]
    packed = None
    if layer.lengths is not None:
        packed = pack_padded_sequence(x, layer.lengths.cpu(), enforce_sorted=False)
        state = _permute(state, packed.sorted_indices)
    y, *last = _call_kernel(kernel, x if packed is None else packed, state, layer)
    if packed is not None:
        y = PackedSequence(y, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        y, _ = pad_packed_sequence(y, total_length=x.shape[0])
        last = list(_permute(tuple(last), packed.unsorted_indices))
    y = _reverse(y, layer.lengths) if reverse else y
    y = y.reshape(*y.shape[:2], layer.w.shape[0], -1).transpose(1, 2)
    return y, tuple(last)


def _call_kernel(kernel: str, x: Tensor | PackedSequence, state: Any, layer: _Layer) -> Any:
    parameters = _torch_parameters(layer)
    # In inference mode the kernels save nothing for the backward pass.
    options = (layer.b is not None, 1, 0.0, torch.is_grad_enabled(), layer.w.shape[0] == 2)
    function = getattr(torch, kernel)
    if isinstance(x, PackedSequence):
        return function(x.data, x.batch_sizes, state, parameters, *options)
    return function(x, state, parameters, *options, False)


def _torch_parameters(layer: _Layer) -> list[Tensor]:
    parameters = []
    for d in range(layer.w.shape[0]):
        parts = [layer.w[d], layer.r[d]]
        if layer.b is not None:
            parts += layer.b[d].chunk(2)
        parameters += [_reorder(part, layer.order) for part in parts]
    return parameters


def _reorder(parameter: Tensor, order: tuple[int, ...]) -> Tensor:
    if len(order) == 1:
        return parameter
    blocks = parameter.chunk(len(order))
    return torch.cat([blocks[i] for i in order])


def _permute(state: Any, index: Tensor | None) -> Any:
    if index is None:
        return state
    if isinstance(state, Tensor):
        return state.index_select(1, index)
    return tuple(s.index_select(1, index) for s in state)


def _reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse each sequence of (time, batch, features) within its length."""
    if lengths is None:
        return x.flip(0)
    time = torch.arange(x.shape[0], device=x.device)[:, None]
    index = torch.where(time < lengths, lengths - 1 - time, time).long()
    return x.gather(0, index[:, :, None].expand(x.shape))
