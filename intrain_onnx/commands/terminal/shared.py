"""Helpers shared by the views: console, warnings, formatting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from intrain_onnx.errors import printable
from intrain_onnx.report.rows import WarningRow


def show_warnings(console: Console, warnings: Sequence[WarningRow]) -> None:
    """Print the warnings of a document, if any."""
    if not warnings:
        return
    console.print(Text("  Warnings", style="bold yellow"))
    for row in warnings:
        node = f" (node {printable(row.node, 100)})" if row.node else ""
        console.print(f"    {row.code}: {printable(row.message, 400)}{node}", soft_wrap=True)
    console.print()


def opsets(imports: Mapping[str, int]) -> str:
    """Operator set versions; the default ONNX domain is not named."""
    return ", ".join(f"{v}" if k == "ai.onnx" else f"{printable(k, 40)} {v}" for k, v in imports.items())


def left_out(share: float) -> str:
    """1 - ``share``, the share of weights in no layer, in per cent, rounded up."""
    return f"{math.ceil((1 - share) * 1000) / 10:g} %"
