"""The page of benchmarks, made from small tables of accuracies that nobody measured."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import kendalltau

from intrain_onnx.bench import summary
from intrain_onnx.bench.spaces import SPACES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TASKS = ("test_class_scene", "test_jigsaw")


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with few rounds and proxies, measuring in this process: a worker takes seconds to start."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import nas
    import nas_tables

    monkeypatch.setattr(summary, "ROUNDS", 10)
    monkeypatch.setattr(nas_tables, "ROUNDS", 10)
    monkeypatch.setattr(nas, "PROXIES", {"params": None, "naswot": None})
    monkeypatch.setattr(nas, "SETTINGS", ((4, 8),))
    yield nas
    for name in [name for name in sys.modules if name.partition("_")[0] == "nas"]:
        del sys.modules[name]


def write(path: Path, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    with gzip.open(path, "wt", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def architectures(space: str, count: int) -> list[str]:
    rng, found = random.Random(0), {}
    while len(found) < count:
        found[SPACES[space].sample(rng)] = None
    return list(found)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of two spaces; two cells a class of isomorphism."""
    folder, rng = tmp_path_factory.mktemp("data"), random.Random(1)
    names = architectures("transnas_macro", 90)
    rows = [{"arch_str": name} | {task: rng.random() for task in TASKS} for name in names]
    write(folder / "transnas_macro.csv.gz", rows)
    cells = architectures("nasbench201", 2400)
    accuracy = [
        {f"{task}_test": rng.random() for task in ("cifar10", "cifar100", "imagenet16")} for _ in cells
    ]
    write(
        folder / "nb201.csv.gz",
        (
            {"arch_str": cell, **y, "rep_index": i // 2, "reachable_only": int("none" not in cell or i % 2)}
            for i, (cell, y) in enumerate(zip(cells, accuracy, strict=True))
        ),
    )
    return folder


def cells_of(page: str, heading: str, label: str) -> dict[str, str]:
    """A row of the first table with this first heading, by its columns."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    heads = [cell.strip() for cell in lines[start].strip("|").split("|")]
    row = next(line for line in lines[start:] if line.startswith(f"| {label} |"))
    return dict(zip(heads, [cell.strip() for cell in row.strip("|").split("|")], strict=True))


def test_one_command_makes_the_page(nas: ModuleType, data: Path, tmp_path: Path):
    out, written = tmp_path / "out", tmp_path / "page.md"
    spaces = ("transnas_macro", "nasbench101", "digits")
    command = [str(data), "-o", str(out), "--workers", "1", "--scale", "0", "--write", str(written)]
    nas.main([*command, "--spaces", *spaces])
    page = written.read_text()
    assert "<!--" not in page
    assert "the table was not there: `nb101.csv.gz`" in page
    assert re.search(r"\d+ minutes with 1 workers on \d+ cores", page)

    with gzip.open(data / "transnas_macro.csv.gz", "rt", newline="") as stream:
        accuracy = {row["arch_str"]: [float(row[task]) for task in TASKS] for row in csv.DictReader(stream)}
    records = [json.loads(line) for line in (out / "transnas_macro.jsonl").read_text().splitlines()[1:]]
    assert len(records) == nas.LEAST
    scores = [row["protocols"]["architecture"]["scores"]["volume"] for row in records]
    truth = np.array([accuracy[row["architecture"]] for row in records])
    tau = np.mean([kendalltau(scores, y).statistic for y in truth.T])
    assert float(cells_of(page, "Kendall tau", "`volume`")["transnas_macro"]) == pytest.approx(tau, abs=6e-4)
    assert {"digits, plain", "digits, residual"} & cells_of(page, "Kendall tau", "#Params").keys()

    before = (out / "transnas_macro.jsonl").read_bytes()
    nas.main([*command, "--spaces", *spaces])
    assert (out / "transnas_macro.jsonl").read_bytes() == before, "a run that goes on measures nothing again"
    head, tail = page.rsplit("## What the page takes", 1)
    assert written.read_text().startswith(head)
    assert tail


def test_the_page_of_cells_has_proxies_settings_and_the_reachable_ones(
    nas: ModuleType, data: Path, tmp_path: Path
):
    written = tmp_path / "page.md"
    command = [str(data), "-o", str(tmp_path), "--workers", "1", "--scale", "0", "--write", str(written)]
    nas.main([*command, "--spaces", "nasbench201"])
    page = written.read_text()
    assert cells_of(page, "Kendall tau (95 % interval)", "proxy: NASWOT")["NAS-Bench-201 CIFAR-10"]
    assert cells_of(page, "images", "4 of 8x8")["architecture: volume"]
    assert re.search(r"Kendall tau \(95 % interval\), \d architectures", page)


def test_no_class_of_isomorphism_is_one_that_a_score_was_chosen_on(nas: ModuleType, data: Path):
    """Against the draws as they were made then, written out."""
    study = nas.STUDIES[0]
    with gzip.open(data / study.file, "rt", newline="") as stream:
        rows = list(csv.DictReader(stream))
    used = random.Random(1).sample(rows, 800)
    shuffled = list(rows)
    random.Random(11).shuffle(shuffled)
    classes = {row["rep_index"] for row in [*used, *shuffled[:100]]}
    kept = nas.rows_of(study, data)
    assert {row["rep_index"] for row in kept} == {row["rep_index"] for row in rows} - classes
    assert kept
