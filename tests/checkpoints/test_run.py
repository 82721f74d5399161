"""Series in this process: order, log, going on, what is measured again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from builders import weight

from checkpoints.conftest import network, row, written
from intrain_onnx.checkpoints import results, run
from intrain_onnx.checkpoints.job import MeasureCheckpoint
from intrain_onnx.checkpoints.rows import Document, Step
from intrain_onnx.checkpoints.run import series, settings
from intrain_onnx.checkpoints.tasks import Task
from intrain_onnx.engine.outcomes import Lost, Outcome
from intrain_onnx.engine.serial import Serial
from intrain_onnx.errors import SettingsError
from intrain_onnx.report.decode import encode

CONFIG = settings(threads=1, device="cpu", batch=8)
V = weight(16, 16)


def untimed(found: Document) -> list[dict[str, Any]]:
    return [{**encode(step), "seconds": None} for step in found.steps]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Tasks that are measured, with a stand-in for the measurement."""
    seen: list[Task] = []

    def stub(self: MeasureCheckpoint, task: Task, tell: Callable[[Any], None]) -> Step:
        seen.append(task)
        if Path(task.path).read_bytes() == b"bad":
            return task.row(status="failed")
        return row(task.step, path=task.path, sha256=task.sha256, previous=task.previous)

    monkeypatch.setattr(MeasureCheckpoint, "__call__", stub)
    return seen


def files(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).write_bytes(name.encode())
    return [str(folder / name) for name in names]


def test_a_series_follows_the_schema_and_is_the_same_again(three: list[str]):
    found = series(three[::-1], CONFIG)
    jsonschema.Draft202012Validator(results.schema()).validate(json.loads(results.json_text(found)))
    assert [s.step for s in found.steps] == [0, 1, 2]
    assert [s.distance_to_first for s in found.steps] == [
        None,
        *(s.distance_to_first for s in found.steps[1:]),
    ]
    assert found.steps[2].distance_to_previous is not None
    assert found.steps[2].first == three[0]
    assert found.steps[2].previous == three[1]
    assert untimed(series(three, CONFIG)) == untimed(found)


def test_each_is_held_against_the_first_and_the_one_before(tmp_path: Path, counted: list[Task]):
    paths = files(tmp_path, "s30.onnx", "s10.onnx", "s20.onnx")
    series(paths, CONFIG)
    told = [(t.step, t.first and Path(t.first).name, t.previous and Path(t.previous).name) for t in counted]
    assert told == [(10, None, None), (20, "s10.onnx", "s10.onnx"), (30, "s10.onnx", "s20.onnx")]
    assert counted[2].previous_step == 20


def test_a_second_run_measures_what_is_new_alone(tmp_path: Path, counted: list[Task]):
    out = tmp_path / "out"
    paths = files(tmp_path, "s1.onnx", "s2.onnx")
    first = series(paths, CONFIG, output=out)
    paths += files(tmp_path, "s3.onnx")
    found = series(paths, CONFIG, output=out)
    assert [Path(t.path).name for t in counted] == ["s1.onnx", "s2.onnx", "s3.onnx"]
    assert counted[-1].previous == paths[1]
    assert found.steps[:2] == first.steps
    assert len((out / results.LOG).read_text().splitlines()) == 4


def test_a_changed_file_is_measured_again(tmp_path: Path, counted: list[Task]):
    out, paths = tmp_path / "out", files(tmp_path, "s1.onnx", "s2.onnx")
    series(paths, CONFIG, output=out)
    Path(paths[1]).write_bytes(b"another")
    found = series(paths, CONFIG, output=out)
    assert len(counted) == 3
    assert len(found.steps) == 2
    assert found.steps[1].sha256 == counted[-1].sha256


def test_rows_of_files_that_a_training_deleted_stay(tmp_path: Path, counted: list[Task]):
    """They are part of the past; the last file that is still there is the one before."""
    out, paths = tmp_path / "out", files(tmp_path, "s1.onnx", "s2.onnx", "s3.onnx")
    first = series(paths, CONFIG, output=out)
    for gone in (0, 2):
        Path(paths[gone]).unlink()
    found = series([*paths, *files(tmp_path, "s4.onnx")], CONFIG, output=out)
    assert found.steps[:3] == first.steps
    assert (counted[-1].first, counted[-1].previous, counted[-1].previous_step) == (paths[0], paths[1], 2)
    assert [s.step for s in series([], CONFIG, output=out).steps] == [1, 2, 3, 4]


def test_a_cut_line_is_dropped(tmp_path: Path, counted: list[Task]):
    out, paths = tmp_path / "out", files(tmp_path, "s1.onnx", "s2.onnx")
    series(paths, CONFIG, output=out)
    log = out / results.LOG
    log.write_bytes(log.read_bytes()[:-20])
    assert len(series(paths, CONFIG, output=out).steps) == 2
    assert len(counted) == 3


def test_other_settings_are_refused_and_other_thresholds_are_not(tmp_path: Path, counted: list[Task]):
    out, paths = tmp_path / "out", files(tmp_path, "s1.onnx")
    series(paths, CONFIG, output=out)
    assert series(paths, CONFIG, output=out, thresholds={"jump": 2}).thresholds["jump"] == 2
    with pytest.raises(SettingsError, match="other settings: batch was 8, is 4"):
        series(paths, settings(threads=1, device="cpu", batch=4), output=out)
    assert len(counted) == 1


