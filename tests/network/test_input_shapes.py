"""Shapes and kinds of inputs from the graph alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest
from builders import model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError, UnsupportedError
from intrain_onnx.network import input_shapes
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.rewrites.normalise import normalise

SIZE = ScoreConfig.for_protocol().size
LENGTH = ScoreConfig.for_protocol().sequence


def resolved(
    text: str, weights: Mapping[str, np.ndarray] | None = None, batch: int | None = None, **settings: object
) -> Signature:
    prepared = ir.from_proto(model(text, weights))
    normalise(prepared)
    return input_shapes.resolve(prepared, ScoreConfig.for_protocol(**settings), batch=batch)  # type: ignore[arg-type]


def only(found: Signature) -> InputSpec:
    (spec,) = found.inputs
    return spec


def image(declared: str, body: str = "y = Relu(x)") -> str:
    return f"(float[{declared}] x) => (float y) {{ {body} }}"


# The batch


def test_a_symbolic_batch_takes_the_wanted_number_of_samples() -> None:
    found = resolved(image("N,3,32,32"), batch=5)
    assert (found.batch, found.fixed_batch) == (5, None)
    assert only(found).shape == (5, 3, 32, 32)
    assert resolved(image("N,3,32,32")).batch == 16
    assert resolved(image("N,3,32,32"), protocol="paper", batch=None).batch == 64


@pytest.mark.parametrize(("fixed", "wanted", "samples"), [(1, 5, 5), (4, 5, 8), (4, 4, 4), (32, 16, 32)])
def test_a_fixed_batch_is_filled_with_whole_calls(fixed: int, wanted: int, samples: int) -> None:
    found = resolved(image(f"{fixed},3,32,32"), batch=wanted)
    assert (found.batch, found.fixed_batch) == (samples, fixed)
    assert only(found).shape == (samples, 3, 32, 32)
    assert only(found).batch_axis == 0


def test_every_input_with_the_symbol_has_the_samples_wherever_it_stands() -> None:
    text = """(float[batch,7] a, float[7,batch,2] b, float[5] c, float[batch] d) => (float y) {
        y = Sum(a, b, c, d)
    }"""
    found = resolved(text, batch=6)
    assert [spec.shape for spec in found.inputs] == [(6, 7), (7, 6, 2), (5,), (6,)]
    assert [spec.batch_axis for spec in found.inputs] == [0, 1, None, 0]


@pytest.mark.parametrize(
    ("declared", "shape", "axis", "fixed"),
    [
        ("T,batch,5", (LENGTH, 6, 5), 1, None),
        ("7,batch_size,5", (7, 6, 5), 1, None),
        ("T,N,5", (LENGTH, 6, 5), 1, None),
        ("7,1,5", (7, 6, 5), 1, 1),
        ("batch,T,5", (6, LENGTH, 5), 0, None),
    ],
)
def test_the_batch_is_second_before_a_recurrence_or_where_it_is_named(
    declared: str, shape: tuple[int, ...], axis: int, fixed: int | None
) -> None:
    text = f"""(float[{declared}] x, float[1,1,6] start) => (float y) {{
        c = Identity(x)
        y = GRU<hidden_size = 6>(c, w, r, , , start)
    }}"""
    found = resolved(text, {"w": weight(1, 18, 5), "r": weight(1, 18, 6)}, batch=6)
    assert (found.inputs[0].shape, found.inputs[0].batch_axis) == (shape, axis)
    assert found.fixed_batch == fixed
    if fixed == 1:
        assert (found.inputs[1].shape, found.inputs[1].batch_axis) == ((1, 6, 6), 1)


def test_an_input_that_nothing_reads_says_nothing_about_the_batch() -> None:
    """tf2onnx leaves such inputs behind."""
    text = "(float[1,3] left, float[N,3] x) => (float[N,3] y) { y = Relu(x) }"
    assert resolved(text, batch=4).fixed_batch is None


def test_a_symbol_has_one_size_everywhere() -> None:
    text = "(int64[N,T] ids, int64[N,T] mask, float[N,T,8] x) => (float y) { y = Sum(ids, mask, x) }"
    found = resolved(text, batch=2, sequence=9)
    assert [spec.shape for spec in found.inputs] == [(2, 9), (2, 9), (2, 9, 8)]


def test_a_shape_given_for_one_input_binds_the_symbol_of_the_next() -> None:
    text = "(int64[N,T] ids, int64[N,T] mask) => (int64[N,T] y) { y = Add(ids, mask) }"
    found = resolved(text, batch=2, input_shapes={"ids": (1, 12)})
    assert [spec.shape for spec in found.inputs] == [(2, 12), (2, 12)]


# Free dimensions


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        ("N,3,H,W", (2, 3, SIZE, SIZE)),
        ("N,C,H,W", (2, 3, SIZE, SIZE)),
        ("N,H,W,3", (2, SIZE, SIZE, 3)),
        ("N,32,W,3", (2, 32, SIZE, 3)),
        ("N,3,D,H,W", (2, 3, SIZE // 2, SIZE // 2, SIZE // 2)),
        ("N,T,80", (2, LENGTH, 80)),
        ("N,T", (2, LENGTH)),
        ("N", (2,)),
    ],
)
def test_free_dimensions(declared: str, shape: tuple[int, ...]) -> None:
    assert only(resolved(image(declared), batch=2)).shape == shape


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_below_one_mean_any(size: int) -> None:
    proto = model(image("N,3,H,W"))
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = size
    found = input_shapes.resolve(ir.from_proto(proto), ScoreConfig.for_protocol(), batch=2)
    assert only(found).shape == (2, 3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("declared", "last"), [("N,32,32,3", True), ("N,3,32,32", False), ("N,3,32,3", False), ("N,H,W,1", True)]
)
def test_images_with_their_channels_last(declared: str, last: bool) -> None:
    assert only(resolved(image(declared))).channels_last is last


@pytest.mark.parametrize("group", [1, 3])
def test_the_first_convolution_tells_the_channels(group: int) -> None:
    body = f"c = Identity(x) y = Conv<group = {group}>(c, w)"
    found = resolved(image("N,C,H,W", body), {"w": weight(6, 2, 3, 3)}, batch=2)
    assert only(found).shape == (2, 2 * group, SIZE, SIZE)


@pytest.mark.parametrize("body", ["y = MatMul(x, w)", "c = Cast<to = 1>(x) y = Gemm(c, w)"])
def test_the_first_linear_layer_tells_the_features(body: str) -> None:
    assert only(resolved(image("N,F", body), {"w": weight(7, 3)}, batch=2)).shape == (2, 7)


def test_the_first_linear_layer_tells_the_width_of_a_sequence() -> None:
    found = resolved(image("N,T,F", "y = MatMul(x, w)"), {"w": weight(7, 3)}, batch=2)
    assert only(found).shape == (2, LENGTH, 7)


def test_a_transposed_weight_tells_it_by_its_other_axis() -> None:
    found = resolved(image("N,F", "y = Gemm<transB = 1>(x, w)"), {"w": weight(7, 3)}, batch=2)
    assert only(found).shape == (2, 3)


# Kinds


def kinds(text: str, weights: Mapping[str, np.ndarray] | None = None) -> dict[str, tuple[str, int]]:
    return {spec.name: (spec.kind, spec.high) for spec in resolved(text, weights).inputs}


def test_floats_are_noise() -> None:
    assert kinds(image("N,3,8,8")) == {"x": ("noise", 0)}


@pytest.mark.parametrize(
    "body",
    [
        "y = Gather(table, x)",
        "c = Cast<to = 7>(x) y = Gather(table, c)",
        "s = Slice(x, zero, two, one) u = Unsqueeze(s, one) y = Gather(table, u)",
        "t = Identity(table) y = Gather(t, x)",
        "y = Gather<axis = 1>(turned, x)",
        "n = Less(x, none) a = Add(x, size) w = Where(n, a, x) y = Gather(table, w)",
        "n = Less(x, none) p = Not(n) a = Add(x, size) i = CastLike(n, x) j = CastLike(p, x) "
        "k = Mul(a, i) l = Mul(x, j) w = Add(l, k) y = Gather(table, w)",
    ],
)
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_the_first_gather_tells_the_vocabulary(body: str, dtype: str) -> None:
    weights = {"table": weight(11, 4), "turned": weight(4, 11)}
    weights |= {n: np.array([i]) for i, n in enumerate(("zero", "one", "two"))}
    weights |= {"none": np.array(0, dtype), "size": np.array(11, dtype)}
    assert kinds(f"({dtype}[N,5] x) => (float y) {{ {body} }}", weights) == {"x": ("ids", 11)}


def test_the_depth_of_a_one_hot_tells_the_vocabulary() -> None:
    text = "(int64[N,5] x) => (float y) { y = OneHot(x, depth, values) }"
    assert kinds(text, {"depth": np.array(9), "values": weight(2)}) == {"x": ("ids", 9)}


def test_a_one_hot_that_is_written_out_tells_the_vocabulary() -> None:
    """As JAX writes it: the ids, spread over the classes, are compared with each class."""
    text = "(int32[N,5] x) => (float y) { u = Unsqueeze(x, last) h = Equal(u, classes) y = Cast<to = 1>(h) }"
    constants = {"last": np.array([-1]), "classes": np.arange(9, dtype=np.int32)[None, None]}
    assert kinds(text, constants) == {"x": ("ids", 9)}


def test_special_inputs_by_name_and_type() -> None:
    text = """(int64[N,5] ids, int64[N,5] attention_mask, float[N,5] pixel_mask, bool[N,5] keep,
        int64[N,5] position_ids, int64[N] lengths, int64 sr, uint8[N,3,8,8] photo, int32[N,5] other)
        => (float y) {
        e = Gather(words, ids)
        p = Gather(places, position_ids)
        y = Sum(e, p, attention_mask, pixel_mask, keep, lengths, sr, photo, other)
    }"""
    assert kinds(text, {"words": weight(11, 4), "places": weight(5, 4)}) == {
        "ids": ("ids", 11),
        "attention_mask": ("ones", 0),
        "pixel_mask": ("ones", 0),
        "keep": ("ones", 0),
        "position_ids": ("positions", 5),
        "lengths": ("length", 5),
        "sr": ("sampling_rate", 0),
        "photo": ("ids", 256),
        "other": ("ids", 2),
    }


# What the user sets


def test_given_shapes_fill_the_free_dimensions_and_the_batch_stays() -> None:
    found = resolved(image("N,3,H,W"), batch=4, input_shapes={"x": (1, 3, 40, 56)})
    assert only(found).shape == (4, 3, 40, 56)


def test_a_given_shape_makes_up_for_an_unknown_rank() -> None:
    proto = model(image("N,3"))
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    prepared = ir.from_proto(proto)
    with pytest.raises(UnsupportedError, match="'x' has an unknown rank") as error:
        input_shapes.resolve(prepared, ScoreConfig.for_protocol())
    assert "--input-shape x:" in (error.value.hint or "")
    config = ScoreConfig.for_protocol(input_shapes={"x": (1, 3, 40)})
    found = input_shapes.resolve(prepared, config, batch=4)
    assert (only(found).shape, found.fixed_batch) == ((4, 3, 40), None)


@pytest.mark.parametrize(
    ("shapes", "message", "hint"),
    [
        ({"z": (1, 3)}, "no input 'z'", "'x'"),
        ({"x": (1, 3)}, "rank 4.*gives 2", "?x3xHxW"),
        ({"x": (1, 4, 8, 8)}, "fixes axis 1 at 3", "x3xHxW"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    shapes: dict[str, tuple[int, ...]], message: str, hint: str
) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        resolved(image("N,3,H,W"), input_shapes=shapes)
    assert hint.lstrip("?") in (error.value.hint or "")


def test_inputs_that_are_no_tensors_of_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="holds strings"):
        resolved("(string[N] x) => (string y) { y = Identity(x) }")
    with pytest.raises(UnsupportedError, match="not a tensor"):
        resolved("(seq(float[N]) x) => (seq(float[N]) y) { y = Identity(x) }")
