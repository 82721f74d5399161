"""Functions that exporters take apart, put together again in a converted module: one file for each form.

A form that is found computes the same function, with the same gradient, up to the rounding of its type. What
is not known to be the same is left as it is; each file says where it declines.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

from torch import Tensor, fx

from intrain_onnx.runtime.convert import bind
from intrain_onnx.runtime.fuse import activations, attention, linear, norms
from intrain_onnx.runtime.fuse.constants import drop_identities, fold, has_foldable
from intrain_onnx.runtime.fuse.form import Form, Found, View
from intrain_onnx.runtime.lazy_module import LazyModule

_FORMS: Sequence[Form] = (activations.find, norms.find, attention.find, linear.find)


def fuse(module: fx.GraphModule, keep: Collection[str]) -> fx.GraphModule:
    """The same function and the same parameters, in fewer nodes: compositions put together, constants folded.

    Args:
        module: from ``convert``; it is not changed, and shares its tensors with the result. It is the result
            if there is nothing to fuse.
        keep: names of the values that stay visible to observers; outputs of the graph always do.
    """
    return _fused(module, frozenset(keep), ())


def _fused(
    module: fx.GraphModule, keep: Collection[str], captured: Sequence[Tensor | None]
) -> fx.GraphModule:
    """``captured``: what is known of the last placeholders of a subgraph, which its surroundings bind."""
    if not _has_work(_viewed(module, keep, captured)):
        return module
    copied = LazyModule(module, copy.deepcopy(module.graph), class_name=module.__class__.__name__)
    copied.meta |= module.meta
    view = _viewed(copied, keep, captured)
    drop_identities(view)
    fold(view)
    for node in list(copied.graph.nodes):
        if node.op == "call_function" and not node._erased:
            _put_together(view, node)
    _fuse_subgraphs(view)
    copied.recompile()
    return copied


def _viewed(module: fx.GraphModule, keep: Collection[str], captured: Sequence[Tensor | None]) -> View:
    places = [n for n in module.graph.nodes if n.op == "placeholder"]
    bound = zip(places[len(places) - len(captured) :], captured, strict=True)
    return View(module, keep, {place: tensor for place, tensor in bound if tensor is not None})


def _has_work(view: View) -> bool:
    """Whether a graph would not stay as it is; a copy takes as long as the conversion did."""
    calls = [n for n in view.module.graph.nodes if n.op == "call_function"]
    if has_foldable(view) or any(n.target is bind for n in calls):
        return True
    return any(_composition(view, n) is not None for n in calls)


def _composition(view: View, node: fx.Node) -> Found | None:
    """The composition that a node marks, if its other values may go."""
    for form in _FORMS:
        found = form(view, node)
        if found is not None and view.hides(found):
            return found
    return None


def _put_together(view: View, node: fx.Node) -> None:
    found = _composition(view, node)
    if found is not None:
        _replace(view.module.graph, found)


def _replace(graph: fx.Graph, found: Found) -> None:
    root = found.root
    with graph.inserting_before(root):
        call = graph.call_function(found.function, found.args, found.kwargs)
    call.meta |= {**root.meta, "onnx_op": found.op, "onnx_domain": ""}
    if found.named is not None:
        call.meta["onnx_name"] = found.named.meta.get("onnx_name")
    root.replace_all_uses_with(call)
    graph.erase_node(root)
    waiting = list(found.inside)
    while waiting:
        done = [n for n in waiting if not n.users]
        assert done, "the nodes inside are read by nodes inside alone"
        for node in done:
            graph.erase_node(node)
        waiting = [n for n in waiting if n not in done]


def _fuse_subgraphs(view: View) -> None:
    for node in view.module.graph.nodes:
        if node.op == "call_function" and node.target is bind:
            path = str(node.args[0].target)
            inner = view.module.get_submodule(path)
            assert isinstance(inner, fx.GraphModule)
            known = [view.tensor(source) for source in node.args[1:]]
            setattr(view.module, path, _fused(inner, view.keep, known))
