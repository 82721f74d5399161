"""Statistics as people read them."""

from __future__ import annotations

from collections.abc import Mapping


def with_interval(value: Mapping[str, float | None]) -> str:
    """``.712 (.680 to .741)``."""
    if value["low"] is None:
        return decimals(value["value"])
    return f"{decimals(value['value'])} ({decimals(value['low'])} to {decimals(value['high'])})"


def decimals(value: float | None) -> str:
    """Three decimals without the leading zero; nothing for what is not defined."""
    if value is None:
        return ""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
