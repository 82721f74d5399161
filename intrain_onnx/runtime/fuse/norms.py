"""LayerNorm and RMSNorm written out, over the last axes.

Found by the mean of squares v = ReduceMean(d^2). The normalised value is d / sqrt(v + eps), with the root in the
divisor, a reciprocal, or a power of -1/2; where d is x - ReduceMean(x) over the same axes it is LayerNorm of x,
else RMSNorm of d. A following product with a vector is its scale, then a sum with one LayerNorm's bias.

It declines where the axes are not the last ones, where epsilon is not a positive constant inside of the root, and
in half precision.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx
from torch.nn import functional

from intrain_onnx.runtime.fuse.form import (
    Found,
    View,
    is_op,
    only_user,
    other_operand,
    precision,
    rank,
)


def layer_norm(x: Tensor, scale: Tensor | None, bias: Tensor | None, *, count: int, epsilon: float) -> Tensor:
    """LayerNorm over the last ``count`` axes; scale and bias broadcast."""
    shape = x.shape[x.dim() - count :]
    if all(p is None or p.shape == shape for p in (scale, bias)):
        return functional.layer_norm(x, shape, scale, bias, epsilon)
    y = functional.layer_norm(x, shape, None, None, epsilon)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def rms_norm(x: Tensor, scale: Tensor | None, *, count: int, epsilon: float) -> Tensor:
    """RMSNorm over the last ``count`` axes; the scale broadcasts."""
    shape = x.shape[x.dim() - count :]
    if scale is None or scale.shape == shape:
        return functional.rms_norm(x, shape, scale, epsilon)
    return functional.rms_norm(x, shape, None, epsilon) * scale


def find(view: View, mean: fx.Node) -> Found | None:
    """The normalisation whose mean of squares a node is; None if it is none."""
    count = _last_axes(view, mean)
    if count is None or precision(mean) is None:
        return None
    square = mean.args[0]
    d = _squared(view, square)
    if d is None:
        return None
    core = _normalised(view, mean, d)
    if core is None:
        return None
    root, epsilon, divided, inside = core
    x, centred = _centred(view, d, divided, count)
    if divided is not d and not centred:
        return None
    inside = [*centred, square, mean, *inside]
    scale, bias, root, inside = _affine(view, root, inside, count, bool(centred))
    kwargs = {"count": count, "epsilon": epsilon}
    if centred:
        return Found(root, tuple(inside), layer_norm, (x, scale, bias), kwargs, "LayerNormalization")
    return Found(root, tuple(inside), rms_norm, (x, scale), kwargs, "RMSNormalization")


def _last_axes(view: View, mean: fx.Node) -> int | None:
    """How many last axes a ReduceMean that keeps its axes reduces; None for others."""
    if not is_op(mean, "ReduceMean") or mean.kwargs.get("keepdims", 1) != 1:
        return None
    given = mean.args[1] if len(mean.args) > 1 else mean.kwargs.get("axes")
    axes, dims = view.integers(given), rank(mean)
    if not axes or (dims is None and max(axes) >= 0):
        return None
    counted = sorted(a - dims if a >= 0 and dims is not None else a for a in axes)
    return len(counted) if counted == list(range(-len(counted), 0)) else None


def _squared(view: View, node: Any) -> fx.Node | None:
    """The value that a node squares."""
    if is_op(node, "Mul") and node.args[0] is node.args[1]:
        base = node.args[0]
    elif is_op(node, "Pow") and view.number(node.args[1], rank(node)) == 2:
        base = node.args[0]
    else:
        return None
    return base if isinstance(base, fx.Node) else None


def _normalised(
    view: View, mean: fx.Node, d: fx.Node
) -> tuple[fx.Node, float, fx.Node, list[fx.Node]] | None:
    """The node that divides by the root, epsilon, what it divides, and the nodes from the mean to it."""
    shifted = only_user(mean)
    if not is_op(shifted, "Add"):
        return None
    assert shifted is not None
    epsilon = view.number(other_operand(shifted, mean), rank(mean))
    root = only_user(shifted)
    if epsilon is None or epsilon <= 0 or root is None:
        return None
    inverted = is_op(root, "Pow") and view.number(root.args[1], rank(mean)) == -0.5
    rooted = is_op(root, "Sqrt") or (is_op(root, "Pow") and view.number(root.args[1], rank(mean)) == 0.5)
    if not inverted and not rooted:
        return None
    inside = [shifted, root]
    last = only_user(root)
    if rooted and _reciprocal(view, last, root):
        assert last is not None
        inside.append(last)
        inverted, root, last = True, last, only_user(last)
    if last is None or not is_op(last, "Mul" if inverted else "Div"):
        return None
    if not inverted and last.args[1] is not root:
        return None
    divided = other_operand(last, root)
    return (last, epsilon, divided, inside) if isinstance(divided, fx.Node) else None


def _reciprocal(view: View, node: fx.Node | None, of: fx.Node) -> bool:
    if is_op(node, "Reciprocal"):
        return True
    return is_op(node, "Div") and node.args[1] is of and view.number(node.args[0], rank(of)) == 1  # type: ignore[union-attr]


def _centred(view: View, d: fx.Node, divided: fx.Node, count: int) -> tuple[fx.Node, list[fx.Node]]:
    """The value whose mean both ``d`` and ``divided`` lack, with the nodes that subtract it; else d and none.

    Some exporters subtract the mean twice.
    """
    for node in (d, divided):
        mean = node.args[1] if is_op(node, "Sub") else None
        if not isinstance(mean, fx.Node) or _last_axes(view, mean) != count:
            return d, []
        if mean.args[0] is not node.args[0] or node.args[0] is not d.args[0]:
            return d, []
    x = d.args[0]
    assert isinstance(x, fx.Node)
    means = [d.args[1], divided.args[1]]
    return x, list(dict.fromkeys(n for n in (*means, d, divided) if isinstance(n, fx.Node)))


def _affine(
    view: View, root: fx.Node, inside: list[fx.Node], count: int, shifts: bool
) -> tuple[fx.Node | None, fx.Node | None, fx.Node, list[fx.Node]]:
    """Scale and bias, if they follow, with the last node and the nodes before it."""
    found: list[fx.Node | None] = []
    for op in ("Mul", "Add") if shifts else ("Mul",):
        user = only_user(root)
        vector = other_operand(user, root) if user is not None and is_op(user, op) else None
        held = view.tensor(vector)
        if user is None or held is None or held.dim() != count or not view.may_go(root):
            found.append(None)
            continue
        inside, root = [*inside, root], user
        found.append(vector)
    scale, bias = (*found, None)[:2]
    return scale, bias, root, inside
