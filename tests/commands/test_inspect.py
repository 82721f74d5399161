"""``inspect``: the static pass on the terminal and as JSON."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import model, weight
from loading.hostile import not_a_model

from .helpers import SAMPLES, Run, save, strict, unknown_operators


def test_inspect_shows_the_static_pass(cli: Run):
    result = cli("inspect", SAMPLES / "pytorch_resnet_dynamo.onnx")
    assert result.exit_code == 0
    for text in (
        "pytorch 2.",
        "opset 20",
        "input   image  float  batchx3x32x32",
        "output  logits  float  batchx10",
        "10 canonical layers",
        "batch_norm_folded",
    ):
        assert text in result.stdout, text
    rows = [
        line.split()
        for line in result.stdout.splitlines()
        if re.match(r" +\d+ +(?:stem|blocks|head)\b", line)
    ]
    depths = [int(row[0]) for row in rows]
    assert len(rows) == 10
    assert depths == sorted(depths)


def test_inspect_as_json_is_strict_and_whole(cli: Run):
    data = strict(cli("inspect", SAMPLES / "keras_mobile.onnx", "--json").stdout)
    assert set(data) == {"model", "layers", "coverage", "unsupported_ops", "warnings"}
    assert len(data["layers"]) == data["model"]["canonical_layers"] == 17
    assert data["unsupported_ops"] == {}


def test_inspect_lists_all_unsupported_operators(cli: Run, tmp_path: Path):
    result = cli("inspect", unknown_operators(tmp_path))
    assert result.exit_code == 0
    assert re.search(r"acme::Magic-1 +3 nodes\n +other::Trick-1 +1 node\n", result.stdout)


def test_inspect_shows_40_layers_unless_asked_for_all(cli: Run, tmp_path: Path):
    lines = "\n".join(f"a{i + 1} = MatMul(a{i}, w)" for i in range(50))
    file = save(tmp_path, model(f"(float[N,4] a0) => (float[N,4] a50) {{ {lines} }}", {"w": weight(4, 4)}))
    some, every = cli("inspect", file).stdout, cli("inspect", file, "--all").stdout
    assert "10 more: --all" in some
    assert "a41" not in some
    assert "a50  " in every
    assert "more:" not in every


def test_inspect_fails_as_score_does(cli: Run, tmp_path: Path):
    file = not_a_model.png_image(tmp_path)
    result = cli("inspect", file)
    assert (result.exit_code, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently")
def test_a_reader_that_goes_away_ends_it_in_silence():
    with subprocess.Popen(
        [sys.executable, "-m", "intrain_onnx", "inspect", "--json", SAMPLES / "keras_mobile.onnx"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == b""
    assert done.returncode == 141


def test_verbose_says_what_each_rewrite_did_and_why_it_declined(cli: Run):
    result = cli("inspect", SAMPLES / "keras_mobile.onnx", "-v")
    told = result.stdout.partition("Rewrites of the architecture protocol")[2]
    assert "absorb_affine_chains: 5 places" in told
    assert "more: --all" in told
    assert "nothing to do: " in told
    assert "more: --all" not in cli("inspect", SAMPLES / "keras_mobile.onnx", "-v", "--all").stdout
    found = strict(cli("inspect", SAMPLES / "pytorch_encoder_dynamo.onnx", "-v", "--json").stdout)["rewrites"]
    split = {row["rewrite"]: row for row in found}["split_fused_linear"]
    assert split["places"] == ["node_MatMul_3", "node_MatMul_92"]
    tied = {row["rewrite"]: row for row in found}["tie_embeddings"]
    assert {row["reason"] for row in tied["declined"]} == {
        "its numbers are not those of the table 'tokens.weight'"
    }


def test_verbose_shows_a_graph_that_no_loss_can_read(cli: Run, tmp_path: Path):
    path = save(tmp_path, model("(int64[N,4] x) => (int64[N,4] y) { y = Add(x, x) }"))
    result = cli("inspect", path, "-v")
    assert result.exit_code == 0
    assert "Rewrites" not in result.stdout
