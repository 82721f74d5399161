"""Convolutions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from intrain_onnx.ops.registry import op
from intrain_onnx.ops.window import Ints, Window, pad, split_pads, window

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


@op("Conv", 1, 11, 22)
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Convolution; asymmetric padding is applied before torch's kernel."""
    win = window(x, w.shape[2:], strides, dilations, pads, auto_pad)
    padding = win.begin
    if not win.symmetric:
        x, padding = pad(x, win.begin, win.end), [0] * len(padding)
    return _CONV[len(padding)](x, w, b, win.strides, padding, win.dilations, group)


@op("ConvTranspose", 1, 11, 22)
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Transposed convolution; padding crops the output, ``output_padding`` extends its end."""
    explicit = "NOTSET" if auto_pad.startswith("SAME") else auto_pad
    win = window(x, w.shape[2:], strides, dilations, pads, explicit)
    extra = list(output_padding or [0] * len(win.kernel))
    if output_shape or auto_pad.startswith("SAME"):
        win, extra = _fit(win, list(x.shape[2:]), extra, output_shape, auto_pad)
    function = _CONV_TRANSPOSE[len(win.kernel)]
    fits = all(e < max(s, d) for e, s, d in zip(extra, win.strides, win.dilations, strict=True))
    if win.symmetric and fits:
        return function(x, w, b, win.strides, win.begin, extra, group, win.dilations)
    y = function(x, w, None, win.strides, 0, 0, group, win.dilations)
    y = pad(y, [-v for v in win.begin], [e - v for e, v in zip(extra, win.end, strict=True)])
    return y if b is None else y + b.reshape([-1] + [1] * len(win.kernel))


def _fit(
    win: Window, sizes: list[int], extra: list[int], output_shape: Ints | None, auto_pad: str
) -> tuple[Window, list[int]]:
    """Padding for the wanted output size, and the extension at the end if the output is too short."""
    wanted = output_shape or [n * s for n, s in zip(sizes, win.strides, strict=True)]
    wanted = wanted[-len(sizes) :]
    surplus = [
        (n - 1) * s + e + k - want
        for n, s, e, k, want in zip(sizes, win.strides, extra, win.extents, wanted, strict=True)
    ]
    begin, end = split_pads([max(t, 0) for t in surplus], auto_pad)
    extra = [e - min(t, 0) for e, t in zip(extra, surplus, strict=True)]
    return Window(win.kernel, win.strides, win.dilations, begin, end), extra
