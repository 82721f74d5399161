"""`bench` on models of one's own: rows and files that find each other, and what has none named."""

from __future__ import annotations

import json
import random
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

import intrain_onnx
from intrain_onnx.bench import records
from intrain_onnx.bench.model_files import described, files, matched, path_of
from intrain_onnx.bench.spaces import nasbench201
from intrain_onnx.cli import main
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError

QUICK = ("--protocol", "architecture", "--batch", "4", "--size", "16")


def bench(*args: object) -> Result:
    result = CliRunner().invoke(main, ["bench", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cells in two folders, and a table that calls them by a name, a stem, and two paths."""
    made = tmp_path_factory.mktemp("nets")
    (made / "deep").mkdir()
    generator = random.Random(2)
    for place in ("a.onnx", "b.onnx", "deep/c.onnx", "deep/d.onnx", "deep/e.onnx"):
        onnx.save(nasbench201.build(nasbench201.sample(generator), fold=True, size=16), made / place)
    rows = ["a.onnx,91,0.3", "b,92,0.2", "deep/c,93,0.4", f"{made / 'deep' / 'd.onnx'},94,", "gone,95,1"]
    (made / "my.csv").write_text("\n".join(["net,top1,error", *rows, ""]))
    return made


def test_the_same_files_are_written_and_what_is_left_over_is_named(folder: Path, tmp_path: Path):
    named = ("--models", folder / "**" / "*.onnx", "--accuracies", folder / "my.csv", "--model-column", "net")
    args = (*named, "--accuracy-column", "top1", *QUICK, "--proxies", "params", "-o", tmp_path)
    result = bench(*args)
    assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} == {
        "results.jsonl",
        "summary.json",
        "table.md",
        "scatter.svg",
    }
    left = ["1 row without a model: gone", f"1 model without a row: {folder / 'deep' / 'e.onnx'}"]
    assert result.stderr.splitlines()[:2] == left
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["architectures"], found["failures"], found["unmatched"]) == (4, [], left)
    assert all(f"{said}." in (tmp_path / "table.md").read_text() for said in left)
    measured = {path_of(r.architecture): r for r in records.read(tmp_path / "results.jsonl")}
    assert set(measured) == {str(folder / x) for x in ("a.onnx", "b.onnx", "deep/c.onnx", "deep/d.onnx")}
    config = ScoreConfig.for_protocol(
        seeds=1, batch=4, size=16, sequence=16, threads=1, parity=False, points="all"
    )
    report = intrain_onnx.score(folder / "b.onnx", config)
    row = measured[str(folder / "b.onnx")].protocols["architecture"]
    assert row.scores == {name: x["value"] for name, x in report.data["scores"].items()}


def test_it_goes_on_but_not_with_the_scores_of_a_file_that_changed(folder: Path, tmp_path: Path):
    nets = tmp_path / "nets"
    nets.mkdir()
    for name in "ab":
        (nets / f"{name}.onnx").write_bytes((folder / f"{name}.onnx").read_bytes())
    (nets / "t.csv").write_text("model,accuracy\na,1\nb,2\n")
    args = ("--models", nets, "--accuracies", nets / "t.csv", *QUICK, "-o", tmp_path / "out")
    assert bench(*args).exit_code == 0
    assert bench(*args).exit_code == 2  # results are there
    assert bench(*args, "--resume").exit_code == 0
    log = tmp_path / "out" / "results.jsonl"
    assert len(records.read(log)) == 2
    (nets / "b.onnx").write_bytes((folder / "deep" / "c.onnx").read_bytes())
    assert bench(*args, "--resume").exit_code == 0
    found = records.read(log)
    assert len(found) == 3
    assert len({r.architecture for r in found}) == 3
    assert sorted(path_of(r.architecture) for r in found) == [str(nets / f"{x}.onnx") for x in "abb"]


def test_of_a_loss_less_is_better(folder: Path, tmp_path: Path):
    named = ("--models", folder, "--accuracies", folder / "my.csv", "--model-column", "net", *QUICK)
    taus = {}
    for out, more in (("up", ()), ("down", ("--lower-is-better",))):
        result = bench(*named, "--accuracy-column", "error", *more, "-o", tmp_path / out)
        assert result.exit_code == 0
        found = json.loads((tmp_path / out / "summary.json").read_text())
        row = next(x for x in found["measures"] if x["name"] == "#Params")
        assert row["results"]["error"]["count"] == 3  # one row has none
        taus[out] = row["results"]["error"]["tau"]["value"]
    assert taus["up"] == -taus["down"] != 0


def test_a_broken_model_is_a_failure_of_its_own(folder: Path, tmp_path: Path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    (tmp_path / "t.csv").write_text(f"model,accuracy\nbad,1\n{folder / 'a.onnx'},2\n{folder / 'b.onnx'},3\n")
    models = ("--models", tmp_path, "--models", folder)
    result = bench(*models, "--accuracies", tmp_path / "t.csv", *QUICK, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "bad.onnx" in result.output
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [x["architecture"].partition(" sha256:")[0] for x in found["failures"]] == [
        str(tmp_path / "bad.onnx")
    ]


def test_columns_of_other_names_serve_a_space_too(tmp_path: Path):
    generator = random.Random(0)
    cells = list(dict.fromkeys(nasbench201.sample(generator) for _ in range(3)))
    rows = [f'"{cell}",{index},9' for index, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join(["cell,mine,cifar10_test", *rows, ""]))
    args = ("nasbench201", "--accuracies", tmp_path / "t.csv", *QUICK)
    renamed = ("--column", "arch_str=cell")
    result = bench(*args, *renamed, "--accuracy-column", "mine", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(found["measures"][0]["results"]) == {"mine"}
    result = bench(*args, *renamed, "-o", tmp_path / "published")
    assert set(
        json.loads((tmp_path / "published" / "summary.json").read_text())["measures"][0]["results"]
    ) == {"CIFAR-10"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--models", "nets/*.onnx"), "--models 'nets/*.onnx' has no file"),
        (("--models", "{folder}"), "the table has no column 'model'. It has 'net', 'top1', 'error'"),
        (("--models", "{folder}", "--model-column", "top1"), "no row of the table names a model: 5 rows"),
        (
            ("--models", "{folder}", "--model-column", "net"),
            "none of the columns 'accuracy'. It has 'net', 'top1', 'error': say which with --accuracy-column",
        ),
        (("--models", "{folder}", "--accuracy-column", "acc"), "the table has no column 'acc'"),
        (("--models", "{folder}", "--column", "model"), "'model' is not OURS=THEIRS"),
        (("--models", "{folder}", "--column", "model=x"), "the table has no column 'x'"),
        (("nasbench201", "--models", "{folder}"), "name a SPACE, or --models, and not both"),
        ((), "name a SPACE, or --models, and not both"),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, tmp_path: Path, args: tuple[str, ...], said: str):
    given = [str(a).format(folder=folder) for a in args]
    result = bench(*given, "--accuracies", folder / "my.csv", *QUICK, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


# Files and rows


def test_files_of_a_folder_a_glob_and_a_path_are_listed_once(folder: Path):
    inside = [str(folder / x) for x in ("a.onnx", "b.onnx", "deep/c.onnx", "deep/d.onnx", "deep/e.onnx")]
    assert sorted(files([str(folder)])) == inside
    assert files([str(folder / "?.onnx"), str(folder / "a.onnx")]) == inside[:2]


def test_a_name_with_the_characters_of_a_glob_is_a_file(tmp_path: Path):
    (tmp_path / "net[1].onnx").touch()
    assert files([str(tmp_path / "net[1].onnx")]) == [str(tmp_path / "net[1].onnx")]
    assert files([str(tmp_path)]) == [str(tmp_path / "net[1].onnx")]


def test_names_of_several_files_and_rows_of_one_are_refused(folder: Path, tmp_path: Path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    paths = [str(tmp_path / place / "net.onnx") for place in "xy"]
    for path in paths:
        Path(path).touch()
    with pytest.raises(SettingsError, match=r"'net' is the name of .*x/net.onnx and of .*y/net.onnx"):
        matched([{"m": "net"}], paths, "m", tmp_path)
    found = matched([{"m": "y/net"}, {"m": "x/net.onnx"}], paths, "m", tmp_path / "z")
    assert [path_of(found.describe(row)) for row in found.rows] == paths[::-1]
    with pytest.raises(SettingsError, match=r"rows 1 and 2 of the table are both of .*x/net.onnx"):
        matched([{"m": "x/net"}, {"m": "x/net.onnx"}], paths, "m", tmp_path)
    empty = matched([{"m": " "}, {"m": "x/net"}], paths, "m", tmp_path)
    assert empty.said() == [
        "1 row without a model: row 1, which names none",
        f"1 model without a row: {paths[1]}",
    ]


def test_the_description_follows_the_weights_wherever_they_are(tmp_path: Path):
    model = nasbench201.build(nasbench201.sample(random.Random(0)), fold=True, size=16)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    before = described(str(path))
    assert path_of(before) == str(path)
    assert described(str(path)) == before
    data = bytearray((tmp_path / "net.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "net.bin").write_bytes(data)
    assert described(str(path)) != before
