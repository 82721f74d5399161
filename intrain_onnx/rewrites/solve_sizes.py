"""Solves for sizes of free dimensions that satisfy the operators' shape constraints; runs nothing.

Starts from the default sizes. For the first conflict, the derivative of its gap (given - wanted size) by each
free dimension is a finite difference of shape inference; one Newton step on a dimension closes the gap. Then
the next conflict is solved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.network.input_shapes import Signature, resolve_shapes
from intrain_onnx.network.signature.shape_conflicts import Conflict, Size, first_conflict
from intrain_onnx.network.values import name_of, static_shape
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.vocabulary import SizeSource

_MOST_CONFLICTS = 12
_MOST_TRIALS = 48
_LARGEST = 2**20


@dataclass(frozen=True, slots=True)
class Solved:
    """Sizes by free dimension (see ``Signature.free``) that replace the defaults.

    Attributes:
        sizes: by dimension; empty if the defaults fit.
        why: for each of them, its source, and the constraint that the default violates.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    why: Mapping[str, tuple[SizeSource, str]] = field(default_factory=dict)

    def then(self, sizes: Mapping[str, int], source: SizeSource, reason: str) -> Solved:
        """With other sizes; those that differ have a new reason."""
        new = {name: (source, reason) for name, size in sizes.items() if self.sizes.get(name) != size}
        return Solved(dict(sizes), {**self.why, **new})


def solve_sizes(model: ir.Model, config: ScoreConfig) -> Solved:
    """Sizes that satisfy the operators' shape constraints.

    Requires: a normalised model. Its shapes are changed by the trials, if it has free sizes.
    """
    return _Search(model, config).run()


class _Search:
    def __init__(self, model: ir.Model, config: ScoreConfig) -> None:
        self.model = model
        self.config = config

    def run(self) -> Solved:
        solved = Solved()
        if not self._resolve({}).free:
            return solved
        signature = self._infer({})
        conflict = first_conflict(self.model.graph)
        for _ in range(_MOST_CONFLICTS):
            if conflict is None:
                break
            reason = _reason(conflict)
            found = self._settle(dict(solved.sizes), signature, conflict)
            if found is None:
                break
            sizes, signature, conflict = found
            solved = solved.then(sizes, "operator", reason)
        return solved

    def _settle(
        self, sizes: dict[str, int], signature: Signature, conflict: Conflict
    ) -> tuple[dict[str, int], Signature, Conflict | None] | None:
        """The first candidate that resolves the conflict and adds no earlier one, with the next conflict."""
        candidates = list(islice(self._candidates(sizes, signature, conflict), _MOST_TRIALS))
        for candidate in candidates:
            tried = self._infer(candidate)
            after = first_conflict(self.model.graph)
            if after is None or after.place > conflict.place:
                return candidate, tried, after
        self._infer(sizes)
        return None

    def _candidates(
        self, sizes: dict[str, int], signature: Signature, conflict: Conflict
    ) -> Iterator[dict[str, int]]:
        """Newton steps on each free dimension alone, then on all together in proportion to their sizes."""
        slopes = self._slopes(sizes, signature, conflict)
        off = conflict.wanted.size - conflict.given.size
        for name, slope in reversed(slopes.items()):
            size = signature.free[name] + off // slope if off % slope == 0 else -1
            if 0 < size <= _LARGEST:
                yield sizes | {name: size}
        if len(slopes) > 1 and all(slope > 0 for slope in slopes.values()) and conflict.given.size:
            yield sizes | _split(signature.free, slopes, conflict)

    def _slopes(self, sizes: dict[str, int], signature: Signature, conflict: Conflict) -> dict[str, int]:
        """Growth of (given - wanted) size when each free dimension grows by one; zeros are omitted."""
        found = {}
        for name, size in signature.free.items():
            self._infer(sizes | {name: size + 1})
            grown = (
                _now(conflict.given) - conflict.given.size - (_now(conflict.wanted) - conflict.wanted.size)
            )
            if grown:
                found[name] = grown
        self._infer(sizes)
        return found

    def _resolve(self, sizes: Mapping[str, int]) -> Signature:
        return resolve_shapes(self.model, self.config, batch=1, sizes=sizes)

    def _infer(self, sizes: Mapping[str, int]) -> Signature:
        signature = self._resolve(sizes)
        infer_shapes(self.model, signature)
        return signature


def _reason(conflict: Conflict) -> str:
    """The constraint, with the size that violates it."""
    least = "at least " if conflict.at_least else ""
    wanted, given = conflict.wanted.size, conflict.given.size
    return f"{conflict.node.op_type} node {name_of(conflict.node)!r} takes {least}{wanted}, not {given}"


def _now(size: Size) -> int:
    """The size in the current shapes of the graph."""
    shape = static_shape(size.value) if size.value is not None else None
    return shape[size.axis] if shape is not None and size.axis < len(shape) else size.size


def _split(free: Mapping[str, int], slopes: Mapping[str, int], conflict: Conflict) -> dict[str, int]:
    """Split the wanted size among the dimensions in proportion to their current sizes."""
    names = list(slopes)
    rest = conflict.wanted.size - (conflict.given.size - sum(free[n] * slopes[n] for n in names))
    total = sum(free[n] * slopes[n] for n in names)
    shares = {n: max(free[n] * rest // max(total, 1), 1) for n in names[:-1]}
    last = names[-1]
    left = rest - sum(shares[n] * slopes[n] for n in names[:-1])
    return shares | {last: max(left // slopes[last], 1)}
