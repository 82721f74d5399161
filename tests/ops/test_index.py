"""Gathering, slicing, scattering and ordering against onnxruntime, on random shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_oracle import check

RNG = np.random.default_rng(0)
END = 2**63 - 1
BOUNDS = st.one_of(st.integers(-7, 7), st.sampled_from([END, -END]))
STEPS = st.sampled_from([-3, -2, -1, 1, 2, 3, 2**31])


def int64(*values):
    return np.array(values, np.int64)


@settings(max_examples=60, deadline=None)
@given(bounds=st.lists(st.tuples(BOUNDS, BOUNDS, STEPS), min_size=1, max_size=2), last=st.booleans())
def test_slice(bounds, last):
    # onnxruntime alone takes the largest end of a backward slice for the beginning
    bounds = [(start, 0 if end == END and step < 0 else end, step) for start, end, step in bounds]
    starts, ends, steps = (int64(*column) for column in zip(*bounds, strict=True))
    axes = int64(*([-1, 0] if last else [0, 1])[: len(bounds)])
    check("Slice", [RNG.standard_normal((5, 6)).astype(np.float32), starts, ends, axes, steps])


@settings(max_examples=30, deadline=None)
@given(
    axis=st.integers(-3, 2),
    indices=st.lists(st.integers(-3, 2), min_size=1, max_size=4),
    rank=st.sampled_from([0, 1, 2]),
)
def test_gather(axis, indices, rank):
    shapes = {0: (), 1: (-1,), 2: (1, -1)}
    index = int64(*indices[: None if rank else 1]).reshape(shapes[rank])
    check("Gather", [RNG.standard_normal((3, 3, 3)).astype(np.float32), index], axis=axis)


@pytest.mark.parametrize("batch_dims", [0, 1])
@pytest.mark.parametrize("depth", [1, 2])
def test_gather_nd(batch_dims, depth):
    indices = RNG.integers(-2, 2, (2, 4, depth)).astype(np.int64)
    check("GatherND", [RNG.standard_normal((2, 2, 2, 3)).astype(np.float32), indices], batch_dims=batch_dims)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("axis", [0, -1])
def test_scatter_elements(reduction, axis):
    indices = np.argsort(RNG.random((3, 4)), axis=axis).astype(np.int64) % 3  # distinct along axis 0
    indices = indices if reduction != "none" else np.tile(int64(2, 0, -3)[:, None], (1, 4))
    axis = axis if reduction != "none" else 0
    data, updates = RNG.standard_normal((4, 4)), RNG.standard_normal((3, 4))
    values = [data.astype(np.float32), indices, updates.astype(np.float32)]
    check("ScatterElements", values, axis=axis, reduction=reduction, opset_version=18)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatter_nd_with_repeated_indices(reduction):
    indices = np.array([[0, 1], [0, 1], [2, -1]], np.int64)
    data, updates = RNG.standard_normal((3, 4, 2)), RNG.standard_normal((3, 2))
    check("ScatterND", [data.astype(np.float32), indices, updates.astype(np.float32)], reduction=reduction)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    k=st.integers(1, 9),
    largest=st.booleans(),
)
def test_top_k_takes_the_first_of_equals(values, k, largest):
    k = min(k, len(values))
    check("TopK", [np.array(values, np.float32), int64(k)], n_outputs=2, largest=int(largest))


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique(axis, ordered):
    x = RNG.integers(0, 3, (4, 3)).astype(np.float32)
    attributes = {} if axis is None else {"axis": axis}
    check("Unique", [x], n_outputs=4, sorted=ordered, **attributes)


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
def test_arg_extreme_of_equals(op_type, last):
    check(op_type, [RNG.integers(0, 2, (4, 5)).astype(np.float32)], axis=1, select_last_index=last)


@pytest.mark.parametrize("axis", [-2, 0, 1, 2])
def test_one_hot_wraps_negative_indices(axis):
    check("OneHot", [np.array([[0, -1], [2, -3]]), int64(3), np.array([-1, 5], np.float32)], axis=axis)


@pytest.mark.parametrize(("batch", "time"), [(0, 1), (1, 0)])
def test_reverse_sequence(batch, time):
    lengths = int64(1, 3, 2, 3)
    x = RNG.standard_normal((4, 4, 2)).astype(np.float32)
    check("ReverseSequence", [x, lengths], batch_axis=batch, time_axis=time)


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_cum_sum(reverse, exclusive):
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    check("CumSum", [x, np.array(-1, np.int32)], reverse=reverse, exclusive=exclusive)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_changes_meaning_at_13(op_type, opset):
    check(op_type, [RNG.standard_normal((2, 3, 4)).astype(np.float32)], axis=1, opset_version=opset)
