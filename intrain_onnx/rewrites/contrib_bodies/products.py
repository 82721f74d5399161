"""Bodies of fused matrix products, convolutions and NHWC operators."""

from __future__ import annotations

from intrain_onnx.rewrites.contrib_bodies.activations import activation, fast_gelu
from intrain_onnx.rewrites.contrib_bodies.call import Call, body

CONV = {
    "auto_pad": "string",
    "dilations": "ints",
    "group": "int",
    "kernel_shape": "ints",
    "pads": "ints",
    "strides": "ints",
}
_POOL = {"auto_pad": "string", "ceil_mode": "int"} | dict.fromkeys(
    ("dilations", "kernel_shape", "pads", "strides"), "ints"
)


@body("FusedConv", "x w b? z?")
def _fused_conv(call: Call) -> str:
    return _conv(call, "x", "y")


def _conv(call: Call, x: str, y: str) -> str:
    """``y = activation(Conv(x, w, b) + z)``."""
    name, parameters = call.word("activation"), call.reals("activation_params")
    made = "h" if call.has("z") or name else y
    text = f"{made} = Conv {call.passed(**CONV)} ({x}, w, b)"
    if call.has("z"):
        made = "s" if name else y
        text += f" {made} = Add (h, z)"
    return f"{text} {activation(call, name, parameters, made, y)}" if name else text


@body("FusedGemm", "a b c?")
def _fused_gemm(call: Call) -> str:
    name = call.word("activation")
    parameters = [call.real(f"activation_{p}", 0.0) for p in ("alpha", "beta")]
    call.ignore("activation_gamma")
    kept = call.passed(alpha="float", beta="float", transA="int", transB="int")
    return (
        f"{_gemm(call, kept, 'h')} {activation(call, name, parameters, 'h', 'y')}"
        if name
        else _gemm(call, kept, "y")
    )


def _gemm(call: Call, attributes: str, y: str) -> str:
    if call.opset < 11 and not call.has("c"):
        call.refuse("Gemm without its third input before opset 11", "Export with opset 11 or newer")
    return f"{y} = Gemm {attributes} (a, b, c)"


@body("FusedMatMul", "a b")
def _fused_matmul(call: Call) -> str:
    return _matmul(call, "y")


@body("TransposeMatMul", "a b")
def _transpose_matmul(call: Call) -> str:
    return _matmul(call, "y")


@body("FusedMatMulActivation", "a b")
def _fused_matmul_activation(call: Call) -> str:
    name = call.word("activation")
    parameters = [call.real(f"activation_{p}", 0.0) for p in ("alpha", "beta")]
    call.ignore("activation_gamma")
    if name in ("Softmax", "LogSoftmax"):
        last = f"y = {name} <axis: int = {call.integer('activation_axis', -1)}> (h)"
        if call.opset < 13:
            return None  # type: ignore[return-value]
    else:
        call.ignore("activation_axis")
        last = activation(call, name, parameters, "h", "y")
    return f"{_matmul(call, 'h')} {last}"


def _matmul(call: Call, y: str) -> str:
    """``y = alpha op(A) op(B)``; ``transBatch`` first moves axis 0 behind the other batch axes."""
    alpha = call.real("alpha", 1.0)
    left, a = _turned(call, "a", call.flag("transA"), call.flag("transBatchA"))
    right, b = _turned(call, "b", call.flag("transB"), call.flag("transBatchB"))
    text = f"{left} {right}"
    if alpha == 1.0:
        return f"{text} {y} = MatMul ({a}, {b})"
    if call.is_fixed("b"):  # a following Add is then the layer's bias
        return f"{text} scaled = Mul ({a}, {call.number(alpha)}) {y} = MatMul (scaled, {b})"
    return f"{text} product = MatMul ({a}, {b}) {y} = Mul (product, {call.number(alpha)})"


def _turned(call: Call, x: str, matrix: bool, batch: bool) -> tuple[str, str]:
    """The Transpose of an operand, empty if it needs none, and the result's name."""
    if not matrix and not batch:
        return "", x
    rank = call.rank(x)
    axes = list(range(rank))
    if batch and rank < 3:
        call.fail(f"the attribute 'transBatch{x.upper()}' on an operand of {rank} axes")
    if batch:
        axes = [*axes[1:-1], 0, rank - 1]
    if matrix and rank > 1:
        axes[-2:] = axes[:-3:-1]
    if axes == list(range(rank)):
        return "", x
    return f"{x}_turned = Transpose <perm: ints = {axes}> ({x})", f"{x}_turned"


@body("GemmFastGelu", "x w bias?")
def _gemm_fast_gelu(call: Call) -> str:
    if not call.has("bias"):
        return f"h = MatMul (x, w) {fast_gelu(call, 'h', 'y')}"
    return f"m = MatMul (x, w) h = Add (m, bias) {fast_gelu(call, 'h', 'y')}"


@body("NhwcConv", "x w b?")
def _nhwc_conv(call: Call) -> str:
    return channels_last(call, f"c = Conv {call.passed(**CONV)} (first, w, b)", call.rank("w"))


@body("NhwcFusedConv", "x w b? z?")
def _nhwc_fused_conv(call: Call) -> str:
    """``y = activation(Conv(x, w, b) + z)``, all NHWC."""
    name, parameters = call.word("activation"), call.reals("activation_params")
    made = "h" if call.has("z") or name else "y"
    text = channels_last(call, f"c = Conv {call.passed(**CONV)} (first, w, b)", call.rank("w"), made)
    if call.has("z"):
        made = "s" if name else "y"
        text += f" {made} = Add (h, z)"
    return f"{text} {activation(call, name, parameters, made, 'y')}" if name else text


@body("NhwcMaxPool", "x")
def _nhwc_max_pool(call: Call) -> str:
    rank = len(call.integers("kernel_shape")) + 2
    return channels_last(call, f"c = MaxPool {call.passed(**_POOL)} (first)", rank)


def channels_last(call: Call, text: str, rank: int, y: str = "y") -> str:
    """``y`` from ``x``, both channels-last, by a text from ``first`` to ``c``, both channels-first."""
    if not 3 <= rank <= 8:
        call.fail(f"a window over {rank - 2} axes")
    first, last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    return f"""first = Transpose <perm: ints = {first}> (x)
        {text}
        {y} = Transpose <perm: ints = {last}> (c)"""


@body("ConvTransposeWithDynamicPads", "x w pads? b?")
def _conv_transpose_with_dynamic_pads(call: Call) -> str | None:
    kept = call.passed(**{n: k for n, k in CONV.items() if n != "pads"}, output_padding="ints")
    if not call.has("pads"):
        return f"y = ConvTranspose {kept} (x, w, b)"
    pads = call.constant("pads")
    if pads is None or pads.ndim != 1 or pads.size > 16 or pads.dtype.kind != "i":
        return None
    own = f"pads: ints = {[int(p) for p in pads]}"
    return f"y = ConvTranspose {f'{kept[:-1]}, {own}>' if kept else f'<{own}>'} (x, w, b)"
