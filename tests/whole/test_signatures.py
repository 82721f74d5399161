"""Networks with unusual signatures (caches, masks, lengths, graphs), by both of PyTorch's exporters."""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import Any

import fixtures
import pytest
from matrix import make as matrix

from intrain_onnx import IntrainError, ScoreConfig, score

MAKERS = tuple(matrix.SIGNATURE_MAKERS)
CELLS = [(name, maker) for maker in MAKERS for name in matrix.cells(maker)]
HINTS: dict[str, dict[str, tuple[int, ...]]] = {
    "signature-key_padding-torchscript": {"tokens": (1, 9), "src_key_padding_mask": (1, 9)},
}
"""Files that need a hint: the shapes that the error of a run without it shows."""

SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "key_padding": HINTS["signature-key_padding-torchscript"],
    "unet_diffusion": {"sample": (1, 4, 16, 16)},
}
"""Networks whose two files choose other sizes, or too large ones, and those at which they are compared."""

UNREACHED = {"vits_piper": 16, "vits_plain": 1, "faster_rcnn": 3}
"""Layers that only choose lengths or boxes: no gradient can reach them, so they are not counted."""

UNCOMPARED = {
    "vits_piper": "lengths depend on the data",
    "vits_plain": "random nodes",
}
"""Networks that can't be compared with onnxruntime, and what the reason must say."""

# What fails today, and why. A row goes when that is repaired: its test fails as long as the row is left.

FAILS: dict[str, str] = {
    f"signature-unet_diffusion-{exporter}": "free height and width become 64: 4 GB of attention scores"
    for exporter in ("torchscript", "dynamo")
}
"""Files that are not scored. They are not tried, since that takes all memory."""

UNCOUNTED: dict[str, str] = {
    "signature-edm_sigma-torchscript": "one constant sigma for all samples kills the layers that embed it",
    "signature-edm_sigma-dynamo": "one constant sigma for all samples kills the layers that embed it",
    "signature-ssdlite-torchscript": "the three channels of the image are taken for samples",
}
"""Files with layers that are not counted, though data and gradients reach them."""

UNMADE: dict[str, str] = {
    "signature-gat-torchscript": "one node is fed, with edges among two",
    "signature-gat-dynamo": "one node is fed, with edges among two",
    "signature-gat_loops-torchscript": "one node is fed, with edges among two",
    "signature-gcn_pool-torchscript": "one node is fed, with edges among two",
}
"""Files whose comparison with onnxruntime is not made, though it could be."""

OTHER_SCORES: dict[str, str] = {
    "t5_step": "TorchScript's ConstantOfShape of a fed length is taken for a parameter",
    "whisper_decoder": "the table of positions behind GatherND is not seen",
    "whisper_step": "the table of positions behind GatherND is not seen",
    "gcn_pool": "nodes are taken for samples in the file of TorchScript",
    "dlrm_offsets": "the layers have other keys",
    "two_tower": "the layers have other keys: a reader of a shape counts as one of data",
}
"""Networks whose two files have other scores."""

OTHER_PARAMETERS: dict[str, str] = {
    "whisper_decoder": "the table of positions behind GatherND is not seen",
    "whisper_step": "the table of positions behind GatherND is not seen",
    "sam_decoder": "a grid of positions made from a buffer counts 512 or 8,192 elements",
    "wav2vec2_ctc": "a scalar behind GatherND is taken for a table",
    "edm_sigma": "ones and zeros of the InstanceNormalization in a written-out GroupNorm count",
    "unet_diffusion": "ones and zeros of the InstanceNormalization in a written-out GroupNorm count",
}
"""Networks whose two files have other numbers of parameters."""

MISFED: dict[str, str] = {
    "gat": "an edge index by reduction is taken for ids",
    "gcn_pool": "the vector of graphs and the edges of TorchScript's file",
    "time_series": "ones, which hide everything",
}
"""Networks with an input that is fed otherwise than it means."""

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

TRIED = [cell for cell in CELLS if matrix.file_name(*cell) not in FAILS]
PAIRS = [name for name in matrix.SIGNATURES if all((name, maker) in CELLS for maker in MAKERS)]


def marked(rows: list[Any], known: dict[str, str], *, run: bool = True) -> list[Any]:
    """Return test parameters, those that are known to fail marked as such."""
    found = []
    for row in rows:
        name = row if isinstance(row, str) else matrix.file_name(*row)
        reason = known.get(name)
        marks = pytest.mark.xfail(strict=True, reason=reason, run=run) if reason else ()
        found.append(pytest.param(row, id=name, marks=marks))
    return found


@functools.cache
def report(file: str, network: str = "") -> dict[str, Any]:
    """Score a file by default, but for fewer runs and samples, its hint, or the sizes of a network."""
    told = SIZES.get(network) or HINTS.get(file, {})
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu", input_shapes=told)
    return score(fixtures.path(file), config).data


def both(name: str) -> list[dict[str, Any]]:
    """Score both files of a network, in the same sizes."""
    files = [matrix.file_name(name, maker) for maker in MAKERS]
    return [report(file, name) if name in SIZES else report(file) for file in files]


@pytest.mark.parametrize("cell", marked(CELLS, FAILS, run=False))
def test_it_is_scored(cell: tuple[str, str]):
    assert report(matrix.file_name(*cell))["score"]["intrain"] > 0


@pytest.mark.parametrize("cell", marked(TRIED, UNCOUNTED))
def test_every_layer_counts_that_gradients_reach(cell: tuple[str, str]):
    layers = report(matrix.file_name(*cell))["layers"]
    left = Counter(layer["status"] for layer in layers if not layer["counted"])
    assert left == Counter({"unreached": UNREACHED[cell[0]]} if cell[0] in UNREACHED else {})


@pytest.mark.parametrize("file", HINTS)
def test_the_error_shows_the_hint_that_helps(file: str):
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu", parity=False)
    with pytest.raises(IntrainError) as caught:
        score(fixtures.path(file), config)
    shown = dict(re.findall(r"--input-shape (\w+):([\dx]+)", str(caught.value)))
    assert {name: tuple(map(int, sizes.split("x"))) for name, sizes in shown.items()} == HINTS[file]


@pytest.mark.parametrize("cell", marked(TRIED, UNMADE))
def test_it_agrees_with_onnxruntime_or_cannot(cell: tuple[str, str]):
    file = matrix.file_name(*cell)
    parity = report(file)["parity"]
    if cell[0] in UNCOMPARED:
        assert parity["ok"] is None
        assert UNCOMPARED[cell[0]] in parity["reason"]
    else:
        assert parity["ok"] is True, parity
        assert parity["max_rel_diff"] < 1e-3


@pytest.mark.parametrize("name", marked(PAIRS, OTHER_SCORES))
def test_both_exporters_give_one_score(name: str):
    first, second = (data["score"] for data in both(name))
    assert first["layers"] == second["layers"]
    assert first["intrain"] == pytest.approx(second["intrain"], rel=1e-4)


@pytest.mark.parametrize("name", marked(PAIRS, OTHER_PARAMETERS))
def test_both_exporters_give_as_many_parameters(name: str):
    first, second = (data["model"]["parameters"] for data in both(name))
    assert first == second


@pytest.mark.parametrize("name", marked(list(FED), MISFED))
def test_inputs_are_fed_what_they_mean(name: str):
    for maker in MAKERS:
        if name in matrix.cells(maker):
            rows = report(matrix.file_name(name, maker))["settings"]["inputs_fed"]
            kinds = {row["name"]: row["kind"] for row in rows}
            assert {key: kinds[key] for key in FED[name]} == FED[name]
