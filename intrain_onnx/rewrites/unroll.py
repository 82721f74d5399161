"""Loop unrolling of each Scan or Loop over layers: one whose weights are slices of a stack, by iteration.

Such loops, as ``jax.lax.scan`` over layers exports them, have a layer in each iteration. A loop over time, or
any whose iterations share their weights, is not unrolled: it counts as one layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from intrain_onnx.loading import allowance
from intrain_onnx.network.known_values import Array, Constants, Known
from intrain_onnx.network.marks import LEFT_ROLLED, MADE_FROM, Rolled
from intrain_onnx.network.subgraphs import bodies, every_graph, every_node
from intrain_onnx.network.values import add_initializer, name_of, of_file
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.loop_rounds import (
    Flow,
    Form,
    Round,
    Scanned,
    StaysRolledError,
    form,
    passes,
    rounds,
)


def unroll(model: ir.Model) -> int:
    """Unroll each Scan and Loop whose products have different weights in each iteration, in place.

    A weight is a slice of a constant: a scan input, or what a Loop's body gathers or slices by its counter.
    Each becomes an initializer that shares the memory of the stack, such as ``stack[0]``; values are named
    likewise, ``h[0]``. For loops that cannot be unrolled, see :func:`left_rolled`.

    Requires: no model-local functions, every initializer in the main graph, unique value names, nodes in
    topological order. Ensures the same.

    Returns:
        The number of loops unrolled.
    """
    number = 0
    while any(is_op(node, "Loop", "Scan") for node in every_node(model.graph)):
        found = _Unroller(model).run()  # one level of nested loops at a time
        if not found:
            break
        number += found
    return number


def capture_unchanging(model: ir.Model) -> int:
    """Replace loop-invariant states of a Scan or Loop by captures of their initial values, in place.

    JAX's exporter carries the weights of a loop as states.

    Returns:
        The number of states replaced.
    """
    number = 0
    opset = model.opset_imports.get("", 1)
    for node in every_node(model.graph):
        loop = form(node, opset)
        for state in loop.states if loop is not None and not loop.batched else ():
            if passes(state) and state.begin is not state.formal:
                for use in list(state.formal.uses()):
                    use.node.replace_input_with(use.idx, state.begin)
                number += 1
    return number


class _Unroller:
    """Unrolls the outermost loops over layers."""

    def __init__(self, model: ir.Model) -> None:
        nodes = list(every_node(model.graph))
        self.model = model
        self.opset = model.opset_imports.get("", 1)
        self.budget = allowance.current().limits.expanded_nodes - len(nodes)
        self.constants = Constants(model)
        self.flow = Flow.of(model)
        self.taken = {v.name for graph in every_graph(model.graph) for v in graph.inputs} | {
            *model.graph.initializers
        }
        self.taken |= {v.name for node in nodes for v in node.outputs}
        self.numbered: Counter[str] = Counter()
        self.held: dict[object, tuple[ir.Value, Known]] = {}

    def run(self) -> int:
        return self.visit(self.model.graph)

    def visit(self, graph: ir.Graph) -> int:
        number = 0
        for node in list(graph):
            loop = form(node, self.opset)
            weights = self.flow.varying_weights(loop) if loop is not None else set()
            if loop is not None and weights:
                try:
                    known = rounds(loop, self.constants, self.budget)
                except StaysRolledError as stays:
                    behind = sorted({row for w in weights for row in of_file(w)})
                    node.meta[LEFT_ROLLED] = Rolled(name_of(node), node.op_type, str(stays), tuple(behind))
                    self.budget -= stays.spent
                else:
                    self.budget -= len(known) * loop.size
                    _Rounds(self, loop).write(known)
                    number += 1
                    continue
            number += sum(self.visit(body) for _, body in bodies(node))
        return number

    def name(self, wanted: str) -> str:
        """A name that no other value has."""
        name = wanted
        while name in self.taken:
            self.numbered[wanted] += 1
            name = f"{wanted}_{self.numbered[wanted]}"
        self.taken.add(name)
        return name

    def hold(self, known: Known) -> ir.Value:
        """The graph's value for a known constant; a new initializer if it has none yet."""
        if known.value is not None:
            return known.value
        key = _identity(known.array)
        if key not in self.held or not self.held[key][0].is_initializer():
            value = add_initializer(self.model, self.name(known.label), known.array)
            for root in known.roots[:1]:
                value.meta.update(root.meta)
            value.meta[MADE_FROM] = tuple(dict.fromkeys(row for r in known.roots for row in of_file(r)))
            self.held[key] = value, known  # the array lives on, so that no other gets its address
        return self.held[key][0]

    def numbers(self, numbers: int | list[int], name: str) -> ir.Value:
        """An int64 constant."""
        return self.hold(Known(np.array(numbers, np.int64), name))


