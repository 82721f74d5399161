"""``search`` as a program: the same rows and files, undisturbed or killed, by one worker or two."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from bench.graphs import parameters
from click.testing import CliRunner
from commands.test_isolation import children, started
from rank.test_command import finished

from intrain_onnx.cli import main
from intrain_onnx.errors import SettingsError
from intrain_onnx.search import results
from intrain_onnx.search.costs import Counter

pytest.importorskip("pymoo", reason="the extra `search` is not installed")
pytestmark = pytest.mark.workers

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "example_space.py"
OPTIONS = ("--batch", "4", "--population", "6", "--evaluations", "16", "--budget", "macs=200k", "--top", "2")


def search(*args: object) -> Any:
    result = CliRunner().invoke(main, ["search", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def measured(folder: Path) -> list[dict[str, Any]]:
    """Evaluations in the order in which they were asked, without timings."""
    found = sorted(results.read(folder).evaluations.values(), key=lambda e: e.number)
    return [{**msgspec.to_builtins(e), "row": e.row.measured()} for e in found]


def files(folder: Path) -> dict[str, bytes]:
    """What was written beside the log; reports without their timings."""
    found = {p.name: p.read_bytes() for p in [*(folder / "best").iterdir(), folder / "search.html"]}
    for name, data in found.items():
        if name.endswith(".json"):
            report = json.loads(data)
            report.pop("timings_s")
            found[name] = json.dumps(report).encode()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed search by one worker."""
    out = tmp_path_factory.mktemp("search") / "whole"
    result = search(EXAMPLE, "-o", out, *OPTIONS)
    assert result.exit_code == 0, result.output
    return out


def test_what_a_search_leaves(whole: Path):
    rows = measured(whole)
    assert [row["number"] for row in rows] == list(range(16))
    assert len({row["row"]["model"] for row in rows}) == 16
    assert all(row["costs"]["macs"] <= 200_000 for row in rows)
    assert sorted(files(whole)) == ["1.intrain.json", "1.onnx", "2.intrain.json", "2.onnx", "search.html"]
    best = sorted(rows, key=lambda row: -row["row"]["scores"]["volume"]["value"])
    for number, row in enumerate(best[:2], start=1):
        report = json.loads((whole / "best" / f"{number}.intrain.json").read_text())
        assert report["scores"]["volume"]["value"] == row["row"]["scores"]["volume"]["value"]


