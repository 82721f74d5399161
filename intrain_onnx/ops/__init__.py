"""ONNX operators as small pure torch functions, one module a family."""

from intrain_onnx.ops import math
from intrain_onnx.ops.registry import Handler, op, resolve, since_version, supported

__all__ = ["Handler", "math", "op", "resolve", "since_version", "supported"]
