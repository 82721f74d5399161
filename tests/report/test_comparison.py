"""``compare``: the same architecture or not, and where the first difference lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

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
