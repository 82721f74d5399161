"""Given values on the inputs of a model: sizes and samples that follow from them, and what does not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from builders import model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.network.given_inputs import digest, fed, of_call, resolve
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.rewrites.normalise import normalise

LINEAR = "(float[N,4] x) => (float[N,8] y) { y = MatMul(x, w) }"
IMAGE = "(float[N,3,height,width] x) => (float[N,3,height,width] y) { y = Relu(x) }"


def resolved(
    text: str,
    given: Mapping[str, Any],
    weights: Mapping[str, np.ndarray] | None = None,
    batch: int | None = None,
    **settings: Any,
) -> Signature:
    prepared = ir.from_proto(model(text, {"w": weight(4, 8)} if weights is None else weights))
    normalise(prepared)
    return resolve(prepared, ScoreConfig.for_protocol(inputs=given, **settings), batch=batch)


def first(found: Signature) -> np.ndarray:
    return fed(found.inputs[0], found.given[found.inputs[0].name])


def ramp(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def test_an_array_fixes_free_sizes_and_the_number_of_samples():
    array = ramp(5, 3, 7, 9)
    found = resolved(IMAGE, {"x": array})
    assert (found.batch, found.inputs[0].shape) == (5, (5, 3, 7, 9))
    assert np.array_equal(first(found), array)
    assert digest(found.inputs[0], found.given["x"]) == hashlib.sha256(array.tobytes()).hexdigest()


def test_a_run_of_one_sample_takes_the_first():
    array = ramp(5, 3, 7, 9)
    found = resolved(IMAGE, {"x": array}, batch=1)
    assert np.array_equal(first(found), array[:1])


def test_more_samples_than_were_asked_for_are_all_taken():
    assert resolved(LINEAR, {"x": ramp(40, 4)}, batch=None).batch == 40


def test_samples_may_lie_on_the_second_axis():
    text = """(float[steps,batch,4] x) => (float[steps,1,batch,5] y, float[1,batch,5] h)
        { y, h = RNN<hidden_size = 5>(x, w, r) }"""
    weights = {"w": weight(1, 5, 4), "r": weight(1, 5, 5)}
    array = ramp(6, 3, 4)
    found = resolved(text, {"x": array}, weights)
    assert (found.batch, found.inputs[0].batch_axis, found.inputs[0].shape) == (3, 1, (6, 3, 4))
    assert np.array_equal(first(resolved(text, {"x": array}, weights, batch=1)), array[:, :1])


def test_a_size_reaches_the_inputs_that_share_its_name():
    text = """(float[N,length,4] a, float[N,length,4] b) => (float[N,length,4] y) { y = Add(a, b) }"""
    found = resolved(text, {"b": ramp(2, 11, 4)})
    assert [spec.shape for spec in found.inputs] == [(2, 11, 4)] * 2
    with pytest.raises(SettingsError, match="'length' is 11 by axis 1 of 'a' and 12 by axis 1 of 'b'"):
        resolved(text, {"a": ramp(2, 11, 4), "b": ramp(2, 12, 4)})


def test_a_size_follows_from_arrays_by_the_arithmetic_of_names():
    """A mask of 12 over ids of 7 leaves a past of 5."""
    text = """(float[N,length] ids, float[N,both] mask, float[N,past] cache) => (float[N,both] y)
        { all = Concat<axis = 1>(cache, ids) y = Mul(all, mask) }"""
    proto = model(text)
    proto.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "past + length"
    prepared = ir.from_proto(proto)
    normalise(prepared)
    given = {"ids": ramp(3, 7), "mask": ramp(3, 12)}
    found = resolve(prepared, ScoreConfig.for_protocol(inputs=given))
    assert [spec.shape for spec in found.inputs] == [(3, 7), (3, 12), (3, 5)]
    with pytest.raises(SettingsError, match=r"past \+ length"):
        resolve(prepared, ScoreConfig.for_protocol(inputs=given | {"cache": ramp(3, 6)}))


def test_a_graph_with_a_fixed_batch_takes_multiples_of_it():
    text = LINEAR.replace("N", "2")
    found = resolved(text, {"x": ramp(6, 4)})
    assert (found.batch, found.fixed_batch) == (6, 2)
    assert first(resolved(text, {"x": ramp(6, 4)}, batch=1)).tolist() == ramp(2, 4).tolist()
    for samples in (3, 1, 0):
        with pytest.raises(SettingsError, match=rf"'x' is given {samples} samples, .* takes 2 at a time"):
            resolved(text, {"x": ramp(samples, 4)})


def test_inputs_have_as_many_samples_or_one_for_all():
    text = "(float[N,4] a, float[N,4] b) => (float[N,4] y) { y = Add(a, b) }"
    found = resolved(text, {"a": ramp(1, 4), "b": ramp(3, 4)})
    assert found.batch == 3
    assert np.array_equal(first(found), np.repeat(ramp(1, 4), 3, 0))
    with pytest.raises(SettingsError, match=r"'b' is given 3 samples, and input 'a' 2\. Give as many"):
        resolved(text, {"a": ramp(2, 4), "b": ramp(3, 4)})


def test_without_an_axis_for_samples_an_array_is_one_and_a_stack_several():
    """The channels of an image without a batch are no samples."""
    text = "(float[3,8,8] x) => (float[5] y) { m = GlobalMaxPool(x)\n f = Reshape(m, s)\n y = Gather(f, i) }"
    weights = {"s": np.array([3]), "i": np.array([0, 1, 2, 0, 1])}
    one, stack = ramp(3, 8, 8), ramp(4, 3, 8, 8)
    single, several = resolved(text, {"x": one}, weights), resolved(text, {"x": stack}, weights)
    assert single.separate
    assert (single.batch, several.batch) == (1, 4)
    assert np.array_equal(first(single), one)
    assert [first(of_call(several, i)).tolist() for i in range(4)] == stack.tolist()
    assert digest(several.inputs[0], several.given["x"]) == hashlib.sha256(stack.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ("N,4", 1.5, np.full((16, 4), 1.5)),
        ("N,4", [1, 2, 3, 4], np.tile([1, 2, 3, 4], (16, 1))),
        ("N,width", [1, 2, 3], np.tile([1, 2, 3], (16, 1))),
        ("N,2,3", [1, 2, 3, 4, 5, 6], np.tile(np.reshape([1, 2, 3, 4, 5, 6], (2, 3)), (16, 1, 1))),
        ("N,2,3", [1, 2, 3], np.tile([1, 2, 3], (16, 2, 1))),
        ("N", [1, 2, 3], np.array([1, 2, 3])),
        ("N", 7, np.full(16, 7)),
        ("N,1", [7], np.full((16, 1), 7)),
    ],
)
def test_a_number_fills_and_a_list_fills_the_last_axis(declared: str, given: Any, expected: np.ndarray):
    found = resolved(f"(float[{declared}] x) => (float y) {{ y = Relu(x) }}", {"x": given})
    assert np.array_equal(first(found), expected.astype(np.float32))


def test_a_control_without_samples_is_filled_too():
    text = """(float[N,4] x, float[3] scales, float one) => (float y)
        { a = ReduceSum(scales) b = Mul(x, a) y = Mul(b, one) }"""
    found = resolved(text, {"scales": [0.5, 1, 2], "one": 3})
    assert fed(found.inputs[1], found.given["scales"]).tolist() == [0.5, 1, 2]
    assert fed(found.inputs[2], found.given["one"]).shape == ()
    assert found.batch == 16


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (LINEAR, ramp(2, 5), "input 'x' takes Nx4, and what is given has shape 2x5. Give .* shape anyx4"),
        (LINEAR, ramp(4), "input 'x' takes Nx4, and what is given has shape 4. Give an array with 2 axes"),
        (LINEAR, ramp(1, 1, 4), "input 'x' takes Nx4, and what is given has shape 1x1x4"),
        (LINEAR, [1, 2, 3], "input 'x' takes Nx4, and what is given has shape 3. Give one number, or 4"),
        (LINEAR, ramp(0, 4), "input 'x' is given 0 samples, and the graph takes 1 at a time. Give 1"),
        (IMAGE, ramp(2, 8, 8, 3), "takes Nx3xheightxwidth, and what is given has shape 2x8x8x3"),
        (IMAGE, ramp(2, 3, 0, 3), "has shape 2x3x0x3. Give an array of shape anyx3x1x3"),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_refused_with_both(text: str, given: Any, message: str):
    with pytest.raises(SettingsError, match=message):
        resolved(text, {"x": given}, {"w": weight(4, 8)})


def test_an_array_and_a_shape_of_another_size_contradict_each_other():
    settings: Any = {"input_shapes": {"x": (1, 3, 8, 8)}}
    assert resolved(IMAGE, {"x": ramp(2, 3, 8, 8)}, **settings).batch == 2
    with pytest.raises(SettingsError, match="2x3x9x8 in what is given, and 1x3x8x8 in --input-shape"):
        resolved(IMAGE, {"x": ramp(2, 3, 9, 8)}, **settings)


TYPES = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64,
    "int32": np.int32,
    "uint8": np.uint8,
    "int8": np.int8,
    "bool": np.bool_,
    "complex64": np.complex64,
    "float8e4m3fn": ml_dtypes.float8_e4m3fn,
    "int4": ml_dtypes.int4,
}


def converted(wanted: str, given: Any) -> np.ndarray:
    return first(resolved(f"({wanted}[N,2] x) => ({wanted}[N,2] y) {{ y = Identity(x) }}", {"x": given}, {}))


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("float", np.array([[1, 2**24]])),
        ("float", np.array([[True, False]])),
        ("float", np.array([[1, 255]], np.uint8)),
        ("float", np.array([[0.1, -np.inf]])),
        ("float", np.array([[1.5, 2.5]], ">f8")),
        ("double", np.array([[0.1, 2]], np.float32)),
        ("float16", np.array([[0.1, 65504]], np.float32)),
        ("bfloat16", np.array([[0.1, 3e38]], np.float32)),
        ("bfloat16", np.array([[1.5, 2]], ml_dtypes.bfloat16).view("V2")),
        ("int64", np.array([[1, -2]], np.int8)),
        ("int32", np.array([[-(2**31), 2**31 - 1]])),
        ("uint8", np.array([[0, 255]])),
        ("bool", np.array([[0, 1]])),
        ("bool", np.array([[False, True]])),
        ("complex64", np.array([[1 + 2j, 0.1]])),
        ("complex64", np.array([[1.5, 0.1]])),
        ("complex64", np.array([[1, -2]])),
        ("float8e4m3fn", np.array([[1.5, -448]])),
        ("float8e4m3fn", np.full((1, 2), 1.5, ml_dtypes.float8_e5m2)),
        ("int4", np.array([[-8, 7]])),
        ("int64", 3.0),
        ("bool", 1),
    ],
)
def test_what_the_type_holds_is_converted(wanted: str, given: Any):
    """Numpy's own conversion is the oracle; floats are rounded to the nearest of a narrower float type."""
    found = converted(wanted, given)
    plain = np.asarray(given)
    expected = plain.view(TYPES[wanted]) if plain.dtype.kind == "V" else plain.astype(TYPES[wanted])
    assert found.dtype == TYPES[wanted]
    assert found.tolist()[0] == np.broadcast_to(expected, found.shape).tolist()[0]


