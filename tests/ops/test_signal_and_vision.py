"""Signal, grid, region and box operators against onnxruntime or numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from node_oracle import assert_close, check, ours, single_node
from onnx.reference import ReferenceEvaluator

from intrain_onnx.ops import pad, signal, vision

RNG = np.random.default_rng(0)
I64 = np.int64


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("length", [None, 4, 7, 10])
@pytest.mark.parametrize("axis", [-2, 0, 1])
def test_dft_inverse_undoes_it(axis, length):
    x = torch.from_numpy(normal(7, 7, 2))
    n = None if length is None else torch.tensor(length)
    there = signal.dft(x, n, torch.tensor(axis))
    expected = np.fft.fft(x.numpy()[..., 0] + 1j * x.numpy()[..., 1], length, [0, 1, 1][axis])
    np.testing.assert_allclose(there.numpy(), np.stack([expected.real, expected.imag], -1), atol=1e-4)
    if length in (None, 7):
        torch.testing.assert_close(signal.dft(there, None, torch.tensor(axis), inverse=1), x)


@pytest.mark.parametrize("length", [None, 4, 9])
@pytest.mark.parametrize("parts", [1, 2])
def test_inverse_dft_against_numpy_in_float64_and_its_gradient(length, parts):
    x = torch.from_numpy(normal(2, 7, parts).astype(np.float64)).requires_grad_()
    n = None if length is None else torch.tensor(length)
    y = signal.dft(x, n, torch.tensor(1), inverse=1)
    values = x.detach().numpy()
    expected = np.fft.ifft(values[..., 0] + (1j * values[..., 1] if parts == 2 else 0), length, 1)
    np.testing.assert_allclose(y.detach().numpy(), np.stack([expected.real, expected.imag], -1), atol=1e-12)
    assert torch.autograd.gradcheck(lambda v: signal.dft(v, n, torch.tensor(1), inverse=1), x)


def test_inverse_dft_in_half_precision():
    x = torch.from_numpy(normal(1, 6, 2))
    y = signal.dft(x.half(), inverse=1)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), signal.dft(x, inverse=1), atol=2e-3, rtol=1e-2)


@pytest.mark.parametrize("size", [6, 7])
def test_onesided_dft_keeps_half_and_comes_back(size):
    x = torch.from_numpy(normal(2, size, 1))
    half = signal.dft(x, onesided=1)
    assert half.shape == (2, size // 2 + 1, 2)
    torch.testing.assert_close(signal.dft(half, torch.tensor(size), onesided=1, inverse=1), x)


@pytest.mark.parametrize("onesided", [0, 1])
def test_stft(onesided):
    window = np.hanning(8).astype(np.float32)
    check("STFT", [normal(2, 30, 1), np.array(3, I64), window], onesided=onesided, atol=1e-4)


@pytest.mark.parametrize("op_type", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [0, 1])
def test_window(op_type, periodic):
    check(op_type, [np.array(9, I64)], periodic=periodic)


def test_mel_weight_matrix():
    values = [np.array(8, I64), np.array(64, I64), np.array(8000, I64)]
    check("MelWeightMatrix", [*values, np.array(50.0, np.float32), np.array(3800.0, np.float32)])


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample(mode, padding_mode, align):
    grid = RNG.uniform(-1.2, 1.2, (1, 3, 4, 2)).astype(np.float32)
    check("GridSample", [normal(1, 2, 5, 6), grid], mode=mode, padding_mode=padding_mode, align_corners=align)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("transform", ["half_pixel", "output_half_pixel"])
def test_roi_align(mode, ratio, transform):
    rois = np.array([[0, 0, 4, 3], [1.5, 0.5, 5.9, 6.2], [3, 3, 3, 3], [-2, -2, 9, 9]], np.float32)
    model, inputs = single_node(
        "RoiAlign",
        [normal(2, 3, 6, 7), rois, np.array([0, 1, 0, 1], I64)],
        mode=mode,
        sampling_ratio=ratio,
        coordinate_transformation_mode=transform,
        output_height=3,
        output_width=2,
        spatial_scale=0.9,
    )
    assert_close(ours(model, inputs)[0], ReferenceEvaluator(model).run(None, inputs)[0])


def test_roi_align_differentiates():
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0.3, 0.2, 3.1, 2.7]], dtype=torch.float64)
    index = torch.tensor([0])

    def pool(image):
        return vision.roi_align(image, rois, index, output_height=2, output_width=2)

    assert torch.autograd.gradcheck(pool, x)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    most=st.integers(0, 6),
    overlap=st.sampled_from([0.0, 0.3, 0.7]),
    least=st.sampled_from([None, 0.4]),
    centred=st.sampled_from([0, 1]),
)
def test_non_max_suppression(seed, most, overlap, least, centred):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0.1, 1, (2, 8, 4)).astype(np.float32)
    scores = rng.integers(0, 6, (2, 2, 8)).astype(np.float32) / 5  # with equal scores
    limits = [np.array([most], I64), np.array([overlap], np.float32)]
    threshold = None if least is None else np.array([least], np.float32)
    check("NonMaxSuppression", [boxes, scores, *limits, threshold], center_point_box=centred)


@pytest.mark.parametrize(
    ("strides", "dilations", "pads"), [((1, 1), (1, 1), (0, 0, 0, 0)), ((2, 1), (1, 2), (1, 0, 2, 1))]
)
def test_col2im_is_the_adjoint_of_unfolding(strides, dilations, pads):
    """<unfold(x), y> = <x, col2im(y)>, the pads being put on by hand."""
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (pads[1], pads[3], pads[0], pads[2]))
    columns = torch.nn.functional.unfold(padded, (2, 3), dilation=dilations, stride=strides)
    y = torch.randn_like(columns)
    options = {"strides": list(strides), "dilations": list(dilations), "pads": list(pads)}
    back = vision.col2im(y, torch.tensor([6, 7]), torch.tensor([2, 3]), **options)
    torch.testing.assert_close((columns * y).sum(), (x * back).sum())


PADS = [(1, 2, 2, 0), (0, 3, 1, 3), (-1, 1, 0, -2)]
CASES = [(mode, pads) for mode in ("constant", "edge", "reflect") for pads in PADS]


@pytest.mark.parametrize(("mode", "pads"), [*CASES, ("wrap", PADS[0]), ("wrap", PADS[1])])
def test_pad(mode, pads):
    check("Pad", [normal(4, 5), np.array(pads, I64), np.array(7, np.float32)], mode=mode)


def test_pad_of_named_axes():
    x = torch.arange(6.0).reshape(1, 2, 3)
    y = pad.pad(x, torch.tensor([1, 0]), None, torch.tensor([-1]))
    assert y.tolist() == [[[0, 0, 1, 2], [0, 3, 4, 5]]]
