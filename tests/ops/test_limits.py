"""Operators whose output size comes from values refuse to allocate too much."""

import pytest
import torch

from intrain_onnx.errors import LimitError
from intrain_onnx.loading.allowance import held
from intrain_onnx.loading.limits import Limits
from intrain_onnx.ops import control, fill, math, pad, random, resize, sequence, shape, signal, text, vision
from intrain_onnx.ops.limits import check_elements, element_limit

HUGE = 2**40
X = torch.zeros(1, 1, 2, 2)


def huge(*sizes):
    return torch.tensor(sizes, dtype=torch.int64)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fill.constant_of_shape(huge(2**20, 2**20)),
        lambda: fill.range_(huge(0)[0], huge(HUGE)[0], huge(1)[0]),
        lambda: fill.one_hot(huge(1), huge(HUGE)[0], torch.tensor([0.0, 1.0])),
        lambda: math.einsum(
            *[torch.zeros(1, 2**4)] * 10, equation="ab,cd,ef,gh,ij,kl,mn,op,qr,st->bdfhjlnprt"
        ),
        lambda: shape.expand(X, huge(2**20, 2**20, 2, 2)),
        lambda: shape.tile(X, huge(2**20, 2**20, 1, 1)),
        lambda: pad.pad(X, huge(0, 0, 0, 0, 0, 0, 0, HUGE)),
        lambda: pad.center_crop_pad(X, huge(1, 1, 2, HUGE)),
        lambda: resize.resize(X, None, torch.tensor([1.0, 1.0, 1e6, 1e6])),
        lambda: resize.resize(X, None, None, huge(1, 1, 2, HUGE), mode="cubic"),
        lambda: random.random_normal(shape=[HUGE], stream=0),
        lambda: random.multinomial(torch.zeros(1, 2), stream=0, sample_size=HUGE),
        lambda: signal.hann_window(huge(HUGE)[0]),
        lambda: signal.dft(torch.zeros(1, 2, 1), huge(HUGE)[0]),
        lambda: vision.affine_grid(torch.zeros(1, 2, 3), huge(1, 1, 2**20, 2**20)),
        lambda: vision.col2im(torch.zeros(1, 4, 1), huge(2**20, 2**20), huge(2, 2)),
        lambda: vision.roi_align(X, torch.zeros(1, 4), huge(0), output_height=2**20, output_width=2**20),
        lambda: text.tf_idf_vectorizer(
            huge(1),
            max_gram_length=1,
            max_skip_count=0,
            min_gram_length=1,
            mode="TF",
            ngram_counts=[0],
            ngram_indexes=[HUGE],
            pool_int64s=[1],
        ),
    ],
)
def test_refuses(call):
    with pytest.raises(LimitError, match="elements"):
        call()


def test_a_sequence_has_no_more_tensors_than_a_graph_has_values():
    x = torch.zeros(100)
    with held(Limits(values=100)):
        assert len(sequence.split_to_sequence(x)) == 100
        assert len(sequence.split_to_sequence(torch.zeros(101), torch.tensor(2))) == 51
    with held(Limits(values=99)):
        for split in (None, torch.tensor(1), torch.ones(100, dtype=torch.int64)):
            with pytest.raises(LimitError, match=r"100 tensors.* --limit values=100"):
                sequence.split_to_sequence(x, split)
        with pytest.raises(LimitError, match="100 tensors"):
            control.scan(torch.zeros(()), x, n_outputs=1, body=lambda s, e: (s + e,), num_scan_inputs=1)


def test_limit_can_be_set_and_is_put_back():
    check_elements([10, 10])
    with element_limit(99), pytest.raises(LimitError, match="100 elements"):
        check_elements([10, 10])
    check_elements([10, 10])
