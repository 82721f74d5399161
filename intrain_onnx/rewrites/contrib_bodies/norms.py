"""Bodies of fused layer, RMS and group normalisation, and of EmbedLayerNormalization."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from intrain_onnx.rewrites.contrib_bodies.call import Call, body

_WIDE = ir.DataType.FLOAT
_LAYER_NORM = 17
"""First opset with LayerNormalization."""


def _epsilon(call: Call, default: float) -> float:
    value = call.real("epsilon", default)
    if value < 0:
        call.fail(f"the attribute 'epsilon' is {value}")
    return value


@body("LayerNormalization", "x gamma beta?", "y mean inverse", domain="")
def _layer_normalization(call: Call) -> str | None:
    """For opsets below 17: onnxruntime's optimiser writes it there, but onnx infers no shape."""
    if call.opset >= _LAYER_NORM or call.integer("axis", -1) != -1:
        return None
    call.ignore("stash_type")
    return _layer_norm(call, "x", _epsilon(call, 1e-5))


def _layer_norm(call: Call, x: str, epsilon: float) -> str:
    """``y = gamma (x - mean) inverse + beta``, inverse = 1 / sqrt(variance + epsilon), over the last axis."""
    if call.opset >= _LAYER_NORM:
        outputs = "y, mean, inverse" if call.wants("mean") or call.wants("inverse") else "y"
        attributes = f"<axis: int = -1, epsilon: float = {epsilon!r}>"
        return f"{outputs} = LayerNormalization {attributes} ({x}, gamma, beta)"
    affine = "scaled = Mul (normed, gamma) y = Add (scaled, beta)"
    return f"""
        mean = {call.reduce("ReduceMean", x, -1, keep=True)}
        centred = Sub ({x}, mean)
        square = Pow (centred, {call.number(2.0)})
        variance = {call.reduce("ReduceMean", "square", -1, keep=True)}
        shifted = Add (variance, {call.number(epsilon)})
        root = Sqrt (shifted)
        inverse = Reciprocal (root)
        normed = Div (centred, root)
        {affine if call.has("beta") else "y = Mul (normed, gamma)"}"""


@body("SkipLayerNormalization", "x skip gamma beta? bias?", "y mean inverse total")
def _skip_layer_normalization(call: Call) -> str:
    return f"{_sum(call)} {_layer_norm(call, 'total', _epsilon(call, 1e-12))}"


@body("SkipSimplifiedLayerNormalization", "x skip gamma bias?", "y mean inverse total")
def _skip_simplified_layer_normalization(call: Call) -> str:
    text = f"{_sum(call)} {_rms(call, 'total', 'gamma', -1, _epsilon(call, 1e-5))}"
    return f"{text} mean = Sub (inverse, inverse)" if call.wants("mean") else text


def _sum(call: Call) -> str:
    """``total = x + skip + bias``; the bias is added first to the operand that is a matrix product."""
    if not call.has("bias"):
        return "total = Add (x, skip)"
    own, other = ("skip", "x") if _is_product(call, "skip") and not _is_product(call, "x") else ("x", "skip")
    return f"biased = Add ({own}, bias) total = Add (biased, {other})"


def _is_product(call: Call, name: str) -> bool:
    value = call.value(name)
    node = value.producer() if value is not None else None
    return node is not None and node.op_type in ("MatMul", "Gemm", "FusedMatMul")


@body("SimplifiedLayerNormalization", "x scale", "y inverse", domain="")
def _simplified_layer_normalization(call: Call) -> str | None:
    axis, epsilon = call.integer("axis", -1), _epsilon(call, 1e-5)
    stash = call.integer("stash_type", 1)
    if call.type_of("x") not in (_WIDE, ir.DataType.DOUBLE) or stash not in (1, 11) or axis != -1:
        return None
    return _rms(call, "x", "scale", axis, epsilon)


