"""Networks with unusual signatures (caches, masks, lengths, graphs), by both of PyTorch's exporters."""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import fixtures
import pytest
from matrix import make as matrix

from intrain_onnx import ScoreConfig, score

MAKERS = tuple(matrix.SIGNATURE_MAKERS)
CELLS = [(name, maker) for maker in MAKERS for name in matrix.cells(maker)]
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "key_padding": {"tokens": (1, 9), "src_key_padding_mask": (1, 9)},
    "unet_diffusion": {"sample": (1, 4, 16, 16)},
}
"""Networks whose two files take other sizes, or too large ones, and those at which they are compared."""

LARGE = ("unet_diffusion",)
"""Networks that take gigabytes at the usual size: see `tests/measure/test_budget.py`."""

UNREACHED = {"vits_piper": 16, "vits_plain": 1, "faster_rcnn": 3}
"""Layers that only choose lengths or boxes: no gradient can reach them, so they are not counted."""

DECODED = {"ssdlite": 29}
"""Networks with heads of which no box is chosen, as anchors that the graph computes are drawn like learned
offsets; fewer than so many layers: of four levels 16 of heads, and 12 of blocks that only they read."""

UNCOMPARED = {
    "vits_piper": ("lengths depend on the data", "random nodes"),
    "vits_plain": ("random nodes",),
}
"""Networks that can't be compared with onnxruntime, and what the reason must say."""

# What fails today, and why. A row goes when that is repaired: its test fails as long as the row is left.

OTHER_SCORES: dict[str, str] = {
    "dlrm_offsets": "bags are a Loop in one and a function of gathers in the other",
}
"""Networks whose two files have other scores."""

OTHER_PARAMETERS: dict[str, str] = {
    "sam_decoder": "a grid of positions made from a buffer counts 512 or 8,192 elements",
    "wav2vec2_ctc": "a scalar behind GatherND is taken for a table",
    "edm_sigma": "ones and zeros of the InstanceNormalization in a written-out GroupNorm count",
    "unet_diffusion": "ones and zeros of the InstanceNormalization in a written-out GroupNorm count",
}
"""Networks whose two files have other numbers of parameters."""

FED: dict[str, dict[str, str]] = {
    "llama_cache": {"attention_mask": "ones", "position_ids": "positions", "past_key_values.0.key": "noise"},
    "bart_step": {"encoder_attention_mask": "ones", "past_key_values.1.encoder.value": "noise"},
    "sam_decoder": {"point_labels": "ids", "mask_input": "noise", "orig_im_size": "size"},
    "vits_piper": {"input": "ids", "input_lengths": "length", "scales": "control"},
    "gat": {"x": "noise", "edge_index": "edge_index"},
    "gcn_pool": {"x": "noise", "edge_index": "edge_index"},
    "clip": {"attention_mask": "ones", "pixel_values": "noise"},
    "dlrm_offsets": {"lS_o": "offsets", "lS_i_2": "ids"},
    "bert_masked": {"attention_mask": "ones", "token_type_ids": "ids"},
    "key_padding": {"src_key_padding_mask": "zeros"},
    "time_series": {"missing_mask": "zeros", "past_time_features": "noise"},
    "detr": {"pixel_mask": "ones"},
    "rnnt": {"targets": "ids", "input_states_1": "noise"},
}
"""Kinds of what some inputs must be fed, whoever exported the network."""

PAIRS = [name for name in matrix.SIGNATURES if all((name, maker) in CELLS for maker in MAKERS)]


def marked(known: dict[str, str]) -> list[Any]:
    """Return the networks with two files, those that are known to differ marked as such."""
    return [
        pytest.param(n, marks=pytest.mark.xfail(strict=True, reason=known[n]) if n in known else ())
        for n in PAIRS
    ]


@functools.cache
def report(file: str, network: str = "") -> dict[str, Any]:
    """Score a file by default, but for fewer runs and samples, or at the sizes of a network."""
    config = ScoreConfig.for_protocol(
        seeds=1, batch=4, threads=1, device="cpu", input_shapes=SIZES.get(network, {})
    )
    return score(fixtures.path(file), config).data


def of(cell: tuple[str, str]) -> dict[str, Any]:
    """Score a file at the sizes at which it takes seconds."""
    return report(matrix.file_name(*cell), cell[0] if cell[0] in LARGE else "")


def both(name: str) -> list[dict[str, Any]]:
    """Score both files of a network, in the same sizes."""
    return [report(matrix.file_name(name, maker), name if name in SIZES else "") for maker in MAKERS]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: matrix.file_name(*cell))
def test_it_is_scored(cell: tuple[str, str]):
    assert of(cell)["score"]["intrain"] > 0


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: matrix.file_name(*cell))
def test_every_layer_counts_that_gradients_reach(cell: tuple[str, str]):
    layers = of(cell)["layers"]
    left = Counter(layer["status"] for layer in layers if not layer["counted"])
    if cell[0] in DECODED:
        assert 0 < left.pop("dead") < DECODED[cell[0]]
    assert left == Counter({"unreached": UNREACHED[cell[0]]} if cell[0] in UNREACHED else {})


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: matrix.file_name(*cell))
def test_it_agrees_with_onnxruntime_or_cannot(cell: tuple[str, str]):
    parity = of(cell)["parity"]
    if cell[0] in UNCOMPARED:
        assert parity["ok"] is None
        assert any(reason in parity["reason"] for reason in UNCOMPARED[cell[0]])
    else:
        assert parity["ok"] is True, parity
        assert parity["max_rel_diff"] < 1e-3


@pytest.mark.parametrize("name", marked(OTHER_SCORES))
def test_both_exporters_give_one_score(name: str):
    first, second = (data["score"] for data in both(name))
    assert first["layers"] == second["layers"]
    assert first["intrain"] == pytest.approx(second["intrain"], rel=1e-4)


@pytest.mark.parametrize("name", marked(OTHER_PARAMETERS))
def test_both_exporters_give_as_many_parameters(name: str):
    first, second = (data["model"]["parameters"] for data in both(name))
    assert first == second


@pytest.mark.parametrize("name", FED)
def test_inputs_are_fed_what_they_mean(name: str):
    for maker in MAKERS:
        if name in matrix.cells(maker):
            rows = of((name, maker))["settings"]["inputs_fed"]
            kinds = {row["name"]: row["kind"] for row in rows}
            assert {key: kinds[key] for key in FED[name]} == FED[name]
