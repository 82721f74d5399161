"""``compare``: the same architecture or not, and where the first difference lies."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from intrain_onnx import ScoreConfig, score
from intrain_onnx.cli import main
from intrain_onnx.report import comparison
from intrain_onnx.report.comparison import LayerList, LayerRow

SAMPLES = Path(__file__).parents[2] / "samples"


def network(*shapes: tuple[int, ...], figures: dict[str, float] | None = None) -> LayerList:
    rows = [
        LayerRow(f"layer{i}", "linear", s, i + 1, f"{i}{s}{shapes[i - 1 : i]}{shapes[i + 1 : i + 2]}")
        for i, s in enumerate(shapes)
    ]
    return LayerList(rows, figures or {})


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_same_layers_are_the_same_whatever_their_names_and_order():
    one = network((4, 3), (5, 4))
    renamed = [LayerRow(x.name + "!", x.kind, x.shape, x.depth, x.key) for x in reversed(one.layers)]
    found = comparison.compare(one, LayerList(renamed, {}))
    assert found.same
    assert found.first_difference is None
    assert [(a.key, b.key) for a, b in found.rows if a and b] == [(x.key, x.key) for x in one.layers]


@pytest.mark.parametrize(
    ("other", "index"),
    [
        (((4, 3), (6, 4), (2, 6)), 1),
        (((4, 3), (5, 4)), 2),
        (((8, 3), (5, 8), (2, 5)), 0),
    ],
)
def test_the_first_difference_is_the_first_layer_that_differs_in_itself(other, index):
    found = comparison.compare(network((4, 3), (5, 4), (2, 5)), network(*other))
    assert not found.same
    assert found.first_difference == index


def test_an_inserted_layer_stands_alone():
    found = comparison.compare(network((4, 3), (2, 4)), network((4, 3), (4, 4), (2, 4)))
    sides = [(a is not None, b is not None) for a, b in found.rows]
    assert sides[0] == (True, True)
    assert found.first_difference == 1
    assert sum(b for _, b in sides) == 3


def test_figures_of_reports_are_compared():
    one = network((4, 3), figures={"intrain": 10.0})
    found = comparison.compare(one, network((4, 3), figures={"intrain": 8.0}))
    assert found.same
    assert found.scores["intrain"] == (10.0, 8.0, pytest.approx(0.2))


def measured(*pairs: tuple[float | None, float | None]) -> LayerList:
    rows = [
        LayerRow(f"l{i}", "linear", (4, 4), i, "same" if i < 2 else str(i), "measured", ratio, health)
        for i, (ratio, health) in enumerate(pairs)
    ]
    return LayerList(rows, {"intrain": 1.0})


def test_the_layers_that_moved_most_come_first():
    """By the logarithm of new over old, of ratio or health; layers with one key are paired in order."""
    old = measured((8.0, 0.2), (9.0, 0.2), (4.0, 0.2), (5.0, 0.2), (6.0, 0.2))
    new = measured((8.0, 0.2), (9.0, 0.1), (1.0, 0.2), (None, 0.2), (6.0001, 0.2))
    moved = comparison.moves(comparison.compare(old, new))
    assert [m.new.name for m in moved] == ["l3", "l2", "l1"]
    assert [m.change for m in moved] == [math.inf, pytest.approx(math.log(4)), pytest.approx(math.log(2))]
    assert comparison.moves(comparison.compare(old, old)) == []


def test_reports_show_which_layer_moved(tmp_path: Path):
    """A layer whose ReLU never opens again, held against the rows of both reports."""
    model = onnx.load(SAMPLES / "pytorch_resnet_dynamo.onnx")
    [bias] = [t for t in model.graph.initializer if t.name == "blocks.1.conv1.weight_bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) - np.float32(100), bias.name))
    onnx.save(model, tmp_path / "broken.onnx")
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, file in zip(
        (SAMPLES / "pytorch_resnet_dynamo.onnx", tmp_path / "broken.onnx"), files, strict=True
    ):
        config = ScoreConfig.for_protocol(
            "checkpoint", seeds=1, batch=4, threads=1, device="cpu", parity=False
        )
        score(path, config).save(file)
    code, output = run("--reports", *files)
    assert code == 0, output
    rows = {line.split()[0]: line for line in output.splitlines() if " → " in line}
    layers = [{x["name"]: x for x in json.loads(file.read_text())["layers"]} for file in files]
    assert layers[1]["node_Conv_141"]["status"] == "dead"
    assert f"{layers[0]['node_Conv_141']['participation_ratio']:.3g} → dead" in rows["node_Conv_141"]
    assert "→ 0.000" in rows["node_Conv_139"]
    assert list(rows)[:2] == ["node_Conv_139", "node_Conv_141"]
    assert "differ in" not in output
    code, output = run("--reports", files[0], files[0])
    assert "no layer moved" in output
    other = json.loads(files[0].read_text())
    other["settings"]["seed"] = 7
    files[1].write_text(json.dumps(other))
    assert "the reports differ in seed, which moves" in run("--reports", *files)[1]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("pytorch_resnet_training", "pytorch_resnet_dynamo"),
        ("pytorch_resnet_torchscript", "pytorch_resnet_dynamo"),
        ("pytorch_encoder_torchscript", "pytorch_encoder_dynamo"),
    ],
)
def test_exports_of_one_network_are_the_same(a, b):
    code, output = run(SAMPLES / f"{a}.onnx", SAMPLES / f"{b}.onnx")
    assert code == 0, output
    assert output.startswith("the same architecture")


def test_other_networks_differ_and_say_where():
    code, output = run(SAMPLES / "jax_cnn.onnx", SAMPLES / "keras_mobile.onnx")
    assert code == 7
    assert "different architectures: 4 and 17" in output
    assert "first difference" in output


def test_reports(tmp_path: Path):
    names = ("pytorch_resnet_torchscript", "pytorch_resnet_dynamo")
    runner = CliRunner()
    for name in names:
        done = runner.invoke(
            main,
            ["score", str(SAMPLES / f"{name}.onnx"), "-o", str(tmp_path), "--seeds", "1", "--no-parity"],
        )
        assert done.exit_code == 0, done.output
    paths = [tmp_path / f"{name}.intrain.json" for name in names]
    code, output = run(*paths, "--reports", "--all")
    assert code == 0, output
    assert "relative difference" in output
    assert all(layer["name"][:20] in output for layer in json.loads(paths[0].read_text())["layers"][:3])


def test_a_bad_file_is_one_line(tmp_path: Path):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"")
    assert run(bad, SAMPLES / "jax_cnn.onnx")[0] == 3
    assert run(bad, bad, "--reports")[0] == 3
