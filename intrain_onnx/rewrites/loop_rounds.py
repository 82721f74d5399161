"""Partial evaluation of a Loop or Scan: its trip count, and the weights that change with the iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.loading import allowance
from intrain_onnx.network.known_values import Constants, Known
from intrain_onnx.network.subgraphs import bodies, entering, every_node
from intrain_onnx.network.values import name_of
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, kind, trainable_inputs

_COUNTERS = frozenset({ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL, ir.DataType.STRING})
"""Element types that no weight has, float or quantised."""

Round = dict[ir.Value, Known]
"""Values of a body that are known constants in one iteration."""


class StaysRolledError(Exception):
    """A loop cannot be unrolled.

    Args:
        reason: text for the report.
        spent: nodes evaluated before this was found, charged to the budget.
    """

    def __init__(self, reason: str, spent: int = 0) -> None:
        super().__init__(reason)
        self.spent = spent


@dataclass(frozen=True, slots=True)
class State:
    """A loop-carried value: initial, as the body's input, as the body's output, and final."""

    begin: ir.Value
    formal: ir.Value
    made: ir.Value
    end: ir.Value | None


@dataclass(frozen=True, slots=True)
class Scanned:
    """A scan input or output, ``whole``, with one slice along ``axis``, ``part``, for each iteration."""

    whole: ir.Value
    part: ir.Value
    axis: int
    backward: bool


@dataclass(frozen=True, slots=True)
class Form:
    """Common representation of Loop and Scan, in all versions.

    Attributes:
        node: the Loop or Scan.
        body: its subgraph.
        states: its loop-carried values.
        inputs: the scan inputs of a Scan.
        outputs: the scan outputs that are used.
        batched: Scan-8, whose values have a leading batch axis.
    """

    node: ir.Node
    body: ir.Graph
    states: tuple[State, ...]
    inputs: tuple[Scanned, ...]
    outputs: tuple[Scanned, ...]
    batched: bool = False

    @property
    def size(self) -> int:
        """Number of nodes of the body, subgraphs included."""
        return sum(1 for _ in every_node(self.body))


def form(node: ir.Node, opset: int) -> Form | None:
    """The form of a Loop or Scan; None for another operator, and for a node that does not fit its body."""
    if not is_op(node, "Loop", "Scan") or "body" not in node.attributes:
        return None
    try:
        body = node.attributes["body"].as_graph()
        found = _loop(node, body) if is_op(node, "Loop") else _scan(node, body, batched=opset < 9)
    except TypeError:  # an attribute of a wrong type
        return None
    ends = {*(s.end for s in found.states), *(s.whole for s in found.outputs)} if found is not None else set()
    stray = [v for v in node.outputs if v not in ends and (v.uses() or v.is_graph_output())]
    return None if stray else found


def _loop(node: ir.Node, body: ir.Graph) -> Form | None:
    begins, formals, made = node.inputs[2:], body.inputs[2:], body.outputs[1:]
    if len(begins) != len(formals) or len(made) < len(begins) or len(body.inputs) < 2 or None in begins:
        return None
    if len(node.inputs) < 2 or not body.outputs:
        return None
    states = _states(begins, formals, made, node.outputs)
    outputs = _put_together(node, made, len(begins), [0] * len(made), [0] * len(made))
    return Form(node, body, states, (), outputs)


def _scan(node: ir.Node, body: ir.Graph, *, batched: bool) -> Form | None:
    scanned = node.attributes["num_scan_inputs"].as_int() if "num_scan_inputs" in node.attributes else 0
    carried = len(body.inputs) - scanned
    given = node.inputs[1:] if batched else node.inputs
    if (
        not 0 <= carried <= len(body.outputs)
        or scanned < 1
        or len(given) != len(body.inputs)
        or None in given
    ):
        return None
    axes, backward = _list(node, "scan_input_axes"), _list(node, "scan_input_directions")
    out_axes, out_backward = _list(node, "scan_output_axes"), _list(node, "scan_output_directions")
    if batched:
        axes, backward = [1] * scanned, _list(node, "directions")
    inputs = zip(
        given[carried:],
        body.inputs[carried:],
        axes or [0] * scanned,
        backward or [0] * scanned,
        strict=False,
    )
    made = len(body.outputs) - carried
    return Form(
        node,
        body,
        _states(given[:carried], body.inputs, body.outputs, node.outputs),
        tuple(Scanned(w, p, a, bool(b)) for w, p, a, b in inputs if w is not None),
        _put_together(node, body.outputs, carried, out_axes or [0] * made, out_backward or [0] * made),
        batched,
    )


def _list(node: ir.Node, name: str) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else []


def _states(
    begins: Sequence[ir.Value | None],
    formals: Sequence[ir.Value],
    made: Sequence[ir.Value],
    ends: Sequence[ir.Value],
) -> tuple[State, ...]:
    return tuple(
        State(begin, formal, value, ends[i] if i < len(ends) else None)
        for i, (begin, formal, value) in enumerate(zip(begins, formals, made, strict=False))
        if begin is not None
    )


def _put_together(
    node: ir.Node, made: Sequence[ir.Value], carried: int, axes: Sequence[int], backward: Sequence[int]
) -> tuple[Scanned, ...]:
    rows = zip(node.outputs[carried:], made[carried:], axes, backward, strict=False)
    return tuple(Scanned(w, p, a, bool(b)) for w, p, a, b in rows if w.uses() or w.is_graph_output())


@dataclass
class Flow:
    """Data-flow analysis: values that depend on the data of the inputs, loop-carried values one by one."""

    data: set[ir.Value] = field(default_factory=set)
    _into: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    _out: dict[ir.Value, list[ir.Value]] = field(default_factory=dict)
    _outer: dict[ir.Value, ir.Value] = field(default_factory=dict)

    @classmethod
    def of(cls, model: ir.Model) -> Flow:
        """Propagate forward from the inputs of a normalised model. Cost: linear in nodes and edges."""
        flow = cls()
        opset = model.opset_imports.get("", 1)
        for node in every_node(model.graph):
            for _, body in bodies(node):
                flow._join(node, body, opset)
        flow.data = flow._spread(model.graph.inputs, lambda value: False)
        return flow

    def _join(self, node: ir.Node, body: ir.Graph, opset: int) -> None:
        for formal, outer in entering(node, body):
            if outer is not None:
                self._into.setdefault(outer, []).append(formal)
                self._outer[formal] = outer
        known = form(node, opset)
        for state in known.states if known is not None else ():
            self._out.setdefault(state.made, []).append(state.formal)
        made = list(body.outputs)
        if is_op(node, "Loop") and made:
            self._out.setdefault(made.pop(0), []).extend(node.outputs)
        for value, output in zip(made, node.outputs, strict=False):
            self._out.setdefault(value, []).append(output)

    def _next(self, value: ir.Value) -> Iterator[ir.Value]:
        yield from self._into.get(value, ())
        yield from self._out.get(value, ())
        for use in value.uses():
            node = use.node
            controls = is_op(node, "If") or (is_op(node, "Loop") and use.idx < 2)
            if not bodies(node) or controls:
                yield from () if has(node, Property.SHAPE_ONLY) else node.outputs

    def _spread(self, seeds: Iterable[ir.Value], stops: Callable[[ir.Value], bool]) -> set[ir.Value]:
        stack = list(seeds)
        found = set(stack)
        while stack:
            for value in self._next(stack.pop()):
                if value not in found and not stops(value):
                    found.add(value)
                    stack.append(value)
        return found

    def varying_weights(self, loop: Form) -> set[ir.Value]:
        """Initializers of which each iteration of a loop has another slice as the weight of a product."""
        seeds = [s.part for s in loop.inputs if s.whole not in self.data]
        seeds += [s.formal for s in loop.states if s.formal not in self.data and not passes(s)]
        seeds += [v for v in loop.body.inputs[:1] if loop.node.op_type == "Loop"]
        around = {*loop.node.outputs, *(s.formal for s in loop.states)}
        varying = self._spread(seeds, lambda value: value in self.data or value in around)
        found: set[ir.Value] = set()
        for node in every_node(loop.body):
            weights = [v for v in _weights(node) if v in varying]
            if weights and any(v in self.data for v in node.inputs):
                found |= self._roots(weights)
        return found

    def _roots(self, values: Iterable[ir.Value]) -> set[ir.Value]:
        stack, seen, roots = list(values), set[ir.Value](), set[ir.Value]()
        while stack:
            value = stack.pop()
            if value in seen:
                continue
            seen.add(value)
            tensor = value.const_value
            if tensor is not None:
                if tensor.dtype not in _COUNTERS and tensor.size > 1:
                    roots.add(value)
                continue
            node = value.producer()
            before = (self._outer.get(value),) if node is None else node.inputs
            stack.extend(v for v in before if v is not None)
        return roots


def _weights(node: ir.Node) -> list[ir.Value]:
    """The operands of a product that are its weights if they do not depend on data."""
    roles = ("weight", "table") if kind(node) is Kind.LOOKUP else ("weight",)
    found = (node.inputs[index] for index, role in trainable_inputs(node) if role in roles)
    return [v for v in found if v is not None]


def passes(state: State) -> bool:
    """Whether a state is loop-invariant: the body returns it unchanged, as in exports of JAX."""
    value: ir.Value | None = state.made
    while value is not None and value is not state.formal:
        node = value.producer()
        if node is None or not node.inputs or not (is_op(node, "Identity") or _casts_to(node, state.formal)):
            return False
        value = node.inputs[0]
    return value is state.formal


def _casts_to(node: ir.Node, value: ir.Value) -> bool:
    """Whether a node casts to the type of a value."""
    to = node.attributes.get("to")
    return is_op(node, "Cast") and to is not None and to.value == value.dtype


def rounds(loop: Form, constants: Constants, budget: int) -> list[Round]:
    """Partial evaluation of a loop: the known values of its body, for each iteration.

    A node whose operands did not change is not evaluated again.

    Args:
        loop: the loop.
        constants: known values outside of the loop.
        budget: most nodes of all iterations together.

    Raises:
        StaysRolledError: the trip count is not known, is zero, or is too large.
    """
    found: list[Round] = []
    own = {*loop.body.inputs, *(v for node in loop.body for v in node.outputs)}
    size = loop.size
    known: Round = {}
    for state in loop.states:
        _note(known, state.formal, None if loop.batched else constants.of(state.begin))
    done: dict[ir.Node, tuple[list[Known | None], list[Known]]] = {}
    for formals in _each(loop, constants, budget):
        _require(len(found) + 1, size, budget, spent=len(found) * size)
        allowance.current().check_time()
        known |= formals
        for node in loop.body:
            operands = [
                None if v is None else known.get(v) if v in own else constants.of(v) for v in node.inputs
            ]
            if node not in done or any(a is not b for a, b in zip(operands, done[node][0], strict=True)):
                done[node] = operands, constants.evaluate(node, operands) or []
            known.update(zip(node.outputs, done[node][1], strict=False))
        for made in loop.body.outputs:
            if made not in own:
                _note(known, made, constants.of(made))
        found.append(known)
        if loop.node.op_type == "Loop" and not _goes_on(known.get(loop.body.outputs[0])):
            break
        after = known
        known = {}
        for state in loop.states:
            _note(known, state.formal, after.get(state.made))
    if not found:
        raise StaysRolledError("it has no rounds")
    return found


def _note(known: Round, value: ir.Value, found: Known | None) -> None:
    if found is not None:
        known[value] = found


def _require(number: int, size: int, budget: int, spent: int = 0) -> None:
    if number * size > budget:
        limit = allowance.current().limits.expanded_nodes
        raise StaysRolledError(
            f"{number:,} or more rounds of {size:,} nodes are over expanded_nodes={limit:,}", spent
        )


def _goes_on(condition: Known | None) -> bool:
    if condition is None or condition.array.size != 1:
        raise StaysRolledError("its number of rounds depends on data")
    return bool(condition.array.reshape(-1)[0])


def _each(loop: Form, constants: Constants, budget: int) -> Iterator[Round]:
    """The body's inputs that are not loop-carried, for each iteration: counter and condition, or slices."""
    if loop.node.op_type == "Scan":
        yield from _slices(loop, constants, budget)
        return
    trip, begin = loop.node.inputs[:2]
    limit = None
    if trip is not None:
        known = constants.of(trip)
        if known is None or known.array.size != 1:
            raise StaysRolledError("its number of rounds depends on data")
        limit = int(known.array.reshape(-1)[0])
    if begin is not None and not _goes_on(constants.of(begin)):
        return
    counter, condition = loop.body.inputs[:2]
    for number in count() if limit is None else range(limit):
        yield {
            counter: Known(np.array(number, np.int64), name_of(loop.node)),
            condition: Known(np.array(True), name_of(loop.node)),
        }


