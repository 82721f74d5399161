"""Memory of a run as it goes on: the tensors that are alive, and those that are made out of constants.

What autograd keeps is not seen here: it is estimated before (``measure.budget``), and held by the limit of
the process (``memory.cap_process``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, fx

from intrain_onnx import memory
from intrain_onnx.errors import LimitError
from intrain_onnx.loading.allowance import Allowance
from intrain_onnx.loading.limits import option
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.runtime.of_graph import once

_LARGE: Final = 2**24
"""Bytes of one tensor from which on the tensors that are alive are counted after every node."""

_EVERY: Final = 128
"""Nodes after which these are counted as long as all are small, unless there are more: the cost is linear."""

_PIECE: Final = 32
"""Nodes that are run before any of that is asked for."""

_OBJECT: Final = 512
"""Bytes of a tensor in a sequence, besides its elements."""

_PER_STORED: Final = 4
"""Elements that may be made out of constants for each element of these: unpacked and low-rank weights."""


def look(allowance: Allowance, node: fx.Node) -> None:
    """Add up the memory of all values that are alive, and look at the clock.

    Raises:
        LimitError: it is more than there is; names the node. Or the time is over.
    """
    seen: dict[int, int] = {}
    objects = 0
    for frame in allowance.frames:
        objects += _count(frame.values(), seen)
    allowance.countdown = max(_EVERY, len(seen), objects)
    live = sum(seen.values()) + objects * _OBJECT + allowance.kept
    allowance.watchful = live > _LARGE and (allowance.kept > _LARGE or max(seen.values()) > _LARGE)
    room = allowance.room(live)
    if live > room:
        most = allowance.limits.memory
        raise LimitError(
            f"the values that are alive take {live / 2**30:.2f} GiB, over "
            f"the {room / 2**30:.2f} GiB that are "
            + (f"half of the limit memory={most:,}" if most else "half of what is free"),
            node=node.meta.get("onnx_name"),
            op=node.meta.get("onnx_op"),
            limit="memory",
            hint=option("memory", 2 * live) if most else memory.LESS,
        )
    allowance.check_time()


def _count(values: Iterable[Any], seen: dict[int, int]) -> int:
    """Note the memory of each tensor on the CPU once; returns how many are parts of lists and tuples."""
    parts = 0
    for value in values:
        if isinstance(value, Tensor):
            if value.device.type == "cpu":
                storage = value.untyped_storage()
                seen[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, (list, tuple)):
            parts += len(value) + _count(value, seen)
    return parts


@dataclass(frozen=True, slots=True)
class Plan:
    """The nodes of a graph in order, as they are run.

    Attributes:
        pieces: the nodes, some at a time: nothing is looked at inside of a piece.
        constant: those that depend on no input, but for parameters, buffers and the like.
        mixed: numbers of the pieces that have one of these.
        stored: elements of the parameters and buffers.
        last_uses: what is read for the last time, by the node that reads it.
    """

    pieces: tuple[tuple[fx.Node, ...], ...]
    constant: frozenset[fx.Node]
    mixed: frozenset[int]
    stored: int
    last_uses: Mapping[fx.Node, Sequence[fx.Node]]


@once
def plan(module: fx.GraphModule) -> Plan:
    """The plan of a module."""
    depends: dict[fx.Node, bool] = {}
    for node in module.graph.nodes:
        depends[node] = node.op in ("placeholder", "output") or any(map(depends.get, node.all_input_nodes))
    constant = frozenset(n for n, on_input in depends.items() if not on_input and n.op == "call_function")
    nodes = tuple(module.graph.nodes)
    pieces = tuple(nodes[i : i + _PIECE] for i in range(0, len(nodes), _PIECE))
    mixed = frozenset(i for i, piece in enumerate(pieces) if not constant.isdisjoint(piece))
    stored = sum(t.numel() for t in (*module.parameters(), *module.buffers())) if constant else 0
    return Plan(pieces, constant, mixed, stored, _last_uses(nodes))


def _last_uses(nodes: Sequence[fx.Node]) -> Mapping[fx.Node, Sequence[fx.Node]]:
    found: dict[fx.Node, list[fx.Node]] = {}
    seen: set[fx.Node] = set()
    for node in reversed(nodes):
        last = [source for source in node.all_input_nodes if source not in seen]
        if last:
            found[node] = last
            seen.update(last)
    return found


def within_folded(allowance: Allowance, stored: int) -> AbstractContextManager[None]:
    """The block in which a node that depends on constants alone is run: what it makes is bounded before."""
    left = max(_most(allowance, stored) - allowance.folded, 0)
    most = allowance.elements()
    return element_limit(left, "folded_elements") if left < most else element_limit(most)


def count_folded(
    allowance: Allowance, node: fx.Node, result: Any, stored: int, env: Mapping[fx.Node, Any]
) -> None:
    """Count what a node made out of constants beyond what it read; rounds of a loop are not added up.

    Raises:
        LimitError: over ``folded_elements``; names the node.
    """
    grown = _elements(result) - sum(_elements(env.get(n)) for n in node.all_input_nodes)
    if grown <= 0:
        return
    total = allowance.folded + grown
    if total > _most(allowance, stored):
        raise LimitError(
            f"the graph makes {total:,} elements out of constants, over the limit "
            f"folded_elements={allowance.limits.folded_elements:,}",
            node=node.meta.get("onnx_name"),
            op=node.meta.get("onnx_op"),
            limit="folded_elements",
            hint=option("folded_elements", total),
        )
    if len(allowance.frames) == 1:
        allowance.folded = total


def _most(allowance: Allowance, stored: int) -> int:
    return allowance.limits.folded_elements + _PER_STORED * stored


def _elements(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    return sum(map(_elements, value)) if isinstance(value, (list, tuple)) else 0
