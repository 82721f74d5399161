"""ONNX operators as pure torch functions, one module for each family. Importing this registers them all."""

from importlib import import_module
from pkgutil import iter_modules

from intrain_onnx.ops.registry import Handler, op, register_op, resolve, supported
from intrain_onnx.opset.support import since_version

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Handler", "op", "register_op", "resolve", "since_version", "supported"]
