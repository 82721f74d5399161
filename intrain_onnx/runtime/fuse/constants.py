"""Folding of what exporters leave to be computed from constants, and of Identity, which names a value twice.

It declines for random nodes and loops, for values that have to stay, for what reads a trained parameter, and
for large results: a mask that is expanded by the graph takes no memory before it runs.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, fx

from intrain_onnx.errors import IntrainError
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import of_call
from intrain_onnx.runtime.fuse.form import View, is_op

_MOST: Final = 2**16
"""Elements of a constant that is folded, and of those that it is made from."""

_LEFT = {Kind.RANDOM, Kind.CONTROL, Kind.SEQUENCE, Kind.OTHER}


def drop_identities(view: View) -> None:
    """Let the readers of each Identity read its input."""
    for node in list(view.module.graph.nodes):
        if is_op(node, "Identity") and view.may_go(node):
            node.replace_all_uses_with(node.args[0])
            view.module.graph.erase_node(node)


def fold(view: View) -> None:
    """Replace nodes that depend on constants alone by buffers."""
    graph = view.module.graph
    made: dict[fx.Node, Tensor] = {}
    for node in graph.nodes:
        value = _value(view, node, made)
        if value is not None:
            made[node] = value
    for node in [n for n in made if any(u not in made for u in n.users)]:
        with graph.inserting_before(node):
            held = graph.get_attr(_register(view.module, made[node]))
        held.meta |= {**node.meta, "onnx_op": "Initializer"}
        node.replace_all_uses_with(held, delete_user_cb=lambda user: user not in made)
    for node in reversed(list(made)):
        graph.erase_node(node)
    for node in reversed(list(graph.nodes)):
        if node.op == "get_attr" and not node.users and view.constant(node) is not None:
            graph.erase_node(node)


def _value(view: View, node: fx.Node, made: dict[fx.Node, Tensor]) -> Tensor | None:
    """The value of a node that depends on constants alone; None for others."""
    if node.op != "call_function" or node.meta.get("onnx_domain") or not view.may_go(node):
        return None
    if not node.meta.get("onnx_op") or of_call(node.meta).kind in _LEFT or not node.users:
        return None
    if is_op(node, "Shape") and not node.kwargs:
        sizes = _static_shape(view, node.args[0])
        if sizes is not None:
            return torch.tensor(sizes)
    operands = {n: made[n] if n in made else view.constant(n) for n in node.all_input_nodes}
    if any(t is None or t.numel() > _MOST for t in operands.values()):
        return None
    args, kwargs = fx.map_arg((node.args, node.kwargs), operands.__getitem__)
    return _called(node, args, kwargs)


def _called(node: fx.Node, args: Any, kwargs: Any) -> Tensor | None:
    """The result of a node; None if it is no tensor of moderate size, or fails, as it will when it runs."""
    assert callable(node.target)
    try:
        with torch.no_grad(), element_limit(_MOST):
            value = node.target(*args, **kwargs)
    except (IntrainError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None
    return value.clone() if isinstance(value, Tensor) and value.numel() <= _MOST else None


def _static_shape(view: View, node: Any) -> list[int] | None:
    """The shape that a value has whatever the inputs are: of a Reshape to constant sizes, or a view of it."""
    if is_op(node, "Transpose") and node.kwargs.get("perm") is not None:
        before = _static_shape(view, node.args[0])
        return None if before is None else [before[i] for i in node.kwargs["perm"]]
    if not is_op(node, "Reshape"):
        return None
    sizes = view.integers(node.args[1])
    return sizes if sizes and min(sizes) > 0 else None


def _register(module: fx.GraphModule, value: Tensor) -> str:
    index = sum(name.startswith("folded_") for name in module._buffers)
    while hasattr(module, f"folded_{index}"):
        index += 1
    module.register_buffer(f"folded_{index}", value)
    return f"folded_{index}"
