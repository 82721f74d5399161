"""ONNX's official backend tests, run through ``intrain_onnx.backend`` or ``intrain_onnx.to_torch``."""

from __future__ import annotations

import re
import unittest
import warnings
from dataclasses import dataclass
from typing import Any

import onnx.backend.test
import torch

import intrain_onnx
from intrain_onnx.backend import Backend, BackendRep

from .excluded import CASES

CATEGORIES = (
    "OnnxBackendNodeModelTest",
    "OnnxBackendSimpleModelTest",
    "OnnxBackendPyTorchConvertedModelTest",
    "OnnxBackendPyTorchOperatorModelTest",
)
"""Every category but the real models, which are downloaded."""


@dataclass(frozen=True)
class Case:
    """One test of the suite, on the CPU."""

    category: str
    name: str
    test: type[unittest.TestCase]

    @property
    def excluded(self) -> str | None:
        """Why it is left out, or None."""
        return next((reason for pattern, reason in CASES.items() if re.search(pattern, self.name)), None)

    def run(self) -> Exception | None:
        """Run it; None where it passes."""
        torch.set_num_threads(1)
        torch.manual_seed(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                getattr(self.test(self.name), self.name)()
        except Exception as error:  # whatever it is, the test failed
            return error
        return None


class ToTorch(Backend):
    """What users call, in the place of the backend."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        return BackendRep(intrain_onnx.to_torch(model), torch.device(device.lower()))


def load_cases(backend: type[Backend] = Backend) -> list[Case]:
    """Every case, the excluded ones too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's overflow warnings while onnx makes its data
        classes = onnx.backend.test.BackendTest(backend, __name__).test_cases
    return [
        Case(category, name, classes[category])
        for category in CATEGORIES
        for name in sorted(dir(classes[category]))
        if name.startswith("test_") and name.endswith("_cpu")
    ]
