"""Runs two networks on the same inputs, and compares matched activations and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from intrain_onnx.diff.feeding import Feeding, as_array, as_tensors
from intrain_onnx.diff.follow import affine_after, between, last_of_channels
from intrain_onnx.diff.rows import NOT_RUN, Compared, OutputRow
from intrain_onnx.diff.statistics import Sums
from intrain_onnx.diff.weights import Pair, Read
from intrain_onnx.network.marks import STANDS_FOR, StandsFor
from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.rewrites.half_precision import rounding
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import NodeError, run

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A value that is observed.

    Attributes:
        value: in the graph of the file; its scale and zero point if it is quantised.
        channel_axes: that hold the channels of its layer.
    """

    value: StandsFor
    channel_axes: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the value."""
        return self.value.name

    def matrix(self, tensor: Tensor) -> Array:
        """The value, dequantised, with its channels on the last axis."""
        array = as_array(tensor)
        if self.value.scale is not None:
            zero = self.value.zero if self.value.zero is not None else np.zeros(1)
            array = (array.astype(np.float32) - zero.astype(np.float32)) * self.value.scale.astype(np.float32)
        axes = [a % array.ndim for a in self.channel_axes] if array.ndim else []
        others = [a for a in range(array.ndim) if a not in axes]
        moved = array.transpose([*others, *axes])
        return moved.reshape([*(array.shape[a] for a in others), -1])


@dataclass
class Activations:
    """Differences of activations by pair of layers, and of outputs.

    Attributes:
        of_layers: by the number of the pair.
        unseen: why there are none, by the number of the pair.
        outputs: of the graph.
        notes: what was done otherwise than asked.
    """

    of_layers: dict[int, Compared] = field(default_factory=dict)
    unseen: dict[int, str] = field(default_factory=dict)
    outputs: tuple[OutputRow, ...] = ()
    notes: tuple[str, ...] = ()


class Network:
    """One of both networks in torch, as its file computes: nothing is dequantised.

    float16 and bfloat16 are computed as such where torch can, so that what overflows is seen.
    """

    def __init__(self, read: Read, device: torch.device) -> None:
        self.read, self.device = read, device
        self.exact = read.network.exact
        self.half = rounding(self.exact) > 0
        self.module = self._converted()
        self.note: str | None = None
        graphs = [m.graph for m in self.module.modules() if isinstance(m, fx.GraphModule)]
        self.names = {n for g in graphs for node in g.nodes for n in node.meta.get("onnx_outputs", ())}
        made = (v for node in every_node(self.exact.graph) for v in node.outputs)
        self.floats = {
            v.name for v in made if v.name in self.names and (v.dtype is None or v.dtype.is_floating_point())
        }

    def _converted(self) -> fx.GraphModule:
        return convert.convert(self.exact, half_as_float=not self.half).to(self.device)

    def ends(self, layer: Layer) -> tuple[ir.Value | None, ir.Value | None, tuple[str, ...]]:
        """A layer's output behind what is folded in, behind its activation too, and what that is made of."""
        output = self.read.values.get(layer.output)
        folded, last = affine_after(layer, output).end, last_of_channels(output)
        return folded, last, between(folded, last)

    def seen(self, layer: Layer, end: ir.Value | None) -> Seen | None:
        """A value with the channels of a layer, as this graph has it; None if it does not."""
        if end is None or not end.name:
            return None
        found = StandsFor(end.name) if end.name in self.floats else end.meta.get(STANDS_FOR)
        if not isinstance(found, StandsFor) or found.name not in self.names:
            return None
        return Seen(found, layer.channel_axes)

    def run(
        self, arrays: Sequence[Array], observers: Mapping[str, Callable[[list[Tensor]], None]]
    ) -> list[Tensor]:
        """The outputs on one call.

        Raises:
            NodeError: a node failed.
            LimitError: over a limit.
        """
        try:
            return self._run(arrays, observers)
        except NodeError as error:
            if not self.half:
                raise
            self.half = False
            self.note = f"computed in float32, not in half precision: torch has no such {error.op}"
            self.module = self._converted()
            return self._run(arrays, observers)

    def _run(
        self, arrays: Sequence[Array], observers: Mapping[str, Callable[[list[Tensor]], None]]
    ) -> list[Tensor]:
        fed = [t.to(self.device) for t in as_tensors(arrays, half_as_float=not self.half)]
        with torch.no_grad():
            return [parts[0] for parts in run(self.module, fed, observers)]


def measured(a: Network, b: Network, pairs: Sequence[Pair], feeding: Feeding, seed: int) -> Activations:
    """Run both on all calls.

    Raises:
        IntrainError: one of its kinds, from a node of either.
    """
    found = Activations()
    watched: dict[int, tuple[Seen, Seen]] = {}
    alone: dict[int, tuple[bool, str | None]] = {}
    reached: set[tuple[bool, str]] = set()
    for number, pair in enumerate(pairs):
        if pair.first is None or pair.second is None:
            alone[number] = _alone(a, b, pair)
            continue
        (before, ours_last, how), (begin, theirs_last, other) = a.ends(pair.first), b.ends(pair.second)
        alike = how == other  # else one file writes the activation in a way that is not followed
        ours = a.seen(pair.first, ours_last if alike else before)
        theirs = b.seen(pair.second, theirs_last if alike else begin)
        if ours is None or theirs is None:
            which = "reference" if ours is None else "file"
            found.unseen[number] = f"its output is no value of the graph of the {which}"
        else:
            watched[number] = ours, theirs
    sums = {number: Sums() for number in watched}
    outputs = _Outputs(a.exact, b.exact)
    for ours_fed, theirs_fed in feeding.drawn(seed):
        held: dict[str, list[Array]] = {}
        firsts = _marks(alone, reached, first=True)
        firsts |= {seen.name: partial(_keep, held, seen) for seen, _ in watched.values()}
        left = a.run(ours_fed, firsts)
        comparers: dict[str, list[Callable[[list[Tensor]], None]]] = {}
        for number, (ours, theirs) in watched.items():
            one = partial(
                _compare,
                held.get(ours.name, []),
                theirs,
                sums[number],
                partial(found.unseen.setdefault, number),
            )
            comparers.setdefault(theirs.name, []).append(one)
        seconds = _marks(alone, reached, first=False)
        seconds |= {name: partial(_each, calls) for name, calls in comparers.items()}
        right = b.run(theirs_fed, seconds)
        outputs.add(left, right)
    found.of_layers = {n: s.row() for n, s in sums.items() if n not in found.unseen and s.count + s.lost}
    for number in watched:
        if number not in found.of_layers:
            found.unseen.setdefault(number, NOT_RUN)
    for number, (first, name) in alone.items():
        if name is not None and (first, name) not in reached:
            found.unseen[number] = NOT_RUN
    found.outputs = outputs.rows()
    found.notes = tuple(f"the {which} is {n.note}" for which, n in (("reference", a), ("file", b)) if n.note)
    return found


