"""Every operator on every element type that its schema allows, against ONNX's reference evaluator."""

import ml_dtypes
import numpy as np
import onnx.defs
import onnx_ir as ir
import pytest
import torch
from node_oracle import make_model
from onnx import helper
from onnx.reference import ReferenceEvaluator

from intrain_onnx.backend import BackendRep
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.runtime.convert import convert

OPSET = 25
RNG = np.random.default_rng(0)
I64 = np.int64


def values(dtype, shape=(2, 3)):
    """Small numbers, distinct enough to order, that the type holds exactly."""
    if dtype == np.bool_:
        return RNG.integers(0, 2, shape).astype(bool)
    unsigned = np.dtype(dtype).kind == "u" or np.dtype(dtype).name.startswith("uint")
    few = np.dtype(dtype).name in ("int2", "uint2")
    low, high = (0 if unsigned else -2 if few else -4), (2 if few else 7)
    return RNG.integers(low, high, shape).astype(np.float32).astype(dtype)


def positive(dtype, shape=(2, 3)):
    return RNG.integers(1, 5, shape).astype(np.float32).astype(dtype)


def pair(dtype):
    return [values(dtype), values(dtype, (3,))]


def one(dtype):
    return [values(dtype)]


def image(dtype):
    return [values(dtype, (1, 4, 2, 2))]


CASES = {
    "Abs": one,
    "Add": pair,
    "And": pair,
    "ArgMax": one,
    "ArgMin": one,
    "BitwiseAnd": pair,
    "BitwiseNot": one,
    "BitwiseOr": pair,
    "BitwiseXor": pair,
    "Ceil": one,
    "Clip": lambda t: [values(t), np.array(1, t), np.array(3, t)],
    "Compress": lambda t: [values(t), np.array([True, False, True])],
    "Concat": pair,
    "CumSum": lambda t: [values(t), np.array(1, I64)],
    "DepthToSpace": image,
    "Div": lambda t: [values(t), positive(t, (3,))],
    "Einsum": lambda t: [values(t), values(t, (3, 2))],
    "Equal": pair,
    "Expand": lambda t: [values(t), np.array([2, 2, 3], I64)],
    "Flatten": one,
    "Gather": lambda t: [values(t), np.array([[1, -1]], I64)],
    "GatherElements": lambda t: [values(t), np.array([[1, 0, -1]], I64)],
    "GatherND": lambda t: [values(t), np.array([[1, 0]], I64)],
    "Greater": pair,
    "GreaterOrEqual": pair,
    "Identity": one,
    "IsInf": one,
    "IsNaN": one,
    "Less": pair,
    "LessOrEqual": pair,
    "Max": pair,
    "Mean": pair,
    "Min": pair,
    "Mod": lambda t: [values(t), positive(t, (3,))],
    "Mul": pair,
    "Neg": one,
    "NonZero": one,
    "Not": one,
    "OneHot": lambda t: [np.array([0, 2], I64), np.array(3, I64), values(t, (2,))],
    "Or": pair,
    "Pad": lambda t: [values(t), np.array([1, 0, 0, 2], I64), np.array(1, t)],
    "Pow": lambda t: [positive(t), positive(t, (3,))],
    "Range": lambda t: [np.array(1, t), np.array(7, t), np.array(2, t)],
    "ReduceL1": one,
    "ReduceL2": one,
    "ReduceLogSum": lambda t: [positive(t)],
    "ReduceLogSumExp": one,
    "ReduceMax": one,
    "ReduceMean": one,
    "ReduceMin": one,
    "ReduceProd": one,
    "ReduceSum": one,
    "ReduceSumSquare": one,
    "Relu": one,
    "Reshape": lambda t: [values(t), np.array([3, -1], I64)],
    "Resize": lambda t: [values(t, (1, 1, 2, 2)), None, np.array([1, 1, 2, 2], np.float32)],
    "ReverseSequence": lambda t: [values(t, (3, 2)), np.array([2, 3], I64)],
    "ScatterElements": lambda t: [values(t), np.array([[1, 0, 1]], I64), values(t, (1, 3))],
    "ScatterND": lambda t: [values(t), np.array([[1]], I64), values(t, (1, 3))],
    "Sign": one,
    "Slice": lambda t: [
        values(t),
        np.array([2], I64),
        np.array([0], I64),
        np.array([1], I64),
        np.array([-1], I64),
    ],
    "SpaceToDepth": image,
    "Split": lambda t: [values(t, (2, 4))],
    "Squeeze": lambda t: [values(t, (2, 1))],
    "Sub": pair,
    "Sum": pair,
    "Tile": lambda t: [values(t), np.array([2, 1], I64)],
    "TopK": lambda t: [values(t), np.array([2], I64)],
    "Transpose": one,
    "Trilu": one,
    "Unique": one,
    "Unsqueeze": lambda t: [values(t), np.array([0], I64)],
    "Where": lambda t: [np.array([True, False, True]), values(t), values(t)],
    "Xor": pair,
}
ATTRIBUTES = {
    "Compress": {"axis": 1},
    "DepthToSpace": {"blocksize": 2},
    "SpaceToDepth": {"blocksize": 2},
    "Einsum": {"equation": "ij,jk->ik"},
    "Split": {"axis": 1},
    "ReverseSequence": {"time_axis": 0, "batch_axis": 1},
    "Concat": {"axis": 0},
}
OUTPUTS = {"Split": 2, "TopK": 2, "Unique": 4}
DATA_INPUT = {"OneHot": 2, "Where": 1}


