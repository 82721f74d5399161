"""Folding of what exporters leave to be computed from constants, and of Identity, which names a value twice.

It declines for random nodes and loops, for values that have to stay, for what reads a trained parameter, and
for large results: a mask that is expanded by the graph takes no memory before it runs. Nor is a node folded
that makes an infinite value or no number, which an error has to name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def has_foldable(view: View) -> bool:
    """Whether :func:`drop_identities` or :func:`fold` would change anything."""
    return any(
        _is_unread(view, node)
        or (is_op(node, "Identity") and view.may_go(node))
        or _value(view, node, {}) is not None
        for node in view.module.graph.nodes
    )


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
        if _is_unread(view, node):
            graph.erase_node(node)


def _is_unread(view: View, node: fx.Node) -> bool:
    return node.op == "get_attr" and not node.users and view.constant(node) is not None


def _value(view: View, node: fx.Node, made: dict[fx.Node, Tensor]) -> Tensor | None:
    """The value of a node that depends on constants alone; None for others."""
    if node.op != "call_function" or node.meta.get("onnx_domain") or not view.may_go(node):
        return None
    if not node.meta.get("onnx_op") or of_call(node.meta).kind in _LEFT or not node.users:
        return None
    if is_op(node, "Shape") and not node.kwargs:
        sizes = _static_shape(view, node.args[0], made)
        if sizes is not None:
            return torch.tensor(sizes)
    operands = {n: made[n] if n in made else view.constant(n) for n in node.all_input_nodes}
    if any(t is None or t.numel() > _MOST for t in operands.values()):
        return None
    args, kwargs = fx.map_arg((node.args, node.kwargs), operands.__getitem__)
    value = _called(node, args, kwargs)
    return None if value is None or _is_first_not_finite(value, operands.values()) else value


def _is_first_not_finite(value: Tensor, operands: Iterable[Tensor | None]) -> bool:
    """Whether a value is infinite or no number and its operands are not: an error is to name the node."""
    floats = [t for t in operands if t is not None and t.is_floating_point()]
    if not value.is_floating_point() or bool(torch.isfinite(value).all()):
        return False
    if bool(torch.isnan(value).any()):
        return not any(bool(torch.isnan(t).any()) for t in floats)
    return all(bool(torch.isfinite(t).all()) for t in floats)


def _called(node: fx.Node, args: Any, kwargs: Any) -> Tensor | None:
    """The result of a node; None if it is no tensor of moderate size, or fails, as it will when it runs."""
    assert callable(node.target)
    try:
        with torch.no_grad(), element_limit(_MOST):
            value = node.target(*args, **kwargs)
    except (IntrainError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None
    return value.clone() if isinstance(value, Tensor) and value.numel() <= _MOST else None


def _static_shape(view: View, node: Any, made: Mapping[fx.Node, Tensor]) -> list[int] | None:
    """The shape that a value has whatever the inputs are: of a Reshape to constant sizes, or a view of it."""
    if is_op(node, "Transpose") and node.kwargs.get("perm") is not None:
        before = _static_shape(view, node.args[0], made)
        return None if before is None else [before[i] for i in node.kwargs["perm"]]
    if not is_op(node, "Reshape"):
        return None
    target: Any = node.args[1]
    sizes = made[target].tolist() if target in made else view.integers(target)
    return sizes if sizes and min(sizes) > 0 else None


def _register(module: fx.GraphModule, value: Tensor) -> str:
    index = sum(name.startswith("folded_") for name in module._buffers)
    while hasattr(module, f"folded_{index}"):
        index += 1
    module.register_buffer(f"folded_{index}", value)
    return f"folded_{index}"
