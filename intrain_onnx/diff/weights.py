"""Pairs the layers and parameters of two networks by structural key, and compares their values. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.diff import statistics
from intrain_onnx.diff.follow import affine_after
from intrain_onnx.diff.rows import Status, WeightRow
from intrain_onnx.diff.statistics import Sums
from intrain_onnx.network.layers import LayerMap, Slot
from intrain_onnx.network.recognise import Layer, Weight
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import canonical, floats_of
from intrain_onnx.report.comparison import Comparison, compare, network_of
from intrain_onnx.rewrites.network import Network

Array = np.ndarray[Any, Any]

_MANY = 256
"""Distinct values from which a tensor is not counted as quantised."""

_LARGE = 2**22
"""Elements from which the order of values is not looked at: sorting takes longer than reading."""


@dataclass(frozen=True)
class Held:
    """A parameter: its name, its value with what is folded in, and the value in the file."""

    name: str | None
    value: Array
    own: Array


@dataclass
class Read:
    """The parameters of a network, read once.

    Attributes:
        network: normalised, with structural keys.
        values: of its graph, by name.
        folded: initializers that were folded into a layer.
    """

    network: Network
    values: Mapping[str, ir.Value]
    folded: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, network: Network) -> Read:
        """All values that a node of the scored graph makes."""
        nodes = every_node(network.model.graph)
        return cls(network, {v.name: v for node in nodes for v in node.outputs if v.name})

    @property
    def layers(self) -> LayerMap:
        """Its layers."""
        return self.network.layers

    def tensor(self, name: str) -> Array | None:
        """An initializer, as float64 or a float type of numpy."""
        value = self.network.model.graph.initializers.get(name)
        if value is None or value.const_value is None:
            return None
        return floats_of(value.const_value)

    def parameters(self, layer: Layer) -> dict[str, Held]:
        """The parameters of a layer by role; what normalises its output is folded in."""
        after = affine_after(layer, self.values.get(layer.output))
        found: dict[str, Held] = {}
        for number, weight in enumerate(layer.weights):
            array = self.weight(weight)
            if array is None:
                continue
            self.folded.add(weight.name)
            folded = array
            if layer.kind != "embedding" and len(array) == layer.channels and (after.scale != 1).any():
                scale = after.scale.reshape(-1, *[1] * (array.ndim - 1))
                folded = (array * scale).astype(np.float32)
            found["weight" if not number else f"weight {number + 1}"] = Held(weight.name, folded, array)
        bias = self._bias(layer)
        if layer.kind in ("convolution", "linear") and bias is not None and len(bias) == layer.channels:
            folded = (bias * after.scale + after.shift).astype(np.float32)
            found["bias"] = Held(layer.bias, folded, bias)
        elif bias is not None:
            found["bias"] = Held(layer.bias, bias, bias)
        self.folded |= after.parameters
        return found

    def weight(self, weight: Weight) -> Array | None:
        """The weight of a layer in canonical layout, as the file has it."""
        array = self.tensor(weight.name)
        return canonical(array, weight.steps) if array is not None else None

    def _bias(self, layer: Layer) -> Array | None:
        if layer.bias is None:
            return np.zeros(layer.channels)
        self.folded.add(layer.bias)
        array = self.tensor(layer.bias)
        return array.reshape(-1) if array is not None else None

    def others(self) -> Iterator[tuple[str, Slot]]:
        """Parameters that are in no layer, by their structural keys."""
        for name, slot in self.layers.slots.items():
            if name not in self.folded:
                yield name, slot


@dataclass(frozen=True)
class Pair:
    """A layer of each file; one is None where it has no counterpart."""

    first: Layer | None
    second: Layer | None
    status: Status


def pairs(a: Read, b: Read) -> tuple[list[Pair], Comparison]:
    """The layers of both, matched by structural key, or aligned by kind, shape and depth."""
    found = compare(*(network_of(read.layers, read.network.coverage) for read in (a, b)))
    by_name = [{x.name: x for x in read.layers.layers} for read in (a, b)]
    made = []
    for one, other in found.rows:
        first = by_name[0][one.name] if one is not None else None
        second = by_name[1][other.name] if other is not None else None
        made.append(
            Pair(
                first,
                second,
                _status(
                    first,
                    second,
                    one is not None and other is not None and one.describes() == other.describes(),
                ),
            )
        )
    return _loose_again(_twins_apart(made, (a, b)), (a, b)), found


_ALIKE = 0.5
"""Correlation of weights below which another twin is looked for."""

_MOST_TWINS = 64
"""Layers of one colour or shape above which all pairs of them are too many to look at."""


def _twins_apart(made: list[Pair], reads: tuple[Read, Read]) -> list[Pair]:
    """Pairs with the layers of one colour, which structure does not tell apart, matched by their weights."""
    groups: dict[str, list[int]] = {}
    for number, pair in enumerate(made):
        if pair.first is not None and pair.second is not None and pair.first.colour == pair.second.colour:
            groups.setdefault(pair.first.colour, []).append(number)
    for numbers in groups.values():
        if 1 < len(numbers) <= _MOST_TWINS:
            found = [made[i] for i in numbers]
            seconds = _matched(reads, [p.first for p in found], [p.second for p in found])
            for number, second in zip(numbers, seconds, strict=True):
                made[number] = replace(made[number], second=second)
    return made


def _loose_again(made: list[Pair], reads: tuple[Read, Read]) -> list[Pair]:
    """Pairs in which layers of one shape that no key matches go by their weights, lonely ones among them."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, pair in enumerate(made):
        known = pair.first or pair.second
        keyed = pair.first is not None and pair.second is not None and pair.first.key == pair.second.key
        if known is not None and not keyed and pair.status != "changed":
            groups.setdefault((known.kind, known.weights[0].shape), []).append(number)
    dropped: set[int] = set()
    for numbers in groups.values():
        firsts = [i for i in numbers if made[i].first is not None]
        seconds = [layer for i in numbers if (layer := made[i].second) is not None]
        if len(firsts) == len(seconds) == len(numbers) == 1 or not firsts or not seconds:
            continue
        if len(numbers) > _MOST_TWINS:
            continue
        found = _matched(reads, [made[i].first for i in firsts], seconds)
        for i, second in zip(firsts, found, strict=True):
            made[i] = Pair(made[i].first, second, "same" if second is not None else "gone")
        left = [x for x in seconds if x not in found]
        lonely = [i for i in numbers if i not in firsts]
        for i, layer in zip(lonely, left, strict=False):
            made[i] = Pair(None, layer, "added")
        dropped.update(lonely[len(left) :])
        made += [Pair(None, layer, "added") for layer in left[len(lonely) :]]
    return [pair for i, pair in enumerate(made) if i not in dropped]


