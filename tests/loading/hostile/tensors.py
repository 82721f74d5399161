"""Tensors whose shape, element type and data do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import LimitError, ModelFileError, UnsupportedError

from .builders import linear, model, value, weights, write
from .cases import refused


@refused(ModelFileError, "negative dimension in the shape [-4, -4]")
def negative_dims(folder: Path) -> Path:
    tensor = weights()
    tensor.dims[:] = [-4, -4]
    return write(folder, linear(tensor))


@refused(ModelFileError, "unknown element type 99")
def data_type_99(folder: Path) -> Path:
    tensor = weights()
    tensor.data_type = 99
    return write(folder, linear(tensor))


@refused(ModelFileError, "60 bytes of data for the shape [4, 4] of FLOAT, which needs 64")
def raw_data_short(folder: Path) -> Path:
    tensor = weights()
    tensor.raw_data = tensor.raw_data[:60]
    return write(folder, linear(tensor))


@refused(ModelFileError, "68 bytes of data")
def raw_data_long(folder: Path) -> Path:
    tensor = weights()
    tensor.raw_data += bytes(4)
    return write(folder, linear(tensor))


@refused(ModelFileError, "no data for the shape")
def no_data(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[2**17, 2**17], data_type=TensorProto.FLOAT)))


@refused(ModelFileError, "more than one field")
def data_twice(folder: Path) -> Path:
    tensor = weights()
    tensor.float_data.extend([0.0] * 16)
    return write(folder, linear(tensor))


@refused(ModelFileError, "3 numbers for the shape [4, 4]")
def typed_data_short(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[4, 4], data_type=1, float_data=[1, 2, 3])))


@refused(ModelFileError, "int64_data cannot hold")
def typed_data_wrong(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[1, 1], data_type=1, int64_data=[1])))


@refused(LimitError, "over the limit rank=32")
def rank_1000(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[1] * 1000, data_type=1, float_data=[1])))


@refused(LimitError, "over the limit rank=32")
def rank_1000_input(folder: Path) -> Path:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return write(folder, model(nodes, inputs=[value("x", [1] * 1000)]))


@refused(LimitError, "over the limit elements")
def dims_that_overflow(folder: Path) -> Path:
    return write(folder, linear(TensorProto(name="w", dims=[2**62, 2**62, 0], data_type=1)))


@refused(UnsupportedError, "sparse initializer 'w'")
def sparse_to_terabytes(folder: Path) -> Path:
    proto = linear()
    del proto.graph.initializer[:]
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**6, 10**6]))
    return write(folder, proto)
