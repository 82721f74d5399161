"""Expansion of model-local functions in linear time."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import inliner

_MAX_METADATA = 32
"""Metadata of a call is copied to each node of the function; exporters write some 8 entries."""


class InlineFunctions(inliner.InlinePass):
    """onnx_ir's InlinePass, without its search for free names.

    InlinePass tries ``name_2``, ``name_3`` … from the start for each copy of a function, so its time grows
    with the square of the number of calls: 8,192 copies of one node took 113 s. (onnx's own inliner is fast,
    but loses functions that return an input, and silently keeps those with another opset.) Here a function's
    own names are renewed before each call, so that the first try is free.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0
        self._names: dict[ir.Node | ir.Value, str] = {}

    def _instantiate_call(self, node: ir.Node, call_site_id: str) -> inliner.NodeReplacement:
        self._calls += 1
        if len(node.metadata_props) > _MAX_METADATA:
            node.metadata_props.clear()
        for inner in self._functions[node.op_identifier()].graph.all_nodes():
            inner.name = f"{self._names.setdefault(inner, inner.name or inner.op_type)}_{self._calls}"
            for value in inner.outputs:
                if value.name != "":
                    value.name = f"{self._names.setdefault(value, value.name or 'value')}_{self._calls}"
        return super()._instantiate_call(node, call_site_id)
