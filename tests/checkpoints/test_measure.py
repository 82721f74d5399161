"""One checkpoint against others, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import weight

from checkpoints.conftest import network, written
from intrain_onnx import score
from intrain_onnx.checkpoints.job import MeasureCheckpoint
from intrain_onnx.checkpoints.rows import Step
from intrain_onnx.checkpoints.run import settings
from intrain_onnx.checkpoints.tasks import Task

CONFIG = settings(threads=1, device="cpu")
V = weight(16, 16)


def measured(path: str, step: int = 1, first: str | None = None, previous: str | None = None) -> Step:
    return MeasureCheckpoint(CONFIG)(Task(path, step, None, first, previous, step - 1), lambda event: None)


def test_it_has_the_score_of_the_command_score(tmp_path: Path):
    """The same as ``score`` with these settings says of the file, and of its layers."""
    path = written(tmp_path, "a.onnx")
    row, report = measured(path), score(path, CONFIG).document
    assert row.status == "scored"
    assert (row.intrain, row.volume) == (report.score.intrain, report.scores["volume"].value)
    assert row.gradient_norm == report.proxies["grad_norm"].values["grad_norm"]
    for mine, its in zip(row.layers, report.layers, strict=True):
        assert (mine.name, mine.participation_ratio) == (its.name, its.participation_ratio)
        health = next(p.health for p in report.parameters if p.layer == its.name and p.role == "weight")
        assert mine.health == health
    assert [x.largest_ratio for x in row.layers] == [16, 16, 4]


def test_distances_are_norms_over_norms(tmp_path: Path):
    """Of a layer, its bias included, and of all parameters together."""
    w, c, u = weight(6, 16), weight(16, scale=0.1), weight(16, 4)
    changed = {"w": w + 0.1, "c": c * 2, "v": V * np.float32(1.5)}
    first = written(tmp_path, "s0.onnx")
    row = measured(written(tmp_path, "s1.onnx", **changed), first=first, previous=first)
    moved = [(w, changed["w"]), (c, changed["c"]), (V, changed["v"]), (u, u)]
    squares = [(float(((b - a) ** 2).sum()), float((a**2).sum())) for a, b in moved]
    (d0, n0), (d1, n1), (d2, n2), (_, n3) = squares
    wanted = [((d0 + d1) / (n0 + n1)) ** 0.5, 0.5, 0.0]
    assert [x.distance_to_first for x in row.layers] == pytest.approx(wanted, rel=1e-6)
    whole = ((d0 + d1 + d2) / (n0 + n1 + n2 + n3)) ** 0.5
    assert row.distance_to_first == row.distance_to_previous == pytest.approx(whole, rel=1e-6)


def test_layers_have_the_names_of_the_first_checkpoint(tmp_path: Path):
    first = written(tmp_path, "s0.onnx")
    proto = network({"v": V * 2})
    for node in proto.graph.node:
        node.name = f"renamed_{node.name}"
    (tmp_path / "s1.onnx").write_bytes(proto.SerializeToString())
    row = measured(str(tmp_path / "s1.onnx"), first=first, previous=first)
    assert [x.name for x in row.layers] == [x.name for x in measured(first).layers]
    assert all(x.participation_ratio is not None for x in row.layers)


def test_dead_and_cloned_channels_are_counted(tmp_path: Path):
    """Four columns of a weight are so negative that nothing passes their ReLU; two are copies."""
    c = weight(16, scale=0.1)
    c[:4] = -100
    v = np.abs(V)  # so that all of its channels are awake
    v[:, 5], v[:, 9] = v[:, 4], v[:, 8]
    row = measured(written(tmp_path, "a.onnx", c=c, v=v))
    assert [x.dead_channels for x in row.layers] == [4, 0, 0]
    assert [x.cloned_channels for x in row.layers] == [0, 2, 0]


def test_weights_that_are_not_finite_are_counted_and_placed(tmp_path: Path):
    v = V.copy()
    v[0, :3] = np.nan
    first = written(tmp_path, "s0.onnx")
    row = measured(written(tmp_path, "s1.onnx", v=v), first=first, previous=first)
    assert row.status == "failed"
    assert row.error is not None
    assert (row.error.kind, row.error.exit_code) == ("NumericalError", 5)
    assert row.not_finite == 3
    assert [x.not_finite for x in row.layers] == [0, 3, 0]
    assert row.distance_to_first == 0.0  # of the pairs that are finite


def test_another_architecture_names_the_first_difference(tmp_path: Path):
    first = written(tmp_path, "s0.onnx")
    other = written(tmp_path, "s1.onnx", v=weight(16, 24), u=weight(24, 4))
    row = measured(other, first=first, previous=first)
    assert row.status == "other"
    assert row.error is not None
    assert row.error.exit_code == 7
    assert row.error.message.startswith(f"{other}: another architecture than {first}; first difference: ")
    assert "linear two of 24x16 at depth 2" in row.error.message
    assert "has linear two of 16x16 at depth 2" in row.error.message
    assert "\n" not in row.error.message


def test_a_checkpoint_before_that_is_gone_costs_the_distance_alone(tmp_path: Path):
    row = measured(written(tmp_path, "s1.onnx"), first=str(tmp_path / "s0.onnx"))
    assert row.status == "scored"
    assert row.distance_to_first is None
    assert len(row.notes) == 1
    assert "no distance to " in row.notes[0]


def test_a_file_that_is_no_model_is_a_row_with_its_error(tmp_path: Path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    row = measured(str(tmp_path / "bad.onnx"))
    assert row.status == "failed"
    assert row.error is not None
    assert (row.error.exit_code, row.layers) == (3, ())
    assert "bad.onnx" in row.error.message
