"""Element types: conversions against ml_dtypes, and the way to numpy and back."""

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from node_oracle import ours, single_node
from onnx.reference import ReferenceEvaluator

from intrain_onnx.ops import narrow
from intrain_onnx.ops.cast import bit_cast, cast
from intrain_onnx.runtime.arrays import from_numpy, to_numpy

EDGES = [
    0.0,
    -0.0,
    1e-9,
    0.25,
    0.75,
    1.25,
    1.75,
    2.5,
    3.5,
    5.0,
    6.5,
    -2.4,
    447.0,
    464.0,
    465.0,
    1e5,
    np.inf,
    np.nan,
]
FLOATS = np.concatenate(
    [np.array(EDGES, np.float32), np.random.default_rng(0).normal(0, 4, 200).astype(np.float32)]
)
SMALL = ["int4", "uint4", "int2", "uint2"]
FLOAT8 = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]
OTHERS = ["float4_e2m1fn", "float8_e8m0fnu", "bfloat16", "float16"]


def torch_dtype(name):
    return from_numpy(np.zeros(1, np.dtype(name) if name == "float16" else getattr(ml_dtypes, name))).dtype


@pytest.mark.parametrize("name", [*SMALL, *FLOAT8, *OTHERS])
def test_numpy_and_back_keeps_every_bit_pattern(name):
    dtype = np.dtype("float16") if name == "float16" else np.dtype(getattr(ml_dtypes, name))
    if name in SMALL:
        info = ml_dtypes.iinfo(dtype)
        array = np.arange(int(info.min), int(info.max) + 1).astype(dtype)
    else:
        array = np.arange(16 if "float4" in name else 256).astype(f"u{dtype.itemsize}").view(dtype)
    back = to_numpy(from_numpy(array.reshape(2, -1)))
    assert back.dtype == dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", [*FLOAT8, "float4_e2m1fn"])
def test_float_rounds_as_ml_dtypes(name):
    values = FLOATS if name in FLOAT8 else FLOATS[~np.isnan(FLOATS)]  # float4 has no NaN
    ours_ = to_numpy(cast(torch.from_numpy(values), to=torch_dtype(name), saturate=0))
    expected = values.astype(getattr(ml_dtypes, name)).astype(np.float32)
    np.testing.assert_array_equal(ours_.astype(np.float32), expected)


@pytest.mark.parametrize("name", FLOAT8)
def test_saturation_gives_the_largest_finite_value(name):
    y = narrow.decode(cast(torch.tensor([1e9, -1e9, torch.inf, torch.nan]), to=torch_dtype(name)))
    limit = torch.finfo(torch_dtype(name)).max
    torch.testing.assert_close(y, torch.tensor([limit, -limit, limit, torch.nan]), equal_nan=True)


@pytest.mark.parametrize("name", SMALL)
def test_small_integers_keep_the_low_bits(name):
    values = np.arange(-20, 20)
    y = to_numpy(cast(torch.from_numpy(values), to=torch_dtype(name)))
    np.testing.assert_array_equal(y.astype(int), values.astype(getattr(ml_dtypes, name)).astype(int))


@pytest.mark.parametrize("round_mode", ["up", "down", "nearest"])
def test_e8m0_rounds_as_the_reference(round_mode):
    values = np.exp2(np.random.default_rng(0).uniform(-20, 20, 100)).astype(np.float32)
    model, inputs = single_node(
        "Cast", [values], opset_version=25, to=onnx.TensorProto.FLOAT8E8M0, round_mode=round_mode
    )
    expected = ReferenceEvaluator(model).run(None, inputs)[0].astype(np.float32)
    np.testing.assert_array_equal(ours(model, inputs)[0].float().numpy(), expected)


def test_cast_differentiates_between_floats():
    x = torch.ones(2, requires_grad=True)
    cast(x, to=torch.float64).sum().backward()
    assert x.grad is not None


def test_bit_cast_is_its_own_inverse():
    x = torch.tensor([1.0, -2.5])
    assert torch.equal(bit_cast(bit_cast(x, to=torch.int32), to=torch.float32), x)
