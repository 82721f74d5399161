"""Formats numbers for display in a terminal, page or table; None becomes an empty string."""

from __future__ import annotations

from collections.abc import Iterable


def with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A statistic, followed by its interval if given.

    >>> with_interval(0.712, 0.68, 0.741), with_interval(0.5, None, None)
    ('.712 (.680 to .741)', '.500')
    """
    return decimals(value) if low is None else f"{decimals(value)} ({decimals(low)} to {decimals(high)})"


def decimals(value: float | None) -> str:
    """Three decimals without the leading zero; an empty string for None."""
    if value is None:
        return ""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def count(value: int | None) -> str:
    """A count with an SI-like suffix (k, M, G); ``?`` for None.

    >>> count(3_400_000), count(None)
    ('3.4 M', '?')
    """
    if value is None:
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:  # which three digits round to 1
            return f"{value / size:.3g} {unit}"
    return str(value)


def tally(value: float | None) -> str:
    """A baseline: an integer as a count, another number by its digits.

    >>> tally(3_400_000), tally(2.5), tally(None)
    ('3.4 M', '2.500', '?')
    """
    return decimal(value) if isinstance(value, float) else count(value)


def decimal(value: float | None, places: int | None = None) -> str:
    """Fixed decimal places, or four significant digits by default.

    >>> decimal(92.7036), decimal(0.12345, 2), decimal(12345.6), decimal(None)
    ('92.70', '0.12', '12346', '')
    """
    if value is None:
        return ""
    if places is None:
        whole = len(str(int(abs(value))))
        places = max(4 - whole, 0)
    return f"{value:.{places}f}"


def quantity(value: float | None) -> str:
    """Three significant digits, with an exponent only below 1e-3 and from 1e6 on.

    >>> quantity(3.14159), quantity(1234.5), quantity(2.5e9)
    ('3.14', '1,234', '2.5e9')
    """
    if value is None:
        return ""
    if value == 0 or 1e-3 <= abs(value) < 999.5:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1 <= abs(value) < 1e6 else power(value)


def power(value: float | None) -> str:
    """Scientific notation with two significant digits.

    >>> power(0.00031), power(0.0)
    ('3.1e-4', '0')
    """
    if value is None:
        return ""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(share: float | None) -> str:
    """A fraction in per cent.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '')
    """
    return "" if share is None else f"{100 * share:.1f} %"


def span(interval: tuple[float, float] | None) -> str:
    """The two ends of an interval.

    >>> span((88.853, 96.553))
    '88.85 to 96.55'
    """
    return "" if interval is None else f"{decimal(interval[0])} to {decimal(interval[1])}"


def shape(dims: Iterable[object] | None) -> str:
    r"""Sizes of a shape; a question mark for an unknown size.

    >>> shape([16, None]) == "16\N{MULTIPLICATION SIGN}?", shape([])
    (True, 'scalar')
    """
    if dims is None:
        return "unknown rank"
    return "\N{MULTIPLICATION SIGN}".join("?" if d is None else str(d) for d in dims) or "scalar"
