"""The form of the file: names, order, declared shapes, functions, loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx
import onnx_ir as ir
from numpy.random import Generator
from onnx import inliner

from .editing import Edit, edits, rewrite


def shapes_stripped(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
    """No declared shape but those of inputs; of outputs the type alone stays."""
    if not proto.graph.value_info:
        return None
    result = _copy(proto)
    del result.graph.value_info[:]
    return result


def shapes_added(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
    return onnx.shape_inference.infer_shapes(proto, data_prop=bool(rng.integers(2)))


def nodes_shuffled(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
    """Another topological order, of the nodes and of the initializers."""
    result = _copy(proto)
    left = list(result.graph.node)
    made = {v.name for v in (*result.graph.input, *result.graph.initializer)} | {""}
    ordered = []
    while left:
        ready = [n for n in left if _reads(n) <= made]
        node = ready[int(rng.integers(len(ready)))]
        left.remove(node)
        ordered.append(node)
        made.update(node.output)
    initializers = [result.graph.initializer[i] for i in rng.permutation(len(result.graph.initializer))]
    ordered, initializers = [_copy(n) for n in ordered], [_copy(t) for t in initializers]
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(ordered)
    result.graph.initializer.extend(initializers)
    return result


Message = TypeVar("Message", onnx.ModelProto, onnx.NodeProto, onnx.TensorProto)


def _copy(message: Message) -> Message:
    result = type(message)()
    result.CopyFrom(message)
    return result


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those of an outer graph that its own graphs read among them."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {v.name for v in (*graph.input, *graph.initializer)}
            own |= {name for inner in graph.node for name in inner.output}
            names |= {name for inner in graph.node for name in _reads(inner)} - own
            names |= {v.name for v in graph.output} - own
    return names


@edits
def names_shuffled(edit: Edit) -> bool:
    """New names for nodes, values and initializers. An input's name says what it holds, and stays."""
    values = [v for v in edit.graph.initializers.values() if not v.is_graph_input()]
    values += [v for node in edit.graph.all_nodes() for v in node.outputs if v.name]
    mark = edit.name("v")
    for value, number in zip(values, edit.rng.permutation(len(values)), strict=True):
        value.name = f"{mark}_{number}"
    for node in edit.graph.all_nodes():
        node.name = None if edit.chance(0.2) else f"n{int(edit.rng.integers(10**9))}"
    return True


