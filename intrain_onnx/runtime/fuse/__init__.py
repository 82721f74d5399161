"""Functions that exporters take apart, put together again in a converted module: one file for each form.

A form that is found computes the same function, with the same gradient, up to the rounding of its type. What is not
known to be the same is left as it is; each file says where it declines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, fx

from intrain_onnx.runtime.convert import bind
from intrain_onnx.runtime.fuse import activations, attention, linear, norms
from intrain_onnx.runtime.fuse.constants import drop_identities, fold
from intrain_onnx.runtime.fuse.form import Form, Found, View

_FORMS: Sequence[Form] = (activations.find, norms.find, attention.find, linear.find)


def fuse(module: fx.GraphModule, keep: Collection[str]) -> int:
    """Put compositions together and fold constants, in place, in the module and its subgraphs.

    Args:
        module: from ``convert``; its parameters stay as they are.
        keep: names of the values that stay visible to observers; outputs of the graph always do.

    Returns:
        The number of compositions.
    """
    return _fuse(View(module, frozenset(keep)))


def _fuse(view: View) -> int:
    graph = view.module.graph
    drop_identities(view)
    fold(view)
    count = 0
    for node in list(graph.nodes):
        for form in _FORMS if node.op == "call_function" and not node._erased else ():
            found = form(view, node)
            if found is not None and view.hides(found):
                _replace(graph, found)
                count += 1
                break
    view.module.recompile()
    return count + sum(_fuse(inner) for inner in _subgraphs(view))


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


def _subgraphs(view: View) -> list[View]:
    """The subgraphs, with the tensors that each captures."""
    found = []
    for node in view.module.graph.nodes:
        if node.op == "call_function" and node.target is bind:
            inner = view.module.get_submodule(str(node.args[0].target))
            assert isinstance(inner, fx.GraphModule)
            found.append(View(inner, view.keep, _captured(view, inner, node.args[1:])))
    return found


def _captured(view: View, inner: fx.GraphModule, captured: Sequence[fx.Node]) -> Mapping[fx.Node, Tensor]:
    formal = [n for n in inner.graph.nodes if n.op == "placeholder"]
    pairs = zip(formal[len(formal) - len(captured) :], captured, strict=True)
    tensors = {place: view.tensor(source) for place, source in pairs}
    return {place: tensor for place, tensor in tensors.items() if tensor is not None}
