"""Scores how trainable a neural network is from its ONNX file alone, without training it.

>>> import intrain_onnx
>>> report = intrain_onnx.score("samples/keras_mobile.onnx")  # doctest: +SKIP
>>> report.intrain  # doctest: +SKIP

Importing this package imports no torch; ``score``, ``to_torch`` and ``register_op`` do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.report.document import Report

if TYPE_CHECKING:
    from intrain_onnx.inspection import Inspection, inspect
    from intrain_onnx.ops import register_op
    from intrain_onnx.pipeline import score, to_torch

__all__ = [
    "Inspection",
    "IntrainError",
    "Report",
    "ScoreConfig",
    "inspect",
    "register_op",
    "score",
    "to_torch",
]

_HOMES = {
    "Inspection": "intrain_onnx.inspection",
    "inspect": "intrain_onnx.inspection",
    "register_op": "intrain_onnx.ops",
    "score": "intrain_onnx.pipeline",
    "to_torch": "intrain_onnx.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it lives, when it is asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