def functions_made(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
    """Nodes that follow each other in the file as one call of a function of the model."""
    result = _copy(proto)
    nodes = list(result.graph.node)
    length = int(rng.integers(2, 12))
    start = int(rng.integers(max(1, len(nodes) - length)))
    inner = nodes[start : start + length]
    if any(a.HasField("g") or a.graphs for n in inner for a in n.attribute):
        return None
    made = {name for n in inner for name in n.output}
    inputs = list(dict.fromkeys(name for n in inner for name in n.input if name and name not in made))
    outside = {name for n in (*nodes[:start], *nodes[start + length :]) for name in _reads(n)}
    outside |= {v.name for v in result.graph.output}
    outputs = [name for name in dict.fromkeys(o for n in inner for o in n.output) if name in outside]
    name = f"Part{len(result.functions)}_{int(rng.integers(10**6))}"
    domain = "rewriting"
    body = [_copy(n) for n in inner]
    function = onnx.helper.make_function(domain, name, inputs, outputs, body, list(result.opset_import))
    call = onnx.helper.make_node(name, inputs, outputs, domain=domain, name=name)
    kept = [*map(_copy, nodes[:start]), call, *map(_copy, nodes[start + length :])]
    del result.graph.node[:]
    result.graph.node.extend(kept)
    result.functions.append(function)
    if domain not in {o.domain for o in result.opset_import}:
        result.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    result.ir_version = max(result.ir_version, 8)
    return result


def functions_inlined(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
    return inliner.inline_local_functions(_copy(proto)) if proto.functions else None


for _function in (shapes_stripped, shapes_added, nodes_shuffled, functions_made, functions_inlined):
    rewrite(_function)


# Equal layers as rounds of a loop

Place = tuple[int, int]
"""Index of a node of a round, and of one of its inputs."""


@dataclass(frozen=True)
class Rounds:
    """Equal runs of nodes, each of which reads what the one before it made.

    Attributes:
        runs: nodes of each round, in order.
        start: what the first round reads in place of the round before it.
        carry: index of the node, and of its output, that the next round reads.
        stacked: places (node, input) that read another constant in each round.
    """

    runs: tuple[tuple[ir.Node, ...], ...]
    start: ir.Value
    carry: tuple[int, int]
    stacked: tuple[Place, ...]


def find_rounds(edit: Edit) -> Rounds | None:
    nodes = [n for n in edit.graph if not edit.is_constant(n.outputs[0])]
    starts = edit.rng.permutation(len(nodes))
    for start in starts:
        for length in range(1, (len(nodes) - int(start)) // 2 + 1):
            found = _rounds_at(edit, nodes[int(start) :], length)
            if found is not None and any(
                (edit.rank(found.runs[0][i].inputs[j]) or 0) > 1 for i, j in found.stacked
            ):
                return found
    return None


def _rounds_at(edit: Edit, nodes: Sequence[ir.Node], length: int) -> Rounds | None:
    runs = [tuple(nodes[i : i + length]) for i in range(0, len(nodes) - length + 1, length)]
    best = None
    for count in range(2, len(runs) + 1):
        found = _compared(edit, tuple(runs[:count]))
        if found is None:
            break
        best = found
    return best


def _compared(edit: Edit, runs: tuple[tuple[ir.Node, ...], ...]) -> Rounds | None:
    first, last = runs[0], runs[-1]
    if [_form(n) for n in first] != [_form(n) for n in last] or any(_form(n) is None for n in first):
        return None
    places: list[dict[ir.Value | None, tuple[int, int]]]
    places = [{v: (i, j) for i, n in enumerate(run) for j, v in enumerate(n.outputs)} for run in runs]
    carry, start, stacked = None, None, []
    for i, node in enumerate(first):
        for j, value in enumerate(node.inputs):
            others = [run[i].inputs[j] for run in runs]
            if value in places[0]:
                if any(place.get(v) != places[0][value] for place, v in zip(places, others, strict=True)):
                    return None
            elif all(v is value for v in others):
                continue
            elif (arrays := edit.arrays(others)) is not None:
                if len({(a.shape, a.dtype) for a in arrays}) > 1:
                    return None
                if all(np.array_equal(a, arrays[0]) for a in arrays) and arrays[0].dtype.kind != "f":
                    continue
                if arrays[0].dtype != np.float32:
                    return None
                stacked.append((i, j))
            else:
                at = [places[k].get(v) for k, v in enumerate(others[1:])]
                if len(set(at)) != 1 or at[0] is None or (start not in {None, value}):
                    return None
                if carry not in {None, at[0]}:
                    return None
                carry, start = at[0], value
    if carry is None or start is None or edit.shape(start) is None:
        return None
    results = [run[carry[0]].outputs[carry[1]] for run in runs]
    if edit.shape(results[-1]) != edit.shape(start) or not edit.is_float(start):
        return None
    return Rounds(runs, start, carry, tuple(stacked)) if _closed(runs, results) else None


def _form(node: ir.Node) -> tuple[object, ...] | None:
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return None
    attributes = tuple(sorted((k, str(a.value)) for k, a in node.attributes.items()))
    return node.domain, node.op_type, attributes, len(node.inputs), len(node.outputs)


def _closed(runs: tuple[tuple[ir.Node, ...], ...], results: Sequence[ir.Value]) -> bool:
    """Whether nobody outside reads more than the last result."""
    owner = {node: i for i, run in enumerate(runs) for node in run}
    for i, run in enumerate(runs):
        for value in (v for node in run for v in node.outputs):
            if value is results[-1]:
                continue
            if value.is_graph_output():
                return False
            readers = {owner.get(u.node) for u in value.uses()}
            allowed = {i, i + 1} if value is results[i] else {i}
            if not readers <= allowed:
                return False
    return True


def _body_nodes(
    edit: Edit, found: Rounds, inner: dict[ir.Value, ir.Value], slices: Mapping[Place, ir.Value]
) -> list[ir.Node]:
    """Copies of the first round's nodes; ``slices`` gives what stands for a stacked input."""
    made = []
    for i, node in enumerate(found.runs[0]):
        inputs = [
            slices[i, j] if (i, j) in slices else inner.get(v, v) if v is not None else None
            for j, v in enumerate(node.inputs)
        ]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            [ir.Attr(a.name, a.type, a.value) for a in node.attributes.values()],
            num_outputs=len(node.outputs),
            name=edit.name("round"),
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name = edit.name("inner")
            new.type = old.type
            inner[old] = new
        made.append(copy)
    return made


def _roll(edit: Edit, *, scan: bool) -> bool:
    found = find_rounds(edit)
    if found is None:
        return False
    at = found.runs[-1][-1]
    stacks = {place: _stack(edit, found, place) for place in found.stacked}
    state = ir.Value(name=edit.name("state"))
    state.type, state.shape = _type(edit, found)
    y = (_scan if scan else _loop)(edit, at, found, state, stacks)
    edit.put(found.runs[-1][found.carry[0]].outputs[found.carry[1]], y)
    return True


def _stack(edit: Edit, found: Rounds, place: Place) -> ir.Value:
    """The constants that the rounds read at a place, as one."""
    arrays = edit.arrays(run[place[0]].inputs[place[1]] for run in found.runs)
    assert arrays is not None
    return edit.constant(np.stack(arrays), hint="stack")


def _type(edit: Edit, found: Rounds) -> tuple[ir.TensorType, ir.Shape]:
    """Of what one round hands to the next."""
    shape = edit.shape(found.start)
    assert shape is not None
    return ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)


def _result(edit: Edit, found: Rounds, inner: dict[ir.Value, ir.Value]) -> ir.Value:
    result = inner[found.runs[0][found.carry[0]].outputs[found.carry[1]]]
    result.type, result.shape = _type(edit, found)
    return result


def _scan(
    edit: Edit, at: ir.Node, found: Rounds, state: ir.Value, stacks: Mapping[Place, ir.Value]
) -> ir.Value:
    slices = {}
    for place, stack in stacks.items():
        slices[place] = ir.Value(
            name=edit.name("slice"),
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape((edit.shape(stack) or ())[1:]),
        )
    inner = {found.start: state}
    nodes = _body_nodes(edit, found, inner, slices)
    result = _result(edit, found, inner)
    body = ir.Graph([state, *slices.values()], [result], nodes=nodes, name=edit.name("body"))
    return edit.op(
        at, "Scan", [found.start, *stacks.values()], {"body": body, "num_scan_inputs": len(stacks)}
    )


def _loop(
    edit: Edit, at: ir.Node, found: Rounds, state: ir.Value, stacks: Mapping[Place, ir.Value]
) -> ir.Value:
    index = ir.Value(name=edit.name("i"), type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    going = ir.Value(name=edit.name("going"), type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    gathers, slices = [], {}
    for place, stack in stacks.items():
        node = ir.node("Gather", [stack, index], {"axis": 0}, name=edit.name("take"))
        node.outputs[0].name = edit.name("slice")
        gathers.append(node)
        slices[place] = node.outputs[0]
    inner = {found.start: state}
    nodes = _body_nodes(edit, found, inner, slices)
    result = _result(edit, found, inner)
    on = ir.node("Identity", [going], name=edit.name("on"))
    on.outputs[0].name = edit.name("on")
    on.outputs[0].type, on.outputs[0].shape = going.type, going.shape
    body = ir.Graph(
        [index, going, state],
        [on.outputs[0], result],
        nodes=[on, *gathers, *nodes],
        name=edit.name("body"),
    )
    count = edit.constant(len(found.runs), np.int64, "rounds")
    true = edit.constant(True, np.bool_, "true")
    return edit.op(at, "Loop", [count, true, found.start], {"body": body})


@edits
def layers_as_scan(edit: Edit) -> bool:
    """Equal layers in a row as one Scan over their stacked weights."""
    return _roll(edit, scan=True)


@edits
def layers_as_loop(edit: Edit) -> bool:
    """Equal layers in a row as one Loop that takes its weights from stacks by the round."""
    return _roll(edit, scan=False)