def _matched(
    reads: tuple[Read, Read], firsts: Sequence[Layer | None], seconds: Sequence[Layer | None]
) -> list[Layer | None]:
    """The second layers in the order of the first that makes the sum of their correlations largest."""
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - few networks have twins

    vectors = [
        [_direction(read, layer) for layer in layers]
        for read, layers in zip(reads, (firsts, seconds), strict=True)
    ]
    alike = np.array([[_likeness(x, y) for y in vectors[1]] for x in vectors[0]])
    if len(firsts) == len(seconds) and (np.diag(alike) >= _ALIKE).all():
        return list(seconds)
    found = dict(zip(*linear_sum_assignment(-alike), strict=True))
    return [seconds[found[i]] if i in found else None for i in range(len(firsts))]


def _likeness(x: Array, y: Array) -> float:
    return abs(float(x @ y)) if x.size == y.size else 0.0


def _direction(read: Read, layer: Layer | None) -> Array:
    """The weight of a layer, without its mean, of length one."""
    array = read.weight(layer.weights[0]) if layer is not None else None
    if array is None:
        return np.zeros(0)
    vector = np.nan_to_num(array.reshape(-1)[:_LARGE].astype(np.float64), posinf=0, neginf=0)
    vector -= vector.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-30)


def _status(first: Layer | None, second: Layer | None, alike: bool) -> Status:
    if first is None:
        return "added"
    if second is None:
        return "gone"
    return "same" if alike else "changed"