def _identity(array: Array) -> object:
    """A key that is equal for views of the same memory, and for equal integer arrays of up to 64 elements."""
    if array.dtype.kind in "iub" and array.size <= 64:
        return array.dtype.str, array.shape, array.tobytes()
    return array.__array_interface__["data"][0], array.dtype.str, array.shape, array.strides


@dataclass(frozen=True, slots=True)
class _Scope:
    """Substitution of the values of a body in one iteration.

    Attributes:
        hold: returns the initializer of a known value.
        facts: the known values.
        own: copies of the others.
        suffix: of the copies' names.
    """

    hold: Callable[[Known], ir.Value]
    facts: Round
    own: dict[ir.Value, ir.Value]
    suffix: str

    def __getitem__(self, value: ir.Value) -> ir.Value:
        return self.hold(self.facts[value]) if value in self.facts else self.own.get(value, value)


class _Rounds:
    """Unrolls one loop."""

    def __init__(self, unroller: _Unroller, loop: Form) -> None:
        self.unroller = unroller
        self.loop = loop
        self.nodes: list[ir.Node] = []
        self.named: set[ir.Value] = set()

    def write(self, known: Sequence[Round]) -> None:
        """Replace the loop by copies of its body, one for each iteration."""
        node = self.loop.node
        assert node.graph is not None
        finals = [(old, self._as_output(old, new)) for old, new in self._copy(known)]
        read = _reads(node)
        node.graph.insert_before(node, self.nodes)
        for old, new in finals:
            if old in self.unroller.flow.data:
                self.unroller.flow.data.add(new)
            if old.is_graph_output():
                new.name, new.shape = old.name, old.shape
                new.meta.update(old.meta)
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        _remove(node)
        _remove_unread(self.unroller.model, read)

    def _copy(self, known: Sequence[Round]) -> list[tuple[ir.Value, ir.Value]]:
        """Copy the body for each iteration; returns the loop's used outputs with their replacements."""
        loop, wanted = self.loop, _wanted(self.loop)
        carried = {s.formal: self._begin(s.begin) for s in loop.states if s.formal not in known[0]}
        parts: list[list[ir.Value]] = [[] for _ in loop.outputs]
        for number, facts in enumerate(known):
            scope = _Scope(self.unroller.hold, facts, carried, f"[{number}]")
            for scanned in loop.inputs:
                if scanned.part not in facts:
                    at = len(known) - 1 - number if scanned.backward else number
                    scope.own[scanned.part] = self._taken(scanned, at, scope.suffix)
            for inner in loop.body:
                if inner in wanted and any(v not in facts for v in inner.outputs):
                    self.nodes.append(self._copied(inner, scope))
            for scanned, made in zip(loop.outputs, parts, strict=True):
                made.append(scope[scanned.part])
            following = known[min(number + 1, len(known) - 1)]
            carried = {s.formal: scope[s.made] for s in loop.states if s.formal not in following}
        used = [s for s in loop.states if s.end is not None and (s.end.uses() or s.end.is_graph_output())]
        finals = [(s.end, self._end(scope[s.made])) for s in used if s.end is not None]
        return finals + [
            (s.whole, self._put_together(s, made)) for s, made in zip(loop.outputs, parts, strict=True)
        ]

    def _copied(self, node: ir.Node, scope: _Scope) -> ir.Node:
        inputs = [None if v is None else scope[v] for v in node.inputs]
        attributes = [
            ir.AttrGraph(a.name, self._copied_graph(a.as_graph(), scope))
            if a.type == ir.AttributeType.GRAPH
            else a
            for a in node.attributes.values()
        ]
        outputs = [self._copied_value(v, scope) for v in node.outputs]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            attributes,
            overload=node.overload,
            outputs=outputs,
            name=f"{node.name}{scope.suffix}" if node.name else "",
            metadata_props=dict(node.metadata_props),
        )
        copy.meta.update(node.meta)
        return copy

    def _copied_value(self, value: ir.Value, scope: _Scope) -> ir.Value:
        name = self.unroller.name(f"{value.name}{scope.suffix}") if value.name else ""
        copy = scope.own[value] = ir.Value(name=name, type=value.type)
        copy.meta.update(value.meta)
        if value in self.unroller.flow.data:
            self.unroller.flow.data.add(copy)
        return copy

    def _copied_graph(self, graph: ir.Graph, scope: _Scope) -> ir.Graph:
        inputs = [self._copied_value(v, scope) for v in graph.inputs]
        nodes = [self._copied(node, scope) for node in graph]
        own = {*inputs, *(v for node in nodes for v in node.outputs)}
        outputs = []
        for value in graph.outputs:
            output = scope[value]
            if output not in own:  # an output must be produced in its graph
                nodes.append(
                    ir.Node("", "Identity", [output], outputs=[self._new(f"{output.name}.out", output)])
                )
                output = nodes[-1].outputs[0]
            outputs.append(output)
        return ir.Graph(
            inputs, outputs, nodes=nodes, opset_imports=dict(graph.opset_imports), name=graph.name
        )

    def _new(self, name: str, like: ir.Value) -> ir.Value:
        return ir.Value(name=self.unroller.name(name), type=like.type)

    def _do(
        self,
        op: str,
        inputs: Sequence[ir.Value],
        name: str,
        axes: Sequence[int] = (),
        axis: int | None = None,
    ) -> ir.Value:
        """Append a Squeeze, Unsqueeze, Gather, Concat or Identity; returns its output."""
        given, attributes = list(inputs), []
        if axes and self.unroller.opset < 13:
            attributes.append(ir.AttrInt64s("axes", list(axes)))
        elif axes:
            given.append(self.unroller.numbers(list(axes), "axes"))
        if axis is not None:
            attributes.append(ir.AttrInt64("axis", axis))
        output = self._new(name, inputs[0])
        self.nodes.append(ir.Node("", op, given, attributes, outputs=[output], name=output.name))
        return output

    def _begin(self, value: ir.Value) -> ir.Value:
        return self._do("Squeeze", [value], f"{value.name}.sample", [0]) if self.loop.batched else value

    def _end(self, value: ir.Value) -> ir.Value:
        return self._do("Unsqueeze", [value], f"{value.name}.batch", [0]) if self.loop.batched else value

    def _taken(self, scanned: Scanned, at: int, suffix: str) -> ir.Value:
        """A slice of a scan input that is not constant, by Gather."""
        number = self.unroller.numbers(at, "round")
        taken = self._do("Gather", [scanned.whole, number], f"{scanned.part.name}{suffix}", axis=scanned.axis)
        return self._begin(taken)

    def _put_together(self, scanned: Scanned, parts: Sequence[ir.Value]) -> ir.Value:
        axes, axis = ([0, 1], 1) if self.loop.batched else ([scanned.axis], scanned.axis)
        rows = [self._do("Unsqueeze", [part], f"{part.name}.row", axes) for part in parts]
        return self._do(
            "Concat", rows[::-1] if scanned.backward else rows, f"{scanned.part.name}.rows", axis=axis
        )

    def _as_output(self, old: ir.Value, new: ir.Value) -> ir.Value:
        """``new``, or an Identity of it if it cannot take the name of ``old``, a graph output."""
        if not old.is_graph_output():
            return new
        if new.producer() not in set(self.nodes) or new in self.named:
            new = self._do("Identity", [new], f"{old.name}.copy")
        self.named.add(new)
        return new


