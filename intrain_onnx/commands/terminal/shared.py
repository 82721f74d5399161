"""What views share: the console, warnings, and words of the same kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from intrain_onnx.errors import printable
from intrain_onnx.report.rows import WarningRow

_PLAIN_WIDTH = 110


def console_of(stream: TextIO) -> Console:
    """A console that draws names as they are, and keeps one width where it is no terminal."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return (
        console
        if console.is_terminal
        else Console(file=stream, highlight=False, markup=False, emoji=False, width=_PLAIN_WIDTH)
    )


def show_warnings(console: Console, warnings: Sequence[WarningRow]) -> None:
    """The warnings of a document; nothing where there are none."""
    if not warnings:
        return
    console.print(Text("  Warnings", style="bold yellow"))
    for row in warnings:
        node = f" (node {printable(row.node, 100)})" if row.node else ""
        console.print(f"    {row.code}: {printable(row.message, 400)}{node}", soft_wrap=True)
    console.print()


def opsets(imports: Mapping[str, int]) -> str:
    """The versions of the operator sets; that of ONNX stands without a domain."""
    return ", ".join(f"{v}" if k == "ai.onnx" else f"{printable(k, 40)} {v}" for k, v in imports.items())


def left_out(share: float) -> str:
    """The share of the weights that is in no layer, rounded up, where ``share`` is."""
    return f"{math.ceil((1 - share) * 1000) / 10:g} %"
