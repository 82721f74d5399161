"""Resize against ONNX's reference evaluator, in every combination of its modes."""

import itertools

import numpy as np
import pytest
import torch
from node_oracle import check, ours, single_node
from onnx.reference import ReferenceEvaluator

from intrain_onnx.ops.resize import resize

RNG = np.random.default_rng(0)
TRANSFORMS = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
SCALES = [(2.0, 2.0), (3.0, 0.5), (1.7, 0.6), (0.4, 1.0)]


def agrees(values, **attributes):
    model, inputs = single_node("Resize", values, opset_version=19, **attributes)
    expected = ReferenceEvaluator(model).run(None, inputs)[0]
    (actual,) = ours(model, inputs)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-5)


def image():
    return RNG.standard_normal((1, 2, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation(mode, transform):
    for scales, antialias, exclude in itertools.product(SCALES, [0, 1], [0, 1]):
        agrees(
            [image(), None, np.array([1, 1, *scales], np.float32)],
            mode=mode,
            coordinate_transformation_mode=transform,
            antialias=antialias,
            exclude_outside=exclude,
        )


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest(nearest, transform):
    for scales in SCALES:
        agrees(
            [image(), None, np.array([1, 1, *scales], np.float32)],
            coordinate_transformation_mode=transform,
            nearest_mode=nearest,
        )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop_extrapolates(mode):
    roi = np.array([0.1, -0.2, 0.9, 1.3], np.float32)
    agrees(
        [image(), roi, None, np.array([4, 7], np.int64)],
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        axes=[2, 3],
        extrapolation_value=-9.0,
    )


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_aspect_ratio(policy):
    agrees(
        [image(), None, None, np.array([7, 9], np.int64)],
        mode="linear",
        axes=[3, 2],
        keep_aspect_ratio_policy=policy,
    )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transform", ["half_pixel", "align_corners"])
def test_native_path_equals_the_matrices(mode, transform):
    """F.interpolate is used on the last axes only, so a leading extra axis takes the matrices."""
    x, scales = torch.from_numpy(image()), [1.0, 1.0, 2.0, 3.0]
    options = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": "floor"}
    native = resize(x, None, torch.tensor(scales), **options)
    matrices = resize(x.unsqueeze(0).movedim(0, 4), None, torch.tensor([*scales, 1.0]), **options)
    torch.testing.assert_close(native, matrices.squeeze(4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_pytorch_half_pixel_of_one_element_reads_the_first(mode):
    """As onnxruntime and the specification have it; the reference evaluator reads half an element before."""
    sizes = np.array([1, 2, 1, 6], np.int64)
    check(
        "Resize",
        [image(), None, None, sizes],
        opset_version=19,
        mode=mode,
        coordinate_transformation_mode="pytorch_half_pixel",
    )
