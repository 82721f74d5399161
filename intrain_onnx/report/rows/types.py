"""Base class of all rows, and bounded number types."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Magnitude = Annotated[float, Meta(ge=0)]
Ratio = Annotated[float, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Names = tuple[str, ...]
Shape = tuple[Count, ...]
Interval = tuple[float, float]


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object with these keys and no others."""
