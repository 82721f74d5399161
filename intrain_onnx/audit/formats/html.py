"""The audit as one self-contained HTML page."""

from __future__ import annotations

from intrain_onnx.audit.page import page as write

__all__ = ["write"]
