"""Bodies of fused activations, with bias, residual or dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

from intrain_onnx.rewrites.contrib_bodies.call import Call, body

_PLAIN = frozenset({"Relu", "Sigmoid", "Tanh", "Softplus", "Softsign"})
_WITH_PARAMETERS = frozenset({"LeakyRelu", "Elu", "ThresholdedRelu", "HardSigmoid", "Clip", "HardSwish"})


def activation(call: Call, name: str, parameters: Sequence[float], x: str, y: str) -> str:
    """``y = name(x)`` for an activation that onnxruntime fuses, with its ``activation_params``."""
    first, second = [*parameters, 0.0, 0.0][:2]
    if name not in _PLAIN | _WITH_PARAMETERS:
        call.refuse(f"fused activation {name!r} is not known", "Export without onnxruntime's optimiser")
    if name in _PLAIN:
        return f"{y} = {name} ({x})"
    if name in ("LeakyRelu", "Elu", "ThresholdedRelu"):
        return f"{y} = {name} <alpha: float = {first!r}> ({x})"
    if name == "HardSigmoid":
        return f"{y} = HardSigmoid <alpha: float = {first!r}, beta: float = {second!r}> ({x})"
    if name == "Clip":
        if call.opset < 11:
            return f"{y} = Clip <min: float = {first!r}, max: float = {second!r}> ({x})"
        return f"{y} = Clip ({x}, {call.number(first)}, {call.number(second)})"
    gate = f"{y}_gate = HardSigmoid <alpha: float = {1 / 6!r}, beta: float = 0.5> ({x})"  # of HardSwish
    return f"{gate} {y} = Mul ({x}, {y}_gate)"


def gelu(call: Call, x: str, y: str) -> str:
    """``y``: GELU, x Phi(x) = x / 2 (1 + erf(x / sqrt 2))."""
    if call.opset >= 20:
        return f"{y} = Gelu ({x})"
    return f"""
        {y}_scaled = Div ({x}, {call.number(math.sqrt(2))})
        {y}_erf = Erf ({y}_scaled)
        {y}_wide = Add ({y}_erf, {call.number(1.0)})
        {y}_twice = Mul ({x}, {y}_wide)
        {y} = Mul ({y}_twice, {call.number(0.5)})"""


def fast_gelu(call: Call, x: str, y: str) -> str:
    """``y``: the tanh approximation of GELU, x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    if call.opset >= 20:
        return f'{y} = Gelu <approximate: string = "tanh"> ({x})'
    return f"""
        {y}_square = Mul ({x}, {x})
        {y}_cube = Mul ({y}_square, {x})
        {y}_small = Mul ({y}_cube, {call.number(0.044715)})
        {y}_sum = Add ({x}, {y}_small)
        {y}_scaled = Mul ({y}_sum, {call.number(math.sqrt(2 / math.pi))})
        {y}_tanh = Tanh ({y}_scaled)
        {y}_wide = Add ({y}_tanh, {call.number(1.0)})
        {y}_twice = Mul ({x}, {y}_wide)
        {y} = Mul ({y}_twice, {call.number(0.5)})"""


@body("Gelu", "x")
def _gelu(call: Call) -> str:
    return gelu(call, "x", "y")


@body("BiasGelu", "x bias")
def _bias_gelu(call: Call) -> str:
    return f"h = Add (x, bias) {gelu(call, 'h', 'y')}"


@body("FastGelu", "x bias?")
def _fast_gelu(call: Call) -> str:
    if not call.has("bias"):
        return fast_gelu(call, "x", "y")
    return f"h = Add (x, bias) {fast_gelu(call, 'h', 'y')}"


@body("QuickGelu", "x")
def _quick_gelu(call: Call) -> str:
    alpha = call.real("alpha", 1.702)
    if alpha == 1.0:
        return "gate = Sigmoid (x) y = Mul (x, gate)"
    return f"h = Mul (x, {call.number(alpha)}) gate = Sigmoid (h) y = Mul (x, gate)"


@body("BiasSplitGelu", "x bias")
def _bias_split_gelu(call: Call) -> str:
    halves = call.equal_parts("h", ["left", "right"])
    return f"h = Add (x, bias) {halves} {gelu(call, 'right', 'gate')} y = Mul (left, gate)"


@body("BiasAdd", "x bias skip")
def _bias_add(call: Call) -> str:
    return "h = Add (x, bias) y = Add (h, skip)"


@body("BiasDropout", "x bias residual? ratio? training_mode?", "y mask")
def _bias_dropout(call: Call) -> str | None:
    call.ignore("seed")
    if call.opset < 12:
        return None
    dropped = "d" if call.has("residual") else "y"
    text = f"h = Add (x, bias) {dropped}, mask = Dropout (h, ratio, training_mode)"
    return f"{text} y = Add (d, residual)" if call.has("residual") else text


@body("BiasSoftmax", "x bias")
def _bias_softmax(call: Call) -> str:
    call.ignore("is_inner_broadcast")  # both are numpy broadcasting
    axis, rank = call.integer("axis", 1), call.rank("x")
    if not -rank <= axis < rank:
        call.fail(f"the attribute 'axis' is {axis}, of {rank} axes")
    axis %= rank
    text = "h = Add (x, bias)"
    if axis == rank - 1:
        return f"{text} y = Softmax <axis: int = -1> (h)"
    if call.opset < 13:
        return f"{text} y = Softmax <axis: int = {axis}> (h)"
    return f"""{text}
        rows = Flatten <axis: int = {axis}> (h)
        soft = Softmax <axis: int = -1> (rows)
        shape = Shape (h)
        y = Reshape (soft, shape)"""