def of_pair(a: Read, b: Read, pair: Pair) -> tuple[WeightRow, ...]:
    """Differences of the parameters of a pair of layers."""
    ours = a.parameters(pair.first) if pair.first is not None else {}
    theirs = b.parameters(pair.second) if pair.second is not None else {}
    roles = dict.fromkeys((*ours, *theirs))
    return tuple(_row(role, ours.get(role), theirs.get(role)) for role in roles)


def of_others(a: Read, b: Read) -> tuple[WeightRow, ...]:
    """Differences of the parameters that are in no layer; call it after all pairs."""
    ours, theirs = ({slot.key: (name, slot) for name, slot in read.others()} for read in (a, b))
    rows = []
    for key in dict.fromkeys((*ours, *theirs)):
        found = [_viewed(read, held.get(key)) for read, held in ((a, ours), (b, theirs))]
        role = (ours.get(key) or theirs[key])[1].role
        rows.append(_row(role, *found))
    return tuple(rows)


def distances(a: Read, b: Read, found: Sequence[Pair]) -> tuple[list[Sums], Sums]:
    """Sums over all parameters of each pair, and over those that are in no layer.

    Parameters that one file lacks, or of other shapes, are left out.
    """
    layers = []
    for pair in found:
        ours = a.parameters(pair.first) if pair.first is not None else {}
        theirs = b.parameters(pair.second) if pair.second is not None else {}
        layers.append(_summed([(held, theirs.get(role)) for role, held in ours.items()]))
    slots = [{slot.key: (name, slot) for name, slot in read.others()} for read in (a, b)]
    others = [(_viewed(a, held), _viewed(b, slots[1].get(key))) for key, held in slots[0].items()]
    return layers, _summed(others)


def _summed(found: Sequence[tuple[Held | None, Held | None]]) -> Sums:
    sums = Sums()
    for ours, theirs in found:
        if ours is not None and theirs is not None and ours.value.size == theirs.value.size:
            sums.add(ours.value, theirs.value.reshape(ours.value.shape))
    return sums


def _viewed(read: Read, held: tuple[str, Slot] | None) -> Held | None:
    if held is None:
        return None
    array = read.tensor(held[0])
    if array is None:
        return None
    array = canonical(array, held[1].steps)
    return Held(held[0], array, array)


def _row(role: str, ours: Held | None, theirs: Held | None) -> WeightRow:
    names = [held.name if held is not None else None for held in (ours, theirs)]
    if ours is None or theirs is None or ours.value.size != theirs.value.size:
        return WeightRow(role, names[0], names[1], None, None, reordered=False, levels=None, zeros=None)
    a, b = ours.value, theirs.value.reshape(ours.value.shape)
    difference = statistics.of(a, b)
    own = ours.own, theirs.own
    return WeightRow(
        role,
        names[0],
        names[1],
        tuple(a.shape),
        difference,
        reordered=not difference.equal and a.size <= _LARGE and _reordered(*own),
        levels=None if difference.equal else levels_of(*own),
        zeros=None if difference.equal else (_zeros(own[0]), _zeros(own[1])),
    )


def _zeros(array: Array) -> float:
    return 1 - int(np.count_nonzero(array)) / array.size if array.size else 0.0


def _reordered(a: Array, b: Array) -> bool:
    """Whether both have the same values, up to round-off of float32, in another order."""
    one, other = np.sort(a, axis=None), np.sort(b, axis=None)
    scale = float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
    return a.size > 1 and not _close(a, b, scale) and _close(one, other, scale)


def _close(a: Array, b: Array, scale: float) -> bool:
    return bool(np.allclose(a.reshape(-1), b.reshape(-1), rtol=0, atol=1e-6 * scale, equal_nan=True))


def levels_of(a: Array, b: Array) -> tuple[int, int] | None:
    """Distinct values of each tensor; None if both have many."""
    counts = [len(np.unique(x.reshape(-1)[:_LARGE])) for x in (a, b)]
    return (counts[0], counts[1]) if min(counts) < min(_MANY, a.size) else None
