"""Operands that an operator reads as sizes, indices or conditions, and not as numbers to compute with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SIZES: Final[Mapping[str, tuple[int, ...]]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "If": (0,),
    "Loop": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Upsample": (1,),
}
"""Inputs whose values determine the shape of the output, or which branch computes it."""

PLACES: Final[Mapping[str, tuple[int, ...]]] = {
    "Compress": (1,),
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "OneHot": (0,),
    "RoiAlign": (2,),
    "Scatter": (1,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "SequenceAt": (1,),
    "Trilu": (1,),
    "Where": (0,),
}
"""Inputs whose values determine which elements of another input the output consists of, and where."""