@pytest.mark.parametrize(
    ("wanted", "given", "message"),
    [
        ("int64", np.array([[1.0, 2.0]]), "takes int64, and what is given is float64"),
        ("bool", np.array([[1.0, 0.0]]), "takes bool, and what is given is float64"),
        ("int64", 1.5, "takes int64, which does not hold 1.5"),
        ("float", np.array([[1, 2**24 + 1]]), "takes float32, which does not hold 16777217"),
        ("double", np.array([[0, 2**53 + 1]]), "takes float64, which does not hold 9007199254740993"),
        ("float", np.array([[1, 1e39]]), "takes float32, which does not hold 1e\\+39"),
        ("float16", np.array([[1, 65520]], np.float32), "takes float16, which does not hold 65520"),
        ("bfloat16", np.array([[1, 257]]), "takes bfloat16, which does not hold 257"),
        ("int32", np.array([[2**31, 0]]), "takes int32, which does not hold 2147483648"),
        ("uint8", np.array([[0, -1]]), "takes uint8, which does not hold -1"),
        ("int8", np.array([[200, 0]], np.uint8), "takes int8, which does not hold 200"),
        ("uint8", np.array([[-56, 0]], np.int8), "takes uint8, which does not hold -56"),
        ("bool", np.array([[2, 0]]), "takes bool, which does not hold 2"),
        ("complex64", np.array([[1, 2**24 + 1]]), "takes complex64, which does not hold 16777217"),
        ("complex64", np.array([[1, 1e39j]]), "takes complex64, which does not hold 1e\\+39j"),
        ("float8e4m3fn", np.array([[1.0, 480]]), "takes float8_e4m3fn, which does not hold 480"),
        ("float16", np.ones((1, 2), ml_dtypes.bfloat16), "takes float16, and what is given is bfloat16"),
        ("int4", np.array([[8, 0]]), "takes int4, which does not hold 8"),
        ("int4", np.array([[248, 0]], np.uint8), "takes int4, which does not hold 248"),
        ("float", np.array([[1j, 0]]), "takes float32, and what is given is complex128"),
        ("float", np.zeros((1, 2), "V2"), "takes float32, and what is given is void16"),
    ],
)
def test_what_the_type_does_not_hold_is_refused(wanted: str, given: Any, message: str):
    with pytest.raises(SettingsError, match=message):
        converted(wanted, given)


def test_an_input_of_unknown_rank_takes_the_array_as_it_is():
    text = "(float x) => (float y) { y = Relu(x) }"
    prepared = ir.from_proto(model(text))
    prepared.graph.inputs[0].shape = None
    normalise(prepared)
    found = resolve(prepared, ScoreConfig.for_protocol(inputs={"x": ramp(2, 3, 5)}))
    assert (found.batch, found.inputs[0].shape) == (2, (2, 3, 5))


def test_without_given_values_nothing_changes():
    assert resolved(LINEAR, {}).given == {}