@pytest.mark.parametrize("line", ['{"step": 1}', '{"row": {}}', "[]", "{"])
def test_a_log_of_something_else_is_refused(tmp_path: Path, counted: list[Task], line: str):
    out, paths = tmp_path / "out", files(tmp_path, "s1.onnx")
    series(paths, CONFIG, output=out)
    with (out / results.LOG).open("a") as log:
        log.write(f"{line}\n")
    with pytest.raises(SettingsError, match="holds no series"):
        series(paths, CONFIG, output=out)


def test_what_failed_is_measured_again_on_request(tmp_path: Path, counted: list[Task]):
    paths = files(tmp_path, "s1.onnx", "s2.onnx")
    Path(paths[1]).write_bytes(b"bad")
    for retry in (False, False, True):
        run.Run(MeasureCheckpoint(CONFIG), Serial(), tmp_path, retry_failed=retry).measure(paths)
    assert [Path(t.path).name for t in counted] == ["s1.onnx", "s2.onnx", "s2.onnx"]


def test_a_file_without_a_score_is_no_past(tmp_path: Path, counted: list[Task]):
    paths = files(tmp_path, "s1.onnx", "s2.onnx", "s3.onnx")
    Path(paths[1]).write_bytes(b"bad")
    found = series(paths, CONFIG)
    assert [s.status for s in found.steps] == ["scored", "failed", "scored"]
    assert counted[2].previous == paths[0]


def test_a_file_that_is_not_there_is_a_row(tmp_path: Path, counted: list[Task]):
    paths = [*files(tmp_path, "s1.onnx"), str(tmp_path / "s2.onnx")]
    found = series(paths, CONFIG)
    assert [s.status for s in found.steps] == ["scored", "failed"]
    assert found.steps[1].error is not None
    assert found.steps[1].error.exit_code == 3


def test_one_file_under_two_names_is_measured_once(tmp_path: Path, counted: list[Task]):
    [path] = files(tmp_path, "s1.onnx")
    (tmp_path / "s2.onnx").symlink_to(path)
    assert len(series([path, str(tmp_path / "s2.onnx"), os.path.relpath(path)], CONFIG).steps) == 1


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_not_utf8_is_measured_and_stored(tmp_path: Path):
    paths = []
    for i in (1, 2):
        paths.append(os.fsdecode(os.fsencode(tmp_path) + b"/net\xff-%d.onnx" % i))
        Path(paths[-1]).write_bytes(network({"v": V * i}).SerializeToString())
    found = series(paths, CONFIG, output=tmp_path / "out")
    assert [(s.status, s.step) for s in found.steps] == [("scored", 1), ("scored", 2)]
    assert found.steps[1].distance_to_first == pytest.approx(0.5, abs=0.3)
    assert found.steps[0].path.endswith(r"net\xff-1.onnx")
    assert series(paths, CONFIG, output=tmp_path / "out").steps == found.steps
    assert results.json_text(found).encode()


def test_a_process_that_is_lost_is_tried_twice(tmp_path: Path):
    """An engine that loses the second checkpoint each time, and then one that loses it once."""

    class Losing:
        def __init__(self, times: int) -> None:
            self.times = times

        def warm(self, job: Any) -> None: ...

        def map(self, job: Any, items: Iterable[Task], told: Any = None) -> Any:
            for index, task in enumerate(items):
                lost = task.step == 2 and self.times > 0
                self.times -= lost
                yield Outcome(
                    index, task, Lost("killed", "SIGKILL") if lost else row(task.step, path=task.path)
                )

    paths = files(tmp_path, "s1.onnx", "s2.onnx", "s3.onnx")
    for times, status in ((1, "scored"), (2, "failed")):
        rows = run.Run(MeasureCheckpoint(CONFIG), Losing(times)).measure(paths)
        assert [r.status for r in rows] == ["scored", status, "scored"]
    error = rows[1].error
    assert error is not None
    assert (error.kind, error.exit_code) == ("killed", 6)


def test_alarms_come_from_files(tmp_path: Path):
    """Eight checkpoints that hardly move; in the ninth a layer is dead, and another is far away."""
    c, u = weight(16, scale=0.1), weight(16, 4)
    paths = [written(tmp_path, f"s{i}.onnx", c=c, u=u * np.float32(1 + i / 50)) for i in range(8)]
    paths.append(written(tmp_path, "s8.onnx", c=c - 100, u=u * np.float32(9)))
    alarms = series(paths, CONFIG).alarms
    assert {a.step for a in alarms} == {8}
    told = {(a.rule, a.layer) for a in alarms}
    assert {("death", "one"), ("jump", "three"), ("jump", None)} <= told  # the first stood still before


def test_layers_have_their_module_and_all_lists_are_tables():
    sample = Path(__file__).parents[2] / "samples" / "keras_mobile.onnx"
    found = series([sample, sample], settings(batch=4, device="cpu", threads=1))
    first = found.steps[0].layers[0]
    assert (first.name, first.module) == ("Conv__107", "mobile_1/conv2d_1")
    steps, layers, alarms = (found.to_frame(part) for part in ("steps", "layers", "alarms"))
    assert steps["intrain"].tolist() == [row.intrain for row in found.steps]
    assert len(layers) == sum(len(row.layers) for row in found.steps)
    assert layers["participation_ratio"][0] == first.participation_ratio
    assert list(alarms.columns)[:2] == ["rule", "step"]