def _slices(loop: Form, constants: Constants, budget: int) -> Iterator[Round]:
    known = [constants.of(scanned.whole) for scanned in loop.inputs]
    length = _length(loop, known)
    _require(length, loop.size, budget)
    for number in range(length):
        formals: Round = {}
        for k, scanned in zip(known, loop.inputs, strict=True):
            if k is not None:
                at = length - 1 - number if scanned.backward else number
                part = k.array[(slice(None),) * (scanned.axis % k.array.ndim) + (at, ...)]
                formals[scanned.part] = Known(part[0] if loop.batched else part, f"{k.label}[{at}]", k.roots)
        yield formals


def _length(loop: Form, known: Sequence[Known | None]) -> int:
    """Trip count of a Scan: length of its scan inputs, if constant, or as their shapes declare."""
    lengths = set()
    for k, scanned in zip(known, loop.inputs, strict=True):
        declared = scanned.whole.shape.dims if scanned.whole.shape is not None else ()
        shape: Sequence[Any] = k.array.shape if k is not None else declared
        inside = -len(shape) <= scanned.axis < len(shape)
        if k is not None and not inside:
            raise StaysRolledError("it takes slices along an axis that is not there")
        lengths.add(shape[scanned.axis] if inside else None)
        if loop.batched and (loop.node.inputs[0] is not None or (inside and shape[0] != 1)):
            raise StaysRolledError("it runs over a batch, with a length for each sample")
    whole = [n for n in lengths if isinstance(n, int)]
    if len(whole) != 1:
        raise StaysRolledError("its number of rounds depends on data")
    return whole[0]