def test_the_files_run_in_onnxruntime_and_can_be_trained(whole: Path):
    model = onnx.load(whole / "best" / "1.onnx")
    assert "BatchNormalization" in {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    (logits,) = session.run(None, {"image": images})
    assert logits.shape == (3, 10)
    assert logits.std(0).min() > 0
    weights = [w for w in model.graph.initializer if len(w.dims) > 1]
    for weight in weights:
        values = onnx.numpy_helper.to_array(weight)
        assert values.std() == pytest.approx(np.sqrt(2 / np.prod(weight.dims[1:])), rel=0.25)
    counted = max(measured(whole), key=lambda row: row["row"]["scores"]["volume"]["value"])
    vectors = parameters(model) - sum(int(np.prod(w.dims)) for w in weights)
    assert counted["row"]["baselines"]["parameters"] == parameters(model) - vectors


def test_two_workers_go_the_same_way(whole: Path, tmp_path: Path):
    result = search(EXAMPLE, "-o", tmp_path / "two", *OPTIONS, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert measured(tmp_path / "two") == measured(whole)
    assert files(tmp_path / "two") == files(whole)


def test_this_process_goes_the_same_way(whole: Path, tmp_path: Path):
    assert search(EXAMPLE, "-o", tmp_path / "one", *OPTIONS, "--engine", "serial").exit_code == 0
    assert measured(tmp_path / "one") == measured(whole)


def test_killed_and_resumed_it_ends_as_undisturbed(whole: Path, tmp_path: Path):
    cut, log = tmp_path / "cut", tmp_path / "cut" / results.LOG
    for attempt, wanted in enumerate((3, 9)):
        resume = ["--resume"] if attempt else []
        process = started(tmp_path, "search", EXAMPLE, "-o", cut, *OPTIONS, "--workers", 2, *resume)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if log.exists() and log.read_bytes().count(b"\n") > wanted:
                break
            time.sleep(0.01)
        below = children(process.pid)
        process.kill()
        process.communicate()
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/exe").exists() for pid in below) and time.monotonic() < end:
            time.sleep(0.05)
    code, _, err = finished(started(tmp_path, "search", EXAMPLE, "-o", cut, *OPTIONS, "--resume"))
    assert code == 0, err
    assert measured(cut) == measured(whole)
    assert files(cut) == files(whole)
    lines = [line for line in log.read_bytes().splitlines()[1:] if line.startswith(b'{"evaluation"')]
    assert len(lines) == 16


def test_a_finished_search_is_gone_on_with(whole: Path, tmp_path: Path):
    """The same beginning, nothing scored twice: more evaluations are no other search."""
    out = tmp_path / "more"
    assert search(EXAMPLE, "-o", out, *OPTIONS).exit_code == 0
    before = (out / results.LOG).read_bytes()
    assert search(EXAMPLE, "-o", out, *OPTIONS, "--resume").exit_code == 0
    assert (out / results.LOG).read_bytes() == before
    assert (
        search(EXAMPLE, "-o", out, *OPTIONS[:4], "--evaluations", 20, *OPTIONS[6:], "--resume").exit_code == 0
    )
    assert (out / results.LOG).read_bytes().startswith(before)
    assert measured(out)[:16] == measured(whole)
    assert len(measured(out)) == 20


def test_going_on_counts_nothing_again(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    monkeypatch.setattr(Counter, "__call__", lambda self, description: pytest.fail("counted"))
    assert search(EXAMPLE, "-o", out, *OPTIONS, "--engine", "serial", "--resume").exit_code == 0
    assert files(out) == files(whole)


@pytest.mark.parametrize("lost", [range(16), range(0, 16, 2), range(5, 9), [0], [15]])
def test_whatever_rows_a_log_lacks_are_made_again(whole: Path, tmp_path: Path, lost: Sequence[int]):
    """Rows end in any order: of those that are missing, some came before others that are there."""
    out = tmp_path / "out"
    out.mkdir()
    header, *lines = (whole / results.LOG).read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["evaluation"]["number"] not in lost]
    (out / results.LOG).write_text("\n".join([header, *kept]) + "\n")
    assert search(EXAMPLE, "-o", out, *OPTIONS, "--engine", "serial", "--resume").exit_code == 0
    assert measured(out) == measured(whole)


@pytest.mark.parametrize(
    "other", [("--seed", 1), ("--budget", "params=9k"), ("--size", 8), ("--minimise", "macs")]
)
def test_another_search_is_not_gone_on_with(whole: Path, other: tuple[str, object]):
    result = search(EXAMPLE, "-o", whole, *OPTIONS, *other, "--resume")
    assert (result.exit_code, "was made with other settings" in result.output) == (2, True)


def test_a_signal_keeps_what_is_done(tmp_path: Path):
    out = tmp_path / "out"
    process = started(tmp_path, "search", EXAMPLE, "-o", out, *OPTIONS[:4], "--evaluations", "100000")
    end = time.monotonic() + 60
    while not ((out / results.LOG).exists() and b'"evaluation"' in (out / results.LOG).read_bytes()):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, _, err = finished(process, 20)
    assert code == 130
    assert "go on with --resume" in err
    assert "Traceback" not in err


def test_an_impossible_budget_ends_with_one_line_and_no_log(tmp_path: Path):
    out = tmp_path / "out"
    result = search(EXAMPLE, "-o", out, "--budget", "params=10", "--batch", 4)
    assert result.exit_code == 2
    assert "the smallest costs seen: params 2" in result.output.replace(",", "")
    assert len(result.output.splitlines()) == 1
    assert not (out / results.LOG).exists()


def test_a_folder_with_files_of_others_is_refused(tmp_path: Path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "1.onnx").touch()
    result = search(EXAMPLE, "-o", tmp_path, *OPTIONS)
    assert (result.exit_code, "best is there already" in result.output) == (2, True)
    assert not (tmp_path / results.LOG).exists()


def test_several_objectives_give_a_front(tmp_path: Path):
    options = ("--batch", 4, "--population", 6, "--evaluations", 14, "--minimise", "macs", "--top", 20)
    result = search(EXAMPLE, "-o", tmp_path / "out", *options, "--engine", "serial")
    assert result.exit_code == 0, result.output
    rows = measured(tmp_path / "out")
    points = [(-row["row"]["scores"]["volume"]["value"], row["costs"]["macs"]) for row in rows]
    expected = {p for p in points if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)}
    assert len(list((tmp_path / "out" / "best").glob("*.onnx"))) == len(expected)
    assert "are on the front" in (tmp_path / "out" / "search.html").read_text()


def space_with(tmp_path: Path, old: str, new: str) -> Path:
    text = EXAMPLE.read_text()
    assert old in text
    path = tmp_path / "mine.py"
    path.write_text(text.replace(old, new, 1))
    return path


def test_what_fails_is_a_row_with_its_reason_and_counts_as_the_worst(tmp_path: Path):
    crash = "import os; os.kill(os.getpid(), 11)\n        "
    path = space_with(
        tmp_path,
        '    writer, x, before = Writer(fold), "image", 3\n',
        "    if description.startswith('8'):\n        raise ValueError('no eights')\n"
        f"    if description.startswith('16-8'):\n        {crash}\n"
        '    writer, x, before = Writer(fold), "image", 3\n',
    )
    result = search(path, "-o", tmp_path / "out", "--batch", 4, "--population", 6, "--evaluations", 30)
    assert result.exit_code == 0, result.output
    rows = {row["row"]["model"]: row["row"] for row in measured(tmp_path / "out")}
    eights = [row for name, row in rows.items() if name.startswith("8")]
    assert eights
    assert all("no eights" in row["error"]["message"] for row in eights)
    assert all(not row["scores"] for row in eights)
    late = [name for name in list(rows)[15:] if name.startswith("8")]
    assert len(late) <= len(eights)


def test_a_space_without_a_genome_is_told(tmp_path: Path):
    result = search("pit", "-o", tmp_path / "out")
    assert (result.exit_code, "has no genome" in result.output) == (2, True)


def test_without_pymoo_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    from intrain_onnx.bench.find_space import find
    from intrain_onnx.config import ScoreConfig
    from intrain_onnx.search.goals import Goals
    from intrain_onnx.search.run import Plan

    monkeypatch.delitem(sys.modules, "intrain_onnx.search.evolution", raising=False)
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    plan = Plan(find("macro"), Goals(), ScoreConfig.for_protocol(), 32, 32, 4, 0)
    with pytest.raises(SettingsError, match=r"intrain-onnx\[search\]"):
        plan.evolution()


def test_a_log_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / results.LOG).write_text('{"format": "intrain-onnx rank 1"}\n')
    result = search(EXAMPLE, "-o", tmp_path, *OPTIONS, "--resume")
    assert result.exit_code == 2
    (tmp_path / results.LOG).write_text("{}\nnonsense\n")
    with pytest.raises(SettingsError, match="holds no results of a search"):
        results.read(tmp_path)
    assert os.listdir(tmp_path) == [results.LOG]


PAGE = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")


def test_the_command_of_the_documentation_runs(tmp_path: Path):
    (command,) = re.findall(r"^ {4}intrain-onnx (search docs/.*)$", PAGE, re.MULTILINE)
    arguments = command.replace("docs/", f"{ROOT}/docs/").replace("-o found", f"-o {tmp_path}").split()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "best").glob("*.onnx"))) == 5


def test_the_examples_of_the_documentation_are_true():
    shown, library = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert [line for line in shown.splitlines() if line not in EXAMPLE.read_text()] == []
    names: dict[str, Any] = {}
    exec(compile(library, "search.md", "exec"), names)
    assert names["value"] == 0
    assert "none" not in names["best"].architecture
