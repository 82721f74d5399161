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


class InModule:
    """Of a row with the name of a node, and the module that the framework has it in."""

    __slots__ = ()
    name: str
    module: str | None

    @property
    def label(self) -> str:
        """What people know it by: its module, or else its node."""
        return self.module or self.name


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON object with these keys and no others."""