def _wanted(loop: Form) -> set[ir.Node]:
    """Nodes of the body that the used outputs of the loop depend on, over all iterations."""
    made = {state.formal: state.made for state in loop.states}
    stack = [s.made for s in loop.states if s.end is not None and (s.end.uses() or s.end.is_graph_output())]
    stack += [s.part for s in loop.outputs]
    seen: set[ir.Value] = set()
    found: set[ir.Node] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in made:
            stack.append(made[value])
        node = value.producer()
        if node is not None:
            found.add(node)
            stack += _reads(node)
    return found


def _reads(node: ir.Node) -> list[ir.Value]:
    """The values that a node reads, those that its subgraphs read or return included."""
    inner = [n for _, body in bodies(node) for n in every_node(body)]
    outputs = [v for _, body in bodies(node) for v in body.outputs]
    return [v for n in (node, *inner) for v in n.inputs if v is not None] + outputs


def _remove(node: ir.Node) -> None:
    """Remove a node, and the uses of outer values in its subgraphs."""
    inner = [n for _, body in bodies(node) for n in every_node(body)]
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    for each in inner:
        for index in range(len(each.inputs)):
            each.replace_input_with(index, None)


def _remove_unread(model: ir.Model, values: Sequence[ir.Value]) -> None:
    """Dead-code elimination: remove initializers, and nodes that computed constants, that are unused now."""
    stack = list(values)
    while stack:
        value = stack.pop()
        node = value.producer()
        if value.uses() or value.is_graph_output():
            continue
        if value.is_initializer():
            del model.graph.initializers[value.name or ""]
        elif (
            node is not None
            and node.graph is not None
            and not any(v.uses() or v.is_graph_output() for v in node.outputs)
        ):
            stack += _reads(node)
            _remove(node)
