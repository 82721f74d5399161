"""What a form is: a function that several nodes write out, found in a converted graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx

_EXACT = {torch.float32, torch.float64}
"""Types in which a composition and its function differ by rounding alone; half precision rounds each step."""


@dataclass(frozen=True, slots=True)
class Found:
    """A composition of nodes, and the call that takes its place.

    Attributes:
        root: the node whose value the call gives.
        inside: the other nodes of the composition, which no other node may read.
        function: what is called, with fx nodes among its arguments.
        op: the ONNX operator that the call is.
        named: the node after which errors name the call; the root if None.
    """

    root: fx.Node
    inside: tuple[fx.Node, ...]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    op: str
    named: fx.Node | None = None


Form = Callable[["View", fx.Node], Found | None]
"""Finds a composition by the node that marks it, such as an Erf; None where it is another function."""


@dataclass(frozen=True)
class View:
    """A converted graph, with the tensors that its nodes read.

    Attributes:
        module: of the graph.
        keep: names of values that stay.
        bound: tensors that the graph captures from around it, by placeholder.
    """

    module: fx.GraphModule
    keep: Collection[str]
    bound: Mapping[fx.Node, Tensor] = field(default_factory=dict)

    def tensor(self, node: Any) -> Tensor | None:
        """The parameter or constant that a node reads; None for a computed value."""
        if not isinstance(node, fx.Node):
            return None
        if node.op != "get_attr":
            return self.bound.get(node)
        held = reduce(getattr, str(node.target).split("."), self.module)
        return held if isinstance(held, Tensor) else None

    def constant(self, node: Any) -> Tensor | None:
        """The tensor that a node reads, if nothing trains it."""
        tensor = self.tensor(node)
        return None if tensor is None or tensor.requires_grad else tensor

    def number(self, node: Any, rank: int | None) -> float | None:
        """The float constant of one element that broadcasts to a value of a rank; None for any other node."""
        tensor = self.constant(node)
        if tensor is None or tensor.numel() != 1 or not tensor.is_floating_point():
            return None
        return tensor.item() if tensor.dim() <= (rank or 0) else None

    def integers(self, node: Any) -> list[int] | None:
        """The integers of a constant, or of an attribute; None for anything computed."""
        if isinstance(node, (list, tuple)):
            return [int(n) for n in node]
        tensor = self.constant(node)
        return None if tensor is None or tensor.is_floating_point() else tensor.reshape(-1).tolist()

    def hides(self, found: Found) -> bool:
        """Whether nothing but the composition reads the nodes inside, and no name of theirs is to stay."""
        nodes = {found.root, *found.inside}
        return all(set(n.users) <= nodes and self.may_go(n) for n in found.inside)

    def may_go(self, node: fx.Node) -> bool:
        """Whether none of a node's values has to stay."""
        return not any(name in self.keep for name in node.meta.get("onnx_outputs", ()))


def is_op(node: Any, *op_types: str) -> bool:
    """Whether an fx node was converted from one of these operators of ONNX's own domain."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    return node.meta.get("onnx_op") in op_types and not node.meta.get("onnx_domain")


def rank(node: fx.Node) -> int | None:
    """The number of axes of a node's value, if shape inference knows it."""
    found: int | None = node.meta.get("rank")
    return found


def precision(node: fx.Node) -> float | None:
    """The rounding error of a value's type; None where a composition rounds otherwise than its function."""
    dtype = node.meta.get("dtype")
    return float(torch.finfo(dtype).eps) if dtype in _EXACT else None


def only_user(node: fx.Node) -> fx.Node | None:
    """The node that alone reads a value; None if there are more, or it is an output."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op == "call_function" else None


def followers(node: fx.Node, most: int) -> Iterator[fx.Node]:
    """The nodes that follow, as long as each value has one reader."""
    for _ in range(most):
        user = only_user(node)
        if user is None:
            return
        yield user
        node = user


def other_operand(node: fx.Node, one: fx.Node) -> Any:
    """The operand of a node of two operands that is not ``one``."""
    first, second = node.args
    return second if first is one else first
