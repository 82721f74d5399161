"""Tensors whose data fit their type and shape, by what onnx and numpy make of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import LimitError, ModelFileError
from intrain_onnx.loading.external_data import ExternalFiles
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.tensor_checks import Payloads
from intrain_onnx.loading.warnings import Notes

KINDS = [k for k in TensorProto.DataType.values() if k not in (TensorProto.UNDEFINED, TensorProto.STRING)]
SHAPES = [(), (1,), (7,), (3, 5), (2, 0, 4)]
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def payloads(limits: Limits | None = None) -> Payloads:
    limits = limits or Limits()
    return Payloads(limits, ExternalFiles(None, limits, Notes()))


def named(kind: int) -> str:
    return TensorProto.DataType.Name(kind)


def raw(kind: int, shape: tuple[int, ...]) -> TensorProto:
    """Ones, as numpy's array of the type is written."""
    return numpy_helper.from_array(np.ones(shape).astype(helper.tensor_dtype_to_np_dtype(kind)), "w")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_raw_data_have_the_bytes_that_onnx_writes(kind: int, shape: tuple[int, ...]):
    tensor = raw(kind, shape)
    found = payloads()
    found.check(tensor)
    assert found.nbytes == len(tensor.raw_data)
    assert found.elements(tensor.dims) == numpy_helper.to_array(tensor).size
    written = tensor.raw_data
    for data in (written + b"\0", written[:-1]):
        if data != written:
            tensor.raw_data = data
            with pytest.raises(ModelFileError, match=f"{len(data):,} bytes of data|no data"):
                payloads().check(tensor)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_typed_data_have_the_numbers_that_onnx_writes(kind: int, shape: tuple[int, ...]):
    values = np.ones(math.prod(shape)).astype(helper.tensor_dtype_to_np_dtype(kind)).tolist()
    tensor = helper.make_tensor("w", kind, shape, values)
    payloads().check(tensor)
    [field] = [name for name in FIELDS if len(getattr(tensor, name))]
    numbers = list(getattr(tensor, field))
    for wrong in (numbers[:-1], [*numbers, numbers[0]]):
        del getattr(tensor, field)[:]
        getattr(tensor, field).extend(wrong)
        with pytest.raises(ModelFileError, match=f"{len(wrong)} numbers for the shape|no data for the shape"):
            payloads().check(tensor)


@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_the_field_of_another_type_holds_nothing(kind: int):
    """onnx keeps a type in one field; in others its checker lets numbers stand that nobody reads."""
    values = np.ones(2).astype(helper.tensor_dtype_to_np_dtype(kind)).tolist()
    right = helper.make_tensor("w", kind, [2], values)
    for name in FIELDS:
        if not len(getattr(right, name)):
            tensor = TensorProto(name="w", dims=[2], data_type=kind, **{name: [1, 1]})
            with pytest.raises(ModelFileError, match=f"{name} cannot hold elements of {named(kind)}"):
                payloads().check(tensor)


def test_bytes_of_all_tensors_are_added_up():
    tensors = [raw(kind, (3, 5)) for kind in KINDS]
    total = sum(len(tensor.raw_data) for tensor in tensors)
    found = payloads(replace(Limits(), tensor_bytes=total))
    for tensor in tensors:
        found.check(tensor)
    assert found.nbytes == total
    with pytest.raises(LimitError, match=f"{total + 4:,} bytes of tensors, over the limit tensor_bytes"):
        found.check(raw(TensorProto.FLOAT, (1,)))


@pytest.mark.parametrize("shape", [(3, 5), (15, 0), (0, 15), (1, 15, 1)], ids=str)
def test_elements_are_counted_as_if_no_dimension_were_zero(shape: tuple[int, ...]):
    """numpy makes no array of (2**62, 2**62, 0): the product of the others must fit, too."""
    tensor = raw(TensorProto.FLOAT, shape)
    payloads(replace(Limits(), elements=15)).check(tensor)
    with pytest.raises(LimitError, match="over the limit elements=14"):
        payloads(replace(Limits(), elements=14)).check(tensor)


def test_external_data_that_are_not_used_are_named_once():
    found = payloads()
    for _ in range(3):
        tensor = raw(TensorProto.FLOAT, (2,))
        tensor.external_data.add(key="location", value="w.bin")
        found.check(tensor)
    [warning] = found.external.notes.warnings()
    assert warning.code == "external-unused"
    assert "(and 2 more)" in warning.message


def test_data_both_inside_and_outside_are_refused():
    tensor = raw(TensorProto.FLOAT, (2,))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    with pytest.raises(ModelFileError, match="both in the model and in an external file"):
        payloads().check(tensor)
