"""Models in memory whose weights have a shape and no data: enough to analyse them, not to run them.

A search counts the operations of hundreds of candidates for each that it scores, and to write, check and hash
the weights of one takes longer than the analysis.
"""

from __future__ import annotations

import math

import onnx

from intrain_onnx import memory
from intrain_onnx.loading import allowance
from intrain_onnx.loading.external_data import ExternalFiles
from intrain_onnx.loading.file_contents import Contents
from intrain_onnx.loading.load import LoadedModel, described
from intrain_onnx.loading.model_checks import check_model
from intrain_onnx.loading.tensor_checks import Payloads, element_type
from intrain_onnx.loading.warnings import Notes


def is_outline(model: onnx.ModelProto) -> bool:
    """Whether an initializer has a shape and no data, which `load` refuses."""
    return any(map(_is_outlined, model.graph.initializer))


@memory.collector_paused()
def load_outline(model: onnx.ModelProto) -> LoadedModel:
    """Check a model but for the data of its outlined weights, which are read as zeros.

    Requires: a model that this process made. It is kept, not copied, and its digest is that of nothing.

    Raises:
        IntrainError: as `load` does, for all else.
    """
    notes = Notes()
    limits = allowance.current().limits
    payloads = _Outlined(limits, ExternalFiles(None, limits, notes))
    check_model(model, limits, payloads, notes)
    return described(model, payloads, notes, Contents(b"", 0))


class _Outlined(Payloads):
    """Checks of tensors that let one without data pass."""

    def check(self, tensor: onnx.TensorProto) -> None:
        """Check one tensor: type and shape alone of an outlined one."""
        if not _is_outlined(tensor):
            super().check(tensor)
            return
        element_type(tensor.data_type)
        self.elements(list(tensor.dims))


def _is_outlined(tensor: onnx.TensorProto) -> bool:
    """Whether a float tensor has elements, and no field that holds them."""
    return (
        tensor.data_type == onnx.TensorProto.FLOAT
        and not tensor.HasField("raw_data")
        and not tensor.float_data
        and tensor.data_location != onnx.TensorProto.EXTERNAL
        and math.prod(tensor.dims) > 0
    )
