"""LayerNorm and RMSNorm written out, over the last axes.

Found by the mean of squares v = mean(d^2). The normalised value is d / sqrt(v + eps), with the root in the
divisor, a reciprocal, or a power of -1/2; where d is x - mean(x) over the same axes it is LayerNorm of x,
else RMSNorm of d. The scale is a factor of the reciprocal or of the value, and LayerNorm's bias follows.
TensorFlow writes r = scale / sqrt(v + eps) and x r + (bias - mean(x) r).

It declines where the axes are not the last ones, where epsilon is not a positive constant inside of the root,
in half precision, and where the variance is mean(x^2) - mean(x)^2, which loses digits that LayerNorm keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx
from torch.nn import functional

from intrain_onnx.runtime.fuse.form import Found, View, is_op, only_user, other_operand, precision, rank


def layer_norm(x: Tensor, scale: Tensor | None, bias: Tensor | None, *, count: int, epsilon: float) -> Tensor:
    """LayerNorm over the last ``count`` axes; scale and bias broadcast."""
    shape = x.shape[x.dim() - count :]
    scale, bias = _flat(scale, count), _flat(bias, count)
    if all(p is None or p.shape == shape for p in (scale, bias)):
        return functional.layer_norm(x, shape, scale, bias, epsilon)
    y = functional.layer_norm(x, shape, None, None, epsilon)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def rms_norm(x: Tensor, scale: Tensor | None, *, count: int, epsilon: float) -> Tensor:
    """RMSNorm over the last ``count`` axes; the scale broadcasts."""
    shape = x.shape[x.dim() - count :]
    scale = _flat(scale, count)
    if scale is None or scale.shape == shape:
        return functional.rms_norm(x, shape, scale, epsilon)
    return functional.rms_norm(x, shape, None, epsilon) * scale


def _flat(parameter: Tensor | None, count: int) -> Tensor | None:
    """A parameter without axes of size one before the last ``count``."""
    return None if parameter is None else parameter.reshape(parameter.shape[parameter.dim() - count :])


@dataclass(frozen=True, slots=True)
class _Norm:
    """What was found so far.

    Attributes:
        x: what is normalised.
        mean: of x, where it is subtracted.
        count: last axes.
        epsilon: under the root.
        last: the node found last; those before it are ``inside``.
    """

    x: fx.Node
    mean: fx.Node | None
    count: int
    epsilon: float
    last: fx.Node
    inside: tuple[fx.Node, ...]
    scale: fx.Node | None = None
    bias: fx.Node | None = None

    def then(self, last: fx.Node, *inside: fx.Node, **changes: Any) -> _Norm:
        return replace(self, last=last, inside=(*self.inside, self.last, *inside), **changes)


def find(view: View, mean: fx.Node) -> Found | None:
    """The normalisation whose mean of squares a node is; None if it is none."""
    count = _last_axes(view, mean)
    d = _squared(view, mean.args[0]) if count is not None else None
    if count is None or d is None or precision(mean) is None:
        return None
    root = _root(view, mean)
    if root is None:
        return None
    epsilon, inside, last, inverted = root
    x, of_x = _centred(view, d, count)
    square: Any = mean.args[0]
    seen = tuple(n for n in (square, mean, *inside) if n is not last)
    found = _divided(view, _Norm(x, of_x, count, epsilon, last, seen), d, inverted)
    if found is None:
        return None
    for op, name in (("Mul", "scale"), ("Add", "bias")):
        found = _with(view, found, op, name)
    kwargs = {"count": count, "epsilon": epsilon}
    if found.mean is not None:
        args = (found.x, found.scale, found.bias)
        return Found(found.last, found.inside, layer_norm, args, kwargs, "LayerNormalization")
    return Found(found.last, found.inside, rms_norm, (found.x, found.scale), kwargs, "RMSNormalization")


def _last_axes(view: View, mean: Any) -> int | None:
    """How many last axes a mean that keeps its axes is over; None for anything else."""
    dims = rank(mean) if isinstance(mean, fx.Node) else None
    if is_op(mean, "GlobalAveragePool"):
        return dims - 2 if dims is not None else None
    if not is_op(mean, "ReduceMean") or mean.kwargs.get("keepdims", 1) != 1:
        return None
    axes = view.integers(mean.args[1] if len(mean.args) > 1 else mean.kwargs.get("axes"))
    if not axes or (dims is None and max(axes) >= 0):
        return None
    counted = sorted(a - dims if a >= 0 and dims is not None else a for a in axes)
    return len(counted) if counted == list(range(-len(counted), 0)) else None


def _squared(view: View, node: Any) -> fx.Node | None:
    """The value that a node squares."""
    by_itself = is_op(node, "Mul") and node.args[0] is node.args[1]
    if not by_itself and not (is_op(node, "Pow") and view.number(node.args[1], rank(node)) == 2):
        return None
    base = node.args[0]
    return base if isinstance(base, fx.Node) else None


def _root(view: View, mean: fx.Node) -> tuple[float, list[fx.Node], fx.Node, bool] | None:
    """Epsilon, the nodes from the mean to the root of both, the last of them, and whether it is inverted."""
    shifted = only_user(mean)
    if shifted is None or not is_op(shifted, "Add"):
        return None
    epsilon = view.number(other_operand(shifted, mean), rank(mean))
    root = only_user(shifted)
    if epsilon is None or epsilon <= 0 or root is None:
        return None
    power = view.number(root.args[1], rank(mean)) if is_op(root, "Pow") else 0.5 * is_op(root, "Sqrt")
    if power not in (0.5, -0.5):
        return None
    last = only_user(root)
    if power == 0.5 and last is not None and _reciprocal(view, last, root):
        return epsilon, [shifted, root, last], last, True
    return epsilon, [shifted, root], root, power == -0.5


def _reciprocal(view: View, node: fx.Node, of: fx.Node) -> bool:
    if is_op(node, "Reciprocal"):
        return True
    return is_op(node, "Div") and node.args[1] is of and view.number(node.args[0], rank(of)) == 1


def _centred(view: View, d: fx.Node, count: int) -> tuple[fx.Node, fx.Node | None]:
    """The two values that d is the difference of, if one is the mean of the other; else d and None."""
    if not is_op(d, "Sub"):
        return d, None
    operands: tuple[Any, ...] = d.args
    x, mean = operands
    if not isinstance(x, fx.Node) or _last_axes(view, mean) != count or mean.args[0] is not x:
        return d, None
    return x, mean


def _divided(view: View, found: _Norm, d: fx.Node, inverted: bool) -> _Norm | None:
    """With the node that divides by the root, or adds what TensorFlow multiplies by the reciprocal."""
    user = only_user(found.last)
    if inverted and user is not None and is_op(user, "Mul"):
        scale = other_operand(user, found.last)
        if _is_vector(view, scale, found):
            found = found.then(user, scale=scale)
            user = only_user(user)
    if user is None:
        return _apart(view, found, d) if inverted else None
    if not is_op(user, "Mul" if inverted else "Div") or (not inverted and user.args[1] is not found.last):
        return None
    divided = other_operand(user, found.last)
    if found.mean is None:
        return found.then(user) if divided is d else None
    again = _centred(view, divided, found.count) if isinstance(divided, fx.Node) else None
    if again is None or again[0] is not found.x or again[1] is None:  # some subtract the mean twice
        return None
    return found.then(user, *dict.fromkeys((d, divided, found.mean, again[1])))


def _apart(view: View, found: _Norm, d: fx.Node) -> _Norm | None:
    """With the sum of x r and -mean(x) r, r the reciprocal, or their difference, the bias in between."""
    reciprocal, users = found.last, list(found.last.users)
    if found.mean is None or len(users) != 2 or not all(is_op(u, "Mul") for u in users):
        return None
    first, second = sorted(users, key=lambda u: other_operand(u, reciprocal) is not found.x)
    mean = other_operand(second, reciprocal)
    negative = is_op(mean, "Neg")
    if other_operand(first, reciprocal) is not found.x or found.mean is not (
        mean.args[0] if negative else mean
    ):
        return None
    inside = dict.fromkeys((first, second, d, mean, found.mean))
    last = only_user(first)
    if negative and is_op(last, "Add") and only_user(second) is last:
        return found.then(last, *inside)  # type: ignore[arg-type]
    if negative or last is None:
        return None
    if is_op(last, "Sub") and last.args == (first, second):
        return found.then(last, *inside)
    rest = only_user(second)
    if rest is None or not is_op(rest, "Sub") or rest.args[1] is not second or not is_op(last, "Add"):
        return None
    if other_operand(last, first) is not rest or not _is_vector(view, rest.args[0], found):
        return None
    return found.then(last, *inside, rest, bias=rest.args[0])


def _with(view: View, found: _Norm, op: str, name: str) -> _Norm:
    """With the scale or the bias, if it follows."""
    user = only_user(found.last)
    if user is None or not is_op(user, op) or not view.may_go(found.last):
        return found
    vector = other_operand(user, found.last)
    free = found.bias is None and (name == "scale" or found.mean is not None)
    if not free or getattr(found, name) is not None or not _is_vector(view, vector, found):
        return found
    return found.then(user, **{name: vector})


def _is_vector(view: View, node: Any, found: _Norm) -> bool:
    """Whether a node reads a parameter of the normalised axes, which adds no axis to x."""
    held, dims = view.tensor(node), rank(found.x)
    if held is None or held.dim() < found.count or held.dim() > (found.count if dims is None else dims):
        return False
    return all(n == 1 for n in held.shape[: held.dim() - found.count])
