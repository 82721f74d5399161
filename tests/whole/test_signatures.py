"""Networks with unusual signatures (caches, masks, lengths, graphs), by both of PyTorch's exporters."""

from __future__ import annotations

import functools
import re
from typing import Any

import fixtures
import pytest
from matrix import make as matrix

from intrain_onnx import IntrainError, ScoreConfig, score

MAKERS = tuple(matrix.SIGNATURE_MAKERS)
CELLS = [(name, maker) for maker in MAKERS for name in matrix.cells(maker)]
PAIRS = [name for name in matrix.SIGNATURES if all(name in matrix.cells(maker) for maker in MAKERS)]

HINTS: dict[str, dict[str, tuple[int, ...]]] = {
    "signature-key_padding-torchscript": {"tokens": (1, 9), "src_key_padding_mask": (1, 9)},
}
"""Files that need a hint: the shapes that the error of a run without it shows."""

FAILS: dict[str, str] = {}
"""Files that are not scored, and why; a row goes when that is repaired."""

UNCOMPARED: dict[str, str] = {}
"""Files without a comparison with onnxruntime that can't have one, and what the reason says."""

UNMADE: dict[str, str] = {}
"""Files whose comparison is not made though it could be, and why; a row goes when that is repaired."""

DIFFERENT: dict[str, str] = {}
"""Networks whose two files get other scores, and why; a row goes when that is repaired."""

FED: dict[str, dict[str, str]] = {
    "llama_cache": {"attention_mask": "ones", "position_ids": "positions", "past_key_values.0.key": "noise"},
    "bart_step": {"encoder_attention_mask": "ones", "past_key_values.1.encoder.value": "noise"},
    "sam_decoder": {"point_labels": "ids", "mask_input": "noise", "orig_im_size": "size"},
    "vits_piper": {"input": "ids", "input_lengths": "length", "scales": "control"},
    "gat": {"x": "noise", "edge_index": "edge_index"},
    "unet_diffusion": {"timestep": "timestep", "encoder_hidden_states": "noise"},
    "clip": {"attention_mask": "ones", "pixel_values": "noise"},
    "dlrm_offsets": {"lS_o": "offsets", "lS_i_2": "ids"},
    "bert_masked": {"attention_mask": "ones", "token_type_ids": "ids"},
    "key_padding": {"src_key_padding_mask": "zeros"},
    "time_series": {"missing_mask": "zeros", "past_time_features": "noise"},
    "detr": {"pixel_mask": "ones"},
    "rnnt": {"targets": "ids", "input_states_1": "noise"},
}
"""Kinds of what some inputs must be fed, whoever exported the network."""

MISFED: dict[str, str] = {}
"""Networks with an input that is fed otherwise, and why; a row goes when that is repaired."""


def marked(rows: list[Any], known: dict[str, str]) -> list[Any]:
    """Return test parameters, those that are known to fail marked as such."""

    def name(row: Any) -> str:
        return row if isinstance(row, str) else matrix.file_name(*row)

    return [
        pytest.param(
            row,
            id=name(row),
            marks=pytest.mark.xfail(strict=True, reason=known[name(row)]) if name(row) in known else (),
        )
        for row in rows
    ]


@functools.cache
def report(file: str) -> dict[str, Any]:
    """Score a file by default, but for fewer runs and samples and the hint that it needs."""
    told = HINTS.get(file, {})
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu", input_shapes=told)
    return score(fixtures.path(file), config).data


@pytest.mark.parametrize("cell", marked(CELLS, FAILS))
def test_it_is_scored(cell: tuple[str, str]):
    data = report(matrix.file_name(*cell))
    assert data["score"]["intrain"] > 0
    assert data["score"]["layers"] == len(data["layers"]) >= 2


@pytest.mark.parametrize("file", HINTS)
def test_the_error_shows_the_hint_that_helps(file: str):
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu", parity=False)
    with pytest.raises(IntrainError) as caught:
        score(fixtures.path(file), config)
    shown = dict(re.findall(r"--input-shape (\w+):([\dx]+)", str(caught.value)))
    assert {name: tuple(map(int, sizes.split("x"))) for name, sizes in shown.items()} == HINTS[file]


@pytest.mark.parametrize("cell", marked([c for c in CELLS if matrix.file_name(*c) not in FAILS], UNMADE))
def test_it_agrees_with_onnxruntime_or_cannot(cell: tuple[str, str]):
    file = matrix.file_name(*cell)
    parity = report(file)["parity"]
    if cell[0] in UNCOMPARED:
        assert parity["ok"] is None
        assert UNCOMPARED[cell[0]] in parity["reason"]
    else:
        assert parity["ok"] is True, parity
        assert parity["max_rel_diff"] < 1e-3


@pytest.mark.parametrize("name", marked(PAIRS, DIFFERENT))
def test_both_exporters_give_one_network(name: str):
    first, second = (report(matrix.file_name(name, maker)) for maker in MAKERS)
    assert first["score"]["layers"] == second["score"]["layers"]
    assert first["model"]["parameters"] == second["model"]["parameters"]
    assert first["score"]["intrain"] == pytest.approx(second["score"]["intrain"], rel=1e-4)


@pytest.mark.parametrize("name", marked(list(FED), MISFED))
def test_inputs_are_fed_what_they_mean(name: str):
    for maker in MAKERS:
        if name in matrix.cells(maker):
            rows = report(matrix.file_name(name, maker))["settings"]["inputs_fed"]
            kinds = {row["name"]: row["kind"] for row in rows}
            assert {key: kinds[key] for key in FED[name]} == FED[name]