def _alone(a: Network, b: Network, pair: Pair) -> tuple[bool, str | None]:
    """Whether a layer without a counterpart is the first network's, and a value that shows if it runs."""
    network, layer = (a, pair.first) if pair.first is not None else (b, pair.second)
    assert layer is not None
    seen = network.seen(layer, network.read.values.get(layer.node_output))
    return pair.first is not None, seen.name if seen is not None else None


def _marks(
    alone: Mapping[int, tuple[bool, str | None]], reached: set[tuple[bool, str]], *, first: bool
) -> dict[str, Callable[[list[Tensor]], None]]:
    """Observers that note which layers without a counterpart run."""

    def mark(name: str, parts: list[Tensor]) -> None:
        reached.add((first, name))

    return {name: partial(mark, name) for of_first, name in alone.values() if name and of_first == first}


def _keep(held: dict[str, list[Array]], seen: Seen, parts: list[Tensor]) -> None:
    held.setdefault(seen.name, []).append(seen.matrix(parts[0]))


def _each(calls: Sequence[Callable[[list[Tensor]], None]], parts: list[Tensor]) -> None:
    for call in calls:
        call(parts)


def _compare(
    kept: list[Array], seen: Seen, sums: Sums, unseen: Callable[[str], object], parts: list[Tensor]
) -> None:
    if not kept:
        unseen("the reference does not run it")
        return
    theirs = seen.matrix(parts[0])
    ours = kept[0] if len(kept) == 1 else kept.pop(0)
    if ours.size != theirs.size or ours.shape[-1] != theirs.shape[-1]:
        unseen(f"its shape is {_shown(ours)} in the reference and {_shown(theirs)} here")
    else:
        sums.add(*_aligned(ours, theirs))


def _shown(array: Array) -> str:
    return "x".join(map(str, array.shape))


def _aligned(a: Array, b: Array) -> tuple[Array, Array]:
    """Both with their rows in one order: axes of rows are exchanged where their sizes are."""
    if a.ndim == b.ndim and a.shape != b.shape and sorted(a.shape) == sorted(b.shape):
        free, order = list(range(b.ndim)), []
        for size in a.shape:
            place = next(i for i in free if b.shape[i] == size)
            free.remove(place)
            order.append(place)
        b = b.transpose(order)
    return a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])


class _Outputs:
    """Pairs of graph outputs, by name or by position."""

    def __init__(self, a: ir.Model, b: ir.Model) -> None:
        names = [[v.name or "" for v in model.graph.outputs] for model in (a, b)]
        if set(names[0]) & set(names[1]):
            self.pairs = [(names[0].index(n), names[1].index(n)) for n in names[0] if n in names[1]]
        else:
            self.pairs = [(i, i) for i in range(min(map(len, names)))]
        self.names = names
        self.sums = [Sums() for _ in self.pairs]
        self.agree, self.rows_seen, self.classes = ([0] * len(self.pairs) for _ in range(3))
        self.unseen: dict[int, str] = {}

    def add(self, left: Sequence[Any], right: Sequence[Any]) -> None:
        for number, (i, j) in enumerate(self.pairs):
            if not isinstance(left[i], Tensor) or not isinstance(right[j], Tensor):
                self.unseen[number] = "it is not a tensor"
                continue
            a, b = as_array(left[i]), as_array(right[j])
            if a.shape != b.shape:
                self.unseen[number] = f"its shape is {_shown(a)} in the reference and {_shown(b)} here"
                continue
            self.sums[number].add(a, b)
            self._add_classes(number, a, b)

    def _add_classes(self, number: int, a: Array, b: Array) -> None:
        """Compare the top class: of rank 2 and 3 along the last axis, of maps along the second."""
        axis = 1 if a.ndim > 3 else a.ndim - 1
        if a.dtype.kind != "f" or a.ndim < 2 or a.shape[axis] < 2:
            return
        same = a.argmax(axis) == b.argmax(axis)
        self.classes[number] = a.shape[axis]
        self.agree[number] += int(same.sum())
        self.rows_seen[number] += same.size

    def rows(self) -> tuple[OutputRow, ...]:
        made = []
        for number, (i, j) in enumerate(self.pairs):
            count = self.rows_seen[number]
            why = self.unseen.get(number)
            made.append(
                OutputRow(
                    first=self.names[0][i],
                    second=self.names[1][j],
                    difference=self.sums[number].row() if why is None else None,
                    classes=self.classes[number] or None,
                    agreement=self.agree[number] / count if count and why is None else None,
                    unseen=why,
                )
            )
        return tuple(made)
