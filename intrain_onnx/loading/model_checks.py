"""Validate a parsed model against the ONNX specification: subgraphs, functions and attributes included.

onnx's checker is both too lax and too strict for this. It passes negative dimensions, unknown types and short
data; it refuses graphs that onnxruntime runs, such as unsorted nodes or operators of com.microsoft without an
opset import. Here a model without one clear meaning is an error; all else is a warning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx
import onnx.defs

from intrain_onnx.errors import LimitError, ModelFileError, UnsupportedError, printable
from intrain_onnx.loading.function_checks import check_functions, identity, place, plain_domain
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.operator_checks import HINT, Operators, of_declared, of_tensor
from intrain_onnx.loading.protobuf_scan import too_many
from intrain_onnx.loading.tensor_checks import Payloads, check_rank, element_type
from intrain_onnx.loading.warnings import Notes
from intrain_onnx.opset.node_checks import type_name
from intrain_onnx.opset.rules import Known

_Attribute = onnx.AttributeProto
_HELD = {_Attribute.TENSOR: "t", _Attribute.GRAPH: "g", _Attribute.TYPE_PROTO: "tp"}
"""Fields that an attribute of that type must have; numbers and strings have a default."""

_LARGEST_OPSET = 2**31 - 1
"""What onnx can look up."""


def check_model(model: onnx.ModelProto, limits: Limits, payloads: Payloads, notes: Notes) -> None:
    """Check a model; negative dimensions and types of no element type are cleared in place: they are unknown.

    Cost: linear in the file, times the nesting depth for values that subgraphs capture.

    Raises:
        ModelFileError: a broken structure; see the functions below.
        UnsupportedError: sparse tensors, map types, and functions that cannot be expanded.
        LimitError: over ``values``, ``expanded_nodes``, ``rank``, ``elements`` or ``tensor_bytes``.
        UnsafeModelError: external data outside the folder; see `ExternalFiles`.
    """
    _check_header(model, notes)
    check_functions(model, limits)
    operators = Operators(_opsets(model), frozenset(map(identity, model.functions)))
    walk = _Walk(limits, payloads, notes, operators)
    walk.graph(model.graph, outer=())
    for function in model.functions:
        walk.function(function)
    _check_domains(model, walk.domains, notes)


def _check_header(model: onnx.ModelProto, notes: Notes) -> None:
    if not model.HasField("graph") or not model.HasField("ir_version"):
        raise ModelFileError(
            "this is not an ONNX model: it has no "
            + ("graph" if model.HasField("ir_version") else "IR version"),
            hint="It may be a TensorFlow .pb or a single tensor: export the model to ONNX",
        )
    if model.ir_version < 1:
        raise ModelFileError(f"IR version {model.ir_version} does not exist")
    if model.ir_version > onnx.IR_VERSION:
        notes.add(
            "ir-version", f"IR version {model.ir_version} is newer than {onnx.IR_VERSION}, known here", None
        )
    if model.training_info:
        notes.add("training-info", "the training graphs in the file are ignored", None)


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    """The opset of each domain, those of functions included.

    Raises:
        ModelFileError: one does not exist.
    """
    versions: dict[str, int] = {}
    for opset in (*(o for f in model.functions for o in f.opset_import), *model.opset_import):
        if not 1 <= opset.version <= _LARGEST_OPSET:
            raise ModelFileError(
                f"opset {opset.version} of '{printable(opset.domain or 'ai.onnx')}' does not exist",
                hint="Export the model again",
            )
        versions[plain_domain(opset.domain)] = opset.version
    return versions


def _check_domains(model: onnx.ModelProto, used: Iterable[str], notes: Notes) -> None:
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = plain_domain(opset.domain)
        if versions.setdefault(domain, opset.version) != opset.version:
            notes.add(
                "opset-twice", f"more than one opset of '{domain or 'ai.onnx'}': the last is used", None
            )
    newest = onnx.defs.onnx_opset_version()
    if versions.get("", 0) > newest:
        notes.add("opset-new", f"opset {versions['']} is newer than {newest}, the newest known here", None)
    functions = {plain_domain(f.domain) for f in model.functions}
    for domain in used:
        if domain in versions or domain in functions:
            continue
        if domain:
            notes.add("opset-missing", f"no opset is imported for the domain '{domain}'", None)
        elif model.ir_version >= 3:
            raise ModelFileError(
                "no opset is imported for ONNX's own operators", hint="Export the model again"
            )


@dataclass(slots=True)
class _Scope:
    """The names of the values of one graph."""

    names: set[str] = field(default_factory=set)
    """All names that the graph defines."""
    made: set[str] = field(default_factory=set)
    """Those defined before the current node."""
    known: dict[str, Known] = field(default_factory=dict)
    """What the file says of some of them."""
    declared: dict[str, int] = field(default_factory=dict)
    """Element types that it declares for what nodes make."""


class _Walk:
    """One pass over all graphs of a model."""

    def __init__(self, limits: Limits, payloads: Payloads, notes: Notes, operators: Operators) -> None:
        self.limits = limits
        self.payloads = payloads
        self.notes = notes
        self.operators = operators
        self.values = 0
        self.domains: dict[str, None] = {}

    def graph(self, graph: onnx.GraphProto, outer: tuple[_Scope, ...]) -> set[str]:
        """Check a graph; returns its free variables: the names that it captures from outer graphs."""
        if graph.sparse_initializer:
            name = printable(graph.sparse_initializer[0].values.name)
            raise UnsupportedError(f"the sparse initializer '{name}'", hint="Export dense weights")
        for info in (*graph.input, *graph.output, *graph.value_info):
            self.type(info.type, info.name)
        scope = _Scope()
        for info in graph.input:
            self._define(info.name, scope, "an input")
            known = of_declared(info.type)
            if known is not None and not known.element and not outer:
                raise ModelFileError(f"the input '{printable(info.name)}' has no element type", hint=HINT)
            if known is not None:  # what a loop carries may have other sizes than its body declares
                scope.known[info.name] = Known(known.element, None) if outer else known
        inputs = set(scope.names)
        for info in (*graph.output, *graph.value_info):
            declared = of_declared(info.type)
            scope.declared[info.name] = declared.element if declared is not None else 0
            if not scope.declared[info.name]:
                info.ClearField("type")
        for tensor in graph.initializer:
            self._initializer(tensor, scope, inputs)
        if any(name in around.made for around in outer for name in scope.names):
            self.notes.add(
                "shadowed-name", "a subgraph uses a name of the graph around it for another value", None
            )
        return self._body(graph.node, [info.name for info in graph.output], scope, outer, function=None)

    def function(self, function: onnx.FunctionProto) -> None:
        """Check a function: its body may read its own inputs and values only."""
        scope = _Scope()
        for name in function.input:
            self._define(name, scope, f"an input of the function '{printable(function.name)}'")
        for info in function.value_info:
            self.type(info.type, info.name)
        for attribute in function.attribute_proto:
            self._attribute(attribute, (scope,), function)
        self._body(function.node, function.output, scope, (), function)

    def _initializer(self, tensor: onnx.TensorProto, scope: _Scope, inputs: set[str]) -> None:
        try:
            self.payloads.check(tensor)
        except (ModelFileError, LimitError, UnsupportedError) as error:
            error.message = f"initializer '{printable(tensor.name)}': {error.message}"
            raise
        if tensor.name in inputs:  # how files before IR version 4 had to do it
            inputs.discard(tensor.name)
        elif tensor.name:
            self._define(tensor.name, scope, "an initializer")
        else:
            self.notes.add("unnamed-initializer", "an initializer without a name is ignored", None)
        scope.known[tensor.name] = of_tensor(tensor)

    def _define(self, name: str, scope: _Scope, what: str, node: onnx.NodeProto | None = None) -> None:
        where = place(node) if node is not None else {}
        if not name:
            raise ModelFileError(f"{what} has no name", **where)
        if name in scope.names:
            raise ModelFileError(f"the name '{printable(name)}' is defined twice", **where)
        scope.names.add(name)
        if node is None:
            scope.made.add(name)

    def _body(
        self,
        nodes: Sequence[onnx.NodeProto],
        outputs: Sequence[str],
        scope: _Scope,
        outer: tuple[_Scope, ...],
        function: onnx.FunctionProto | None,
    ) -> set[str]:
        for node in nodes:
            for name in filter(None, node.output):
                self._define(name, scope, "an output", node)
        scopes = (*outer, scope)
        captured: dict[int, set[str]] = {}
        free: set[str] = set()
        is_sorted = True
        for index, node in enumerate(nodes):
            inner = self._node(node, scopes, function)
            if inner:
                captured[index] = inner
            for name in (*node.input, *inner):
                if not name or name in scope.made:
                    continue
                if name in scope.names:
                    is_sorted = False
                elif any(name in around.names for around in outer):
                    free.add(name)
                else:
                    raise _dangling(name, node)
            self._make(node, scope, outer)
        self._check_outputs(outputs, scope, outer)
        if not is_sorted:
            _check_acyclic(nodes, captured)
            self.notes.add(
                "unsorted", "the nodes are not in the order that ONNX asks for; they are sorted", None
            )
        return free

    def _make(self, node: onnx.NodeProto, scope: _Scope, outer: tuple[_Scope, ...]) -> None:
        for name in filter(None, node.output):
            if any(name in around.made for around in outer):
                message = (
                    f"the name '{printable(name)}' is defined twice, in a subgraph and in the graph around it"
                )
                raise ModelFileError(message, **place(node))
            scope.made.add(name)

    def _check_outputs(self, outputs: Sequence[str], scope: _Scope, outer: tuple[_Scope, ...]) -> None:
        for name in outputs:
            if name not in scope.names:
                where = (
                    "is a value of the graph around it"
                    if any(name in o.names for o in outer)
                    else "is never made"
                )
                raise ModelFileError(f"the graph output '{printable(name)}' {where}")

    def _node(
        self, node: onnx.NodeProto, scopes: tuple[_Scope, ...], function: onnx.FunctionProto | None
    ) -> set[str]:
        self.values += len(node.input) + len(node.output)
        if self.values > self.limits.values:
            raise too_many("values", self.values, self.limits.values, at_least=True)
        if not node.op_type:
            raise ModelFileError("a node without an operator", node=node.name)
        self.domains[plain_domain(node.domain)] = None
        if node.attribute and len({a.name for a in node.attribute}) < len(node.attribute):
            raise ModelFileError("an attribute is given twice", **place(node))
        try:
            free = set().union(*(self._attribute(a, scopes, function) for a in node.attribute))
            self._operator(node, scopes)
            return free
        except (ModelFileError, LimitError, UnsupportedError) as error:
            if error.op is None:  # otherwise it is about a node inside
                error.at(**place(node))
            raise

    def _operator(self, node: onnx.NodeProto, scopes: tuple[_Scope, ...]) -> None:
        scope = scopes[-1]

        def find(name: str) -> Known | None:
            if name in scope.names or len(scopes) == 1:
                return scope.known.get(name)
            return next((s.known.get(name) for s in reversed(scopes) if name in s.names), None)

        for name, known in zip(node.output, self.operators.check(node, find), strict=False):
            declared = scope.declared.get(name, 0)
            if declared and known.element and declared != known.element:
                raise ModelFileError(
                    f"'{printable(name)}' is declared as {type_name(declared)}, "
                    f"and the operator makes {type_name(known.element)}",
                    hint=HINT,
                    **place(node),
                )
            scope.known[name] = known

    def _attribute(
        self, attribute: _Attribute, scopes: tuple[_Scope, ...], function: onnx.FunctionProto | None
    ) -> set[str]:
        """Check all fields of an attribute, also those that its type does not use; returns free variables."""
        shown = printable(attribute.name)
        if attribute.type == _Attribute.UNDEFINED:
            raise ModelFileError(f"the attribute '{shown}' has no type")
        needed = _HELD.get(attribute.type)
        if needed and not attribute.ref_attr_name and not attribute.HasField(needed):
            raise ModelFileError(f"the attribute '{shown}' holds nothing of its type")
        if attribute.ref_attr_name:
            known = [*function.attribute, *(a.name for a in function.attribute_proto)] if function else []
            if attribute.ref_attr_name not in known:
                raise ModelFileError(
                    f"the attribute '{shown}' refers to the unknown '{printable(attribute.ref_attr_name)}'"
                )
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise UnsupportedError(
                f"the sparse tensor in the attribute '{shown}'", hint="Export dense weights"
            )
        for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
            self.payloads.check(tensor)
        for kind in (*([attribute.tp] if attribute.HasField("tp") else ()), *attribute.type_protos):
            self.type(kind, attribute.name)
        _check_text(attribute)
        free: set[str] = set()
        for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            free |= self.graph(graph, scopes)
        return free

    def type(self, kind: onnx.TypeProto, name: str) -> None:
        """Check a declared type, and clear negative dimensions: onnxruntime reads them as unknown, too."""
        which = kind.WhichOneof("value")
        if which in ("sequence_type", "optional_type"):
            element = getattr(kind, which).elem_type
            if element.WhichOneof("value") is None:
                raise ModelFileError(f"the type of '{printable(name)}' is a sequence or optional of nothing")
            self.type(element, name)
        elif which == "map_type":
            hint = "For a scikit-learn classifier, export without ZipMap; trees have no gradient to score"
            raise UnsupportedError(f"'{printable(name)}' is a map", hint=hint)
        elif which in ("tensor_type", "sparse_tensor_type"):
            tensor = getattr(kind, which)
            if tensor.elem_type:
                element_type(tensor.elem_type)
            check_rank(len(tensor.shape.dim), self.limits)
            for dim in tensor.shape.dim:
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")
                    self.notes.add(
                        "negative-dim", f"a dimension of '{printable(name)}' below 0 is unknown", None
                    )


def _check_text(attribute: _Attribute) -> None:
    try:
        for text in attribute.strings:
            text.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelFileError(f"the attribute '{printable(attribute.name)}' is not UTF-8 text") from None


def _dangling(name: str, node: onnx.NodeProto) -> ModelFileError:
    return ModelFileError(f"the input '{printable(name)}' is never made", **place(node))


def _check_acyclic(nodes: Sequence[onnx.NodeProto], captured: dict[int, set[str]]) -> None:
    """Topological sort (Kahn's algorithm); raises a ModelFileError that names one cycle, if there is any."""
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [
        {maker[name] for name in (*node.input, *captured.get(index, ())) if name in maker}
        for index, node in enumerate(nodes)
    ]
    users: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(needs):
        for other in needed:
            users[other].append(index)
    waiting = [len(needed) for needed in needs]
    ready = deque(index for index, count in enumerate(waiting) if not count)
    while ready:
        for index in users[ready.popleft()]:
            waiting[index] -= 1
            if not waiting[index]:
                ready.append(index)
    at = next((index for index, count in enumerate(waiting) if count), None)
    if at is None:
        return
    seen: dict[int, None] = {}
    while at not in seen:
        seen[at] = None
        at = next(other for other in needs[at] if waiting[other])
    cycle = list(seen)[list(seen).index(at) :]
    names = ", ".join(f"'{printable(nodes[i].name or nodes[i].output[0], 60)}'" for i in cycle[:5])
    raise ModelFileError(f"a cycle of {len(cycle)} nodes: {names}", **place(nodes[at]))
