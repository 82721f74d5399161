"""Inputs that are drawn: images, ids and positions as a network would be fed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from builders import model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.measure import inputs
from intrain_onnx.network import input_shapes
from intrain_onnx.rewrites.normalise import normalise


def image(declared: str) -> str:
    return f"(float[{declared}] x) => (float y) {{ y = Relu(x) }}"


def drawn(
    text: str, seed: int = 0, weights: Mapping[str, np.ndarray] | None = None, batch: int | None = None
) -> list[torch.Tensor]:
    prepared = ir.from_proto(model(text, weights))
    normalise(prepared)
    found = input_shapes.resolve(prepared, ScoreConfig.for_protocol(), batch=batch)
    return inputs.draw(found, torch.Generator().manual_seed(seed), torch.device("cpu"))


def test_a_network_in_nhwc_sees_the_same_images() -> None:
    (first,), (last,) = drawn(image("N,3,8,9")), drawn(image("N,8,9,3"))
    assert torch.equal(first, last.permute(0, 3, 1, 2))


def test_ids_fill_the_vocabulary_and_stay_inside() -> None:
    text = "(int64[N,50] x) => (float y) { y = Gather(table, x) }"
    (ids,) = drawn(text, weights={"table": weight(11, 4)})
    assert sorted(ids.unique().tolist()) == list(range(11))


def test_positions_count_and_wrap_at_their_table() -> None:
    text = "(int64[N,7] position_ids) => (float y) { y = Gather(table, position_ids) }"
    (positions,) = drawn(text, weights={"table": weight(5, 4)}, batch=2)
    assert positions.tolist() == [[0, 1, 2, 3, 4, 0, 1]] * 2


def test_half_precision_is_drawn_as_float32() -> None:
    (x,) = drawn("(float16[N,3] x) => (float16 y) { y = Relu(x) }")
    assert x.dtype == torch.float32


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    text = image("N,3,8,8")
    assert torch.equal(drawn(text, 1)[0], drawn(text, 1)[0])
    assert not torch.equal(drawn(text, 1)[0], drawn(text, 2)[0])
