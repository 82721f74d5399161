"""ONNX's own backend interface over the converter: what runs the official conformance suite.

>>> from onnx import parser
>>> text = '<ir_version: 8, opset_import: ["": 18]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
>>> model = parser.parse_model(text)
>>> Backend.run_model(model, [np.array([1, -2], np.float32)])
(array([-1.,  2.], dtype=float32),)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.backend.base
import onnx_ir as ir
import torch
from torch import fx

from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.runtime.arrays import from_numpy, to_numpy
from intrain_onnx.runtime.convert import convert


class BackendRep(onnx.backend.base.BackendRep):
    """A converted model that takes and gives numpy arrays, lists of them, or None."""

    def __init__(self, module: fx.GraphModule, device: torch.device) -> None:
        self.module = module.to(device)
        self.device = device

    def run(self, inputs: Sequence[Any], **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in the graph's order, in the model's own element types."""
        with torch.no_grad():
            outputs = self.module(*(self._to_torch(value) for value in inputs))
        return tuple(_to_arrays(o) for o in (outputs if isinstance(outputs, tuple) else (outputs,)))

    def _to_torch(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, list):
            return [self._to_torch(item) for item in value]
        return from_numpy(np.asarray(value)).to(self.device)


def _to_arrays(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return to_numpy(value)
    return value if value is None else [_to_arrays(item) for item in value]


class Backend(onnx.backend.base.Backend):
    """The entry point that ONNX's tools expect. float16 and bfloat16 are computed as they are."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Convert a model, which is left as it is."""
        super().prepare(model, device, **kwargs)
        graph = ir.from_proto(model)
        normalise(graph)
        return BackendRep(convert(graph, half_as_float=False), torch.device(device.lower()))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether torch can compute there."""
        return device == "CPU" or (device.startswith("CUDA") and torch.cuda.is_available())
