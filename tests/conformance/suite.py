"""ONNX's official backend tests, run through ``intrain_onnx.backend``."""

from __future__ import annotations

import unittest
import warnings

import onnx.backend.test
import torch

from intrain_onnx.backend import Backend

CATEGORIES = (
    "OnnxBackendNodeModelTest",
    "OnnxBackendSimpleModelTest",
    "OnnxBackendPyTorchConvertedModelTest",
    "OnnxBackendPyTorchOperatorModelTest",
)
"""Every category but the real models, which are downloaded."""


def backend_tests() -> onnx.backend.test.BackendTest:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's overflow warnings while onnx makes its data
        return onnx.backend.test.BackendTest(Backend, __name__)


def cases(tests: onnx.backend.test.BackendTest) -> dict[str, type[unittest.TestCase]]:
    """The categories' test cases by name, CPU tests only (torch computes on CUDA with other rounding)."""
    tests.exclude("_cuda$")
    return {name: case for name, case in tests.test_cases.items() if name in CATEGORIES}


def run(case: type[unittest.TestCase], name: str) -> BaseException | None:
    """Run one test; None where it passes."""
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(case(name), name)()
    except Exception as error:  # noqa: BLE001  (whatever it is, the test failed)
        return error
    return None
