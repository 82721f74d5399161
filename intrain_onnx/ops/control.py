"""Control flow. A subgraph is a closure: a callable of its formal inputs with captured values bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from intrain_onnx.loading import allowance
from intrain_onnx.ops.limits import check_parts
from intrain_onnx.ops.registry import op

Graph = Callable[..., tuple[Any, ...]]


@op("If", 1, 11, 13, 16, 19, 21, 23, 24, 25)
def if_(cond: Tensor, *, n_outputs: int, then_branch: Graph, else_branch: Graph) -> tuple[Any, ...]:
    """Run one of two graphs."""
    return then_branch() if bool(cond) else else_branch()


@op("Loop", 1, 11, 13, 16, 19, 21, 23, 24, 25)
def loop(
    trip_count: Tensor | None = None,
    cond: Tensor | None = None,
    *initial: Any,
    n_outputs: int,
    body: Graph,
) -> tuple[Any, ...]:
    """Run a graph until its condition is false or the trip count is reached; stack its scan outputs.

    Raises:
        LimitError: more rounds than ``loop_rounds``, with those of all other loops of the run.
    """
    own = allowance.current()
    limit = None if trip_count is None else int(trip_count)
    going = cond is None or bool(cond)
    device = _device(trip_count, cond, *initial)
    state: tuple[Any, ...] = initial
    scans: list[list[Tensor]] = [[] for _ in range(n_outputs - len(initial))]
    count = kept = 0
    while going and (limit is None or count < limit):
        own.count_rounds()
        outputs = body(torch.tensor(count, device=device), torch.tensor(True, device=device), *state)
        going, state = bool(outputs[0]), outputs[1 : 1 + len(initial)]
        for scan, value in zip(scans, outputs[1 + len(initial) :], strict=True):
            scan.append(value)
            kept += _bytes(value)
            own.kept += _bytes(value)
        count += 1
    own.kept -= kept
    if count == 0 and scans:
        return *state, *_never_run(body, device, initial)
    return *state, *(torch.stack(scan) for scan in scans)


def _bytes(value: Any) -> int:
    return value.nbytes if isinstance(value, Tensor) else 0


def _device(*values: Any) -> torch.device:
    return next((v.device for v in values if isinstance(v, Tensor)), torch.device("cpu"))


def _never_run(body: Graph, device: torch.device, initial: tuple[Any, ...]) -> list[Tensor]:
    """Empty scan outputs, of the type and shape of a trial iteration."""
    with torch.no_grad():
        outputs = body(torch.tensor(0, device=device), torch.tensor(True, device=device), *initial)
    return [value.new_zeros(0, *value.shape) for value in outputs[1 + len(initial) :]]


@op("Scan", 9, 11, 16, 19, 21, 23, 24, 25)
def scan(
    *values: Tensor,
    n_outputs: int,
    body: Graph,
    num_scan_inputs: int,
    scan_input_axes: Sequence[int] | None = None,
    scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> tuple[Tensor, ...]:
    """Run a graph over slices of the scan inputs, carrying a state; stack its scan outputs."""
    states = len(values) - num_scan_inputs
    axes = scan_input_axes or [0] * num_scan_inputs
    backward = scan_input_directions or [0] * num_scan_inputs
    slices = [_unbind(x, axis, back) for x, axis, back in zip(values[states:], axes, backward, strict=True)]
    state, outputs = _scan(body, values[:states], slices, n_outputs - states)
    out_axes = scan_output_axes or [0] * len(outputs)
    prepend = scan_output_directions or [0] * len(outputs)
    stacked = [
        _stack(rounds[::-1] if back else rounds, axis)
        for rounds, axis, back in zip(outputs, out_axes, prepend, strict=True)
    ]
    return *state, *stacked


def _unbind(x: Tensor, axis: int, backward: int) -> list[Tensor]:
    check_parts(x.shape[axis])
    slices = list(x.unbind(axis))
    return slices[::-1] if backward else slices


def _stack(rounds: list[Tensor], axis: int) -> Tensor:
    return torch.stack(rounds, axis) if rounds else torch.zeros(0)


def _scan(
    body: Graph, state: tuple[Tensor, ...], slices: list[list[Tensor]], n_scans: int
) -> tuple[tuple[Tensor, ...], list[list[Tensor]]]:
    outputs: list[list[Tensor]] = [[] for _ in range(n_scans)]
    own = allowance.current()
    own.count_rounds(len(slices[0]))
    kept = 0
    for elements in zip(*slices, strict=True):
        results = body(*state, *elements)
        state = results[: len(state)]
        for rounds, value in zip(outputs, results[len(state) :], strict=True):
            rounds.append(value)
            own.kept += _bytes(value)
            kept += _bytes(value)
    own.kept -= kept
    return state, outputs


@op("Scan", 8)
def scan_8(
    sequence_lens: Tensor | None,
    *values: Tensor,
    n_outputs: int,
    body: Graph,
    num_scan_inputs: int,
    directions: Sequence[int] | None = None,
) -> tuple[Tensor, ...]:
    """Scan-8: over axis 1 of a batch, each sample up to its length, padded with zeros."""
    states = len(values) - num_scan_inputs
    backward = directions or [0] * num_scan_inputs
    samples = []
    for i in range(values[0].shape[0]):
        length = values[-1].shape[1] if sequence_lens is None else int(sequence_lens[i])
        slices = [_unbind(x[i, :length], 0, back) for x, back in zip(values[states:], backward, strict=True)]
        state, outputs = _scan(body, tuple(x[i] for x in values[:states]), slices, n_outputs - states)
        full = [_fill(_stack(rounds, 0), values[-1].shape[1]) for rounds in outputs]
        samples.append((*state, *full))
    return tuple(torch.stack(parts) for parts in zip(*samples, strict=True))


def _fill(x: Tensor, length: int) -> Tensor:
    return torch.cat([x, x.new_zeros(length - x.shape[0], *x.shape[1:])])


@op("SequenceMap", 17)
def sequence_map(sequence: list[Any], *others: Any, n_outputs: int, body: Graph) -> tuple[list[Any], ...]:
    """Map a graph over a sequence, zipped with other sequences; tensors are passed to each call."""
    allowance.current().count_rounds(len(sequence))
    results = [
        body(element, *(x[i] if isinstance(x, list) else x for x in others))
        for i, element in enumerate(sequence)
    ]
    return tuple([result[k] for result in results] for k in range(n_outputs))
