"""Inlining of model-local functions in linear time."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import inliner

from intrain_onnx.errors import UnsupportedError

_MAX_METADATA = 32
"""Metadata of a call is copied to each node of the function; exporters write some 8 entries."""


class InlineFunctions(inliner.InlinePass):
    """onnx_ir's InlinePass, without its quadratic search for unused names.

    InlinePass tries ``name_2``, ``name_3`` … from the start for each copy of a function, so its time grows
    with the square of the number of calls: 8,192 copies of one node took 113 s. Here the names of a function
    are made unique before each call, so that the first try succeeds. InlinePass also fails if a call omits
    outputs, and renames the graph's input if a function returns its own input; both work here. (onnx's own
    inliner is fast, but loses the latter too, and silently keeps functions of another opset.)

    Requires: what `function_checks.check_functions` checks. Changes the model in place.

    Raises:
        UnsupportedError: a function returns an input that the call leaves out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0
        self._names: dict[ir.Node | ir.Value, str] = {}
        self._needed: dict[ir.OperatorIdentifier, list[int]] = {}

    def call(self, model: ir.Model) -> inliner.InlinePassResult:
        """Inline all calls, and remove the functions.

        Those that are never called are removed first: no limit bounds their expanded size.
        """
        _remove_uncalled(model)
        self._needed = {identity: _own_outputs(f) for identity, f in model.functions.items()}
        return super().call(model)

    def _instantiate_call(self, node: ir.Node, call_site_id: str) -> inliner.NodeReplacement:
        self._calls += 1
        identity = node.op_identifier()
        for index in self._needed[identity]:
            if index >= len(node.inputs) or node.inputs[index] is None:
                raise UnsupportedError(
                    "a function returns an input that the call leaves out", node=node.name, op=node.op_type
                )
        if len(node.metadata_props) > _MAX_METADATA:
            node.metadata_props.clear()
        self._name_outputs(node)
        for inner in self._functions[identity].graph.all_nodes():
            inner.name = f"{self._names.setdefault(inner, inner.name or inner.op_type)}_{self._calls}"
            for value in inner.outputs:
                if value.name != "":
                    value.name = f"{self._names.setdefault(value, value.name or 'value')}_{self._calls}"
        nodes, values = super()._instantiate_call(node, call_site_id)
        return nodes, values[: len(node.outputs)]

    def _name_outputs(self, node: ir.Node) -> None:
        """Name the outputs that the call omits: the function's values take their names."""
        for index, value in enumerate(node.outputs):
            if not value.name:
                value.name = f"{node.op_type}_{self._calls}_skipped_{index}"
                while value.name in self._used_value_names:
                    value.name += "_"
                self._used_value_names.add(value.name)


def _remove_uncalled(model: ir.Model) -> None:
    graphs, called = [model.graph], set[ir.OperatorIdentifier]()
    while graphs:
        for node in graphs.pop().all_nodes():
            identity = node.op_identifier()
            if identity in model.functions and identity not in called:
                called.add(identity)
                graphs.append(model.functions[identity].graph)
    for identity in model.functions.keys() - called:
        del model.functions[identity]


def _own_outputs(function: ir.Function) -> list[int]:
    """Insert Identity nodes so that each output of a function is a distinct value produced in its body.

    Returns:
        Indices of the inputs that the function returned directly.
    """
    returned = []
    seen: set[ir.Value] = set()
    for index, value in enumerate(function.outputs):
        if value.is_graph_input() or value in seen:
            if value.is_graph_input():
                returned.append(list(function.inputs).index(value))
            copy = ir.Node("", "Identity", [value], name=f"{value.name}_returned")
            copy.outputs[0].name = f"{value.name}_returned_{index}"
            function.append(copy)
            function.outputs[index] = copy.outputs[0]
        seen.add(value)
    return returned
