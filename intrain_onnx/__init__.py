"""Scores how trainable a neural network is from its ONNX file alone, without training it.

>>> import intrain_onnx
>>> report = intrain_onnx.score("samples/keras_mobile.onnx")  # doctest: +SKIP
>>> report.intrain  # doctest: +SKIP

Importing this package imports no torch; ``score``, ``to_torch``, ``audit_model`` and ``register_op`` do.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.report.document import Report

if _typing.TYPE_CHECKING:
    from intrain_onnx.audit.job import audit_model
    from intrain_onnx.audit.policy import Policy
    from intrain_onnx.audit.run import Audits
    from intrain_onnx.checkpoints.run import series
    from intrain_onnx.inspection import Inspection, inspect
    from intrain_onnx.ops import register_op
    from intrain_onnx.pipeline import score, to_torch
    from intrain_onnx.rank.ranking import Ranking

    __version__: str

__all__ = [
    "Audits",
    "Inspection",
    "IntrainError",
    "Policy",
    "Ranking",
    "Report",
    "ScoreConfig",
    "audit_model",
    "inspect",
    "register_op",
    "score",
    "series",
    "to_torch",
]

_HOMES = {
    "Audits": "intrain_onnx.audit.run",
    "Inspection": "intrain_onnx.inspection",
    "Policy": "intrain_onnx.audit.policy",
    "Ranking": "intrain_onnx.rank.ranking",
    "audit_model": "intrain_onnx.audit.job",
    "inspect": "intrain_onnx.inspection",
    "register_op": "intrain_onnx.ops",
    "score": "intrain_onnx.pipeline",
    "series": "intrain_onnx.checkpoints.run",
    "to_torch": "intrain_onnx.pipeline",
}


def __getattr__(name: str) -> _typing.Any:
    """Import a public name where it lives, when it is asked for."""
    if name in _HOMES:
        return getattr(_importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        from intrain_onnx.versions import version  # noqa: PLC0415

        return version("intrain-onnx") or "unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, those among them that are not imported yet."""
    return sorted({*__all__, "__version__", *(n for n in globals() if n.startswith("__"))})