def _rms(call: Call, x: str, scale: str, axis: int, epsilon: float) -> str:
    """``y = scale x inverse``, inverse = 1 / sqrt(mean(x^2) + epsilon), over the last axis."""
    if call.opset >= 23 and not call.wants("inverse") and not call.wants("mean"):
        return f"y = RMSNormalization <axis: int = {axis}, epsilon: float = {epsilon!r}> ({x}, {scale})"
    return f"""
        square = Mul ({x}, {x})
        mean_square = {call.reduce("ReduceMean", "square", axis, keep=True)}
        shifted = Add (mean_square, {call.number(epsilon)})
        root = Sqrt (shifted)
        inverse = Reciprocal (root)
        normed = Mul ({x}, inverse)
        y = Mul (normed, {scale})"""


@body(
    "EmbedLayerNormalization",
    "ids segments? words positions segment_table? gamma beta mask? places?",
    "y counted total",
)
def _embed_layer_normalization(call: Call) -> str:
    """Layer norm of word + position (+ segment) embedding; ``counted``: number of ones in each mask row."""
    call.ignore("mask_index_type")
    text, total = "word = Gather (words, ids)", "word"
    if call.has("segments") and call.has("segment_table"):
        text += " segment = Gather (segment_table, segments) both = Add (word, segment)"
        total = "both"
    if not call.has("places"):
        text += f" {call.positions('ids', 1, 'place')}"
    place = "places" if call.has("places") else "place"
    text += f" position = Gather (positions, {place}) total = Add ({total}, position)"
    return f"{text} {_layer_norm(call, 'total', _epsilon(call, 1e-12))} {_counted(call)}"


def _counted(call: Call) -> str:
    if call.has("mask"):
        return f"""one = Equal (mask, {call.literal(np.asarray(1, np.int32))})
            whole = Cast <to: int = {int(ir.DataType.INT32)}> (one)
            counted = {call.reduce("ReduceSum", "whole", 1, keep=False)}"""
    return f"""ids_shape = Shape (ids)
        batch = Slice (ids_shape, {call.ints(0)}, {call.ints(1)})
        counted = Expand ({call.literal(np.zeros(1, np.int32))}, batch)"""


@body("GroupNorm", "x gamma beta")
def _group_norm(call: Call) -> str:
    return _groups(call, "x")


@body("SkipGroupNorm", "x gamma beta skip bias?", "y total")
def _skip_group_norm(call: Call) -> str | None:
    if call.rank("skip") != 4:
        return None
    first = "x"
    text = ""
    if call.has("bias"):
        text, first = "biased = Add (x, bias)", "biased"
    return f"{text} total = Add ({first}, skip) {_groups(call, 'total')}"


def _groups(call: Call, x: str) -> str:
    """``y``: group normalisation of ``x``, NHWC or NCHW, with an optional SiLU."""
    groups, epsilon = call.count("groups"), _epsilon(call, 1e-5)
    last, swish = call.flag("channels_last", 1), call.flag("activation")
    if groups > 2**16:
        call.fail(f"the attribute 'groups' is {groups}")
    first = "moved" if last else x
    text = f"moved = Transpose <perm: ints = [0, 3, 1, 2]> ({x})" if last else ""
    kind = call.float_type().numpy()
    ones, zeros = call.literal(np.ones(groups, kind)), call.literal(np.zeros(groups, kind))
    text += f"""
        grouped = Reshape ({first}, {call.ints(0, groups, -1)})
        normed = InstanceNormalization <epsilon: float = {epsilon!r}> (grouped, {ones}, {zeros})
        whole_shape = Shape ({first})
        whole = Reshape (normed, whole_shape)
        scale = Reshape (gamma, {call.ints(1, -1, 1, 1)})
        shift = Reshape (beta, {call.ints(1, -1, 1, 1)})
        scaled = Mul (whole, scale)
        affine = Add (scaled, shift)"""
    made = "affine"
    if swish:
        text += " gate = Sigmoid (affine) active = Mul (affine, gate)"
        made = "active"
    turn = "Transpose <perm: ints = [0, 2, 3, 1]>" if last else "Identity"
    return f"{text} y = {turn} ({made})"