REFERENCE_FAILS = {  # types that the reference evaluator raises on, or returns in another type
    "OneHot": {"bool"},
    "ReduceLogSum": {"int32", "int64", "uint32", "uint64"},
    "ReduceLogSumExp": {"int32", "int64", "uint32", "uint64"},
    "ReduceSumSquare": {"int32", "uint32"},
    "Resize": {"bool"},
}


def types_of(op_type):
    schema = onnx.defs.get_schema(op_type, OPSET)
    name = schema.inputs[DATA_INPUT.get(op_type, 0)].type_str
    allowed = [t for c in schema.type_constraints if c.type_param_str == name for t in c.allowed_type_strs]
    kinds = [t[7:-1] for t in allowed or [name] if t.startswith("tensor(")]
    left_out = {"string", "complex64", "complex128"} | REFERENCE_FAILS.get(op_type, set())
    return sorted(set(kinds) - left_out)


def numpy_type(name):
    renamed = {
        "float": "float32",
        "double": "float64",
        "float8e8m0": "float8_e8m0fnu",
        "float4e2m1": "float4_e2m1fn",
    }
    name = renamed.get(name, name.replace("float8e", "float8_e"))
    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


@pytest.mark.parametrize("op_type", CASES)
def test_every_type(op_type):
    failures = {}
    for name in types_of(op_type):
        try:
            check_type(op_type, numpy_type(name))
        except Exception as error:  # gathered, so that one run names them all
            failures[name] = repr(error)[:200]
    assert not failures, "\n".join(f"{name}: {error}" for name, error in failures.items())


def check_type(op_type, dtype):
    inputs = CASES[op_type](dtype)
    if op_type == "Concat":
        inputs[1] = inputs[1][None]
    names = ["" if v is None else f"x{i}" for i, v in enumerate(inputs)]
    outputs = [f"y{i}" for i in range(OUTPUTS.get(op_type, 1))]
    node = helper.make_node(op_type, names, outputs, **ATTRIBUTES.get(op_type, {}))
    feeds = {n: v for n, v in zip(names, inputs, strict=True) if v is not None}
    model = make_model([node], feeds, outputs, opset=OPSET)
    expected = ReferenceEvaluator(model).run(None, feeds)
    graph = ir.serde.deserialize_model(model)
    normalise(graph)
    network = BackendRep(convert(graph, half_as_float=False), torch.device("cpu"))
    for ours, theirs in zip(network.run(list(feeds.values())), expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=2e-2, atol=1e-2)
