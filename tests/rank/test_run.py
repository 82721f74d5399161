"""A run over many models: one row each, identical files are scored once, a resume scores nothing again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import model, weight
from commands.helpers import mlp, save

from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.outcomes import Lost, Outcome
from intrain_onnx.engine.serial import Serial
from intrain_onnx.errors import LimitError, SettingsError
from intrain_onnx.rank import results
from intrain_onnx.rank.job import RankOne, Task
from intrain_onnx.rank.rows import Row
from intrain_onnx.rank.run import run
from intrain_onnx.rank.sources import candidates

CONFIG = ScoreConfig.for_protocol(seeds=1, batch=4, parity=False, threads=1)


class Counting(Serial):
    """The serial engine, with what it ran; takes down the process of models whose name says so."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def map(
        self, job: Any, items: Iterable[Any], told: Any = None
    ) -> Generator[Outcome[Any, Any], None, None]:
        def counted(task: Task, tell: Any) -> Any:
            self.ran.append(Path(task.model).name)
            if "crash" in task.model:
                return Lost("crashed", "SIGSEGV")
            if "slow" in task.model:
                return Lost("timeout", "longer than 1 s")
            return job(task, tell)

        return super().map(counted, items, told)


def ranked(
    folder: Path, out: Path, *, resume: bool = False, retry_failed: bool = False, config: ScoreConfig = CONFIG
) -> tuple[dict[str, Row], list[str]]:
    """Rows by file name, and what was run."""
    out.mkdir(exist_ok=True)
    engine, kept = Counting(), {}

    def keep(row: Row) -> None:
        assert row.model not in kept
        kept[row.model] = row

    run(
        RankOne(config),
        candidates([str(folder)]),
        out,
        engine,
        resume=resume,
        retry_failed=retry_failed,
        keep=keep,
    )
    return {Path(name).name: row for name, row in kept.items()}, engine.ran


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "models"
    place.mkdir()
    save(place, mlp(), "a.onnx")
    save(place, mlp(weight(8, 3) * 2), "b.onnx")
    return place


def test_every_model_has_a_row(folder: Path, tmp_path: Path):
    (folder / "empty.onnx").touch()
    save(folder, model("(float[4] x) => (float[4] y) { y = Magic(x) }"), "unknown.onnx")
    (folder / "folder.onnx").mkdir()
    (folder / "dangling.onnx").symlink_to(folder / "nowhere")
    rows, _ = ranked(folder, tmp_path / "out")
    assert {name: row.status for name, row in rows.items()} == {
        "a.onnx": "scored",
        "b.onnx": "scored",
        "empty.onnx": "failed",
        "unknown.onnx": "failed",
        "dangling.onnx": "failed",
    }
    error = rows["unknown.onnx"].error
    assert error is not None
    assert (error.kind, error.exit_code) == ("MissingOpsError", 4)
    found = rows["a.onnx"]
    assert found.layers == 2
    assert found.threads == 1
    assert found.scores["volume"].value > 0
    assert found.baselines["parameters"] == 4 * 8 + 8 * 3


def test_a_row_is_that_of_score(folder: Path, tmp_path: Path):
    import intrain_onnx

    rows, _ = ranked(folder, tmp_path / "out")
    data = intrain_onnx.score(folder / "a.onnx", CONFIG).data
    assert {n: s.value for n, s in rows["a.onnx"].scores.items()} == {
        n: s["value"] for n, s in data["scores"].items()
    }
    assert rows["a.onnx"].sha256 == data["model"]["sha256"]


def test_a_resume_scores_what_is_new_or_changed_alone(folder: Path, tmp_path: Path):
    first, ran = ranked(folder, tmp_path / "out")
    assert ran == ["a.onnx", "b.onnx"]
    with pytest.raises(SettingsError, match="there already"):
        ranked(folder, tmp_path / "out")
    again, ran = ranked(folder, tmp_path / "out", resume=True)
    assert (again, ran) == (first, [])
    save(folder, mlp(weight(8, 3) * 3), "b.onnx")
    save(folder, mlp(weight(8, 3) * 4), "c.onnx")
    _, ran = ranked(folder, tmp_path / "out", resume=True)
    assert ran == ["b.onnx", "c.onnx"]
    assert len(results.read(tmp_path / "out").rows) == 3
    other = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(SettingsError, match="other settings: seed was 0, is 1"):
        ranked(folder, tmp_path / "out", resume=True, config=other)


def test_identical_files_are_scored_once(folder: Path, tmp_path: Path):
    (folder / "deep").mkdir()
    shutil.copy(folder / "a.onnx", folder / "deep" / "twin.onnx")
    bad = save(folder, model("(float[4] x) => (float[4] y) { y = Magic(x) }"), "x-bad.onnx")
    shutil.copy(bad, folder / "deep" / "bad twin.onnx")
    rows, ran = ranked(folder, tmp_path / "out")
    assert sorted(ran) == ["a.onnx", "b.onnx", "x-bad.onnx"] or len(ran) == 3
    twins = [row for row in rows.values() if row.same_as is not None]
    assert len(twins) == 2
    for twin in twins:
        first = next(row for row in rows.values() if row.model == twin.same_as)
        assert (twin.sha256, twin.scores, twin.status) == (first.sha256, first.scores, first.status)
        if twin.error is not None:
            assert twin.error.message.startswith(twin.model)
    again, ran = ranked(folder, tmp_path / "out", resume=True)
    assert (again, ran) == (rows, [])


def external(folder: Path, name: str, scale: float) -> None:
    """A model whose weights lie beside it: two with other weights are one file."""
    place = folder / name
    place.mkdir()
    proto = mlp(weight(8, 3) * scale, first=weight(4, 8))
    onnx.save(proto, place / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)


def test_files_that_differ_in_their_external_data_are_two(tmp_path: Path):
    folder = tmp_path / "models"
    folder.mkdir()
    for name, scale in (("a", 1.0), ("b", 2.0), ("c", 1.0)):
        external(folder, name, scale)
    assert len({(folder / n / "m.onnx").read_bytes() for n in "abc"}) == 1
    config = dataclasses.replace(
        ScoreConfig.for_protocol("checkpoint", seeds=1, batch=4, parity=False), threads=1
    )
    out = tmp_path / "out"
    out.mkdir()
    engine, kept = Counting(), {}
    run(
        RankOne(config),
        candidates([str(folder)]),
        out,
        engine,
        keep=lambda row: kept.update({row.model: row}),
    )
    assert len(engine.ran) == 2
    by_name = {Path(name).parent.name: row for name, row in kept.items()}
    assert by_name["c"].same_as == str(folder / "a" / "m.onnx")
    assert by_name["b"].same_as is None
    assert by_name["a"].external_sha256 != by_name["b"].external_sha256
    data = np.fromfile(folder / "a" / "w.bin", np.uint8)
    data[:4] = np.frombuffer(np.float32(7).tobytes(), np.uint8)
    data.tofile(folder / "a" / "w.bin")
    engine = Counting()
    run(RankOne(config), candidates([str(folder)]), out, engine, resume=True)
    assert [Path(name).name for name in engine.ran] == ["m.onnx"]


def test_what_kills_its_process_twice_is_set_aside(folder: Path, tmp_path: Path):
    for name in ("crash.onnx", "slow.onnx"):
        save(folder, mlp(weight(8, 3) * len(name)), name)
    rows, ran = ranked(folder, tmp_path / "out")
    assert ran == ["a.onnx", "b.onnx", "crash.onnx", "slow.onnx", "crash.onnx"]
    assert rows["crash.onnx"].status == "quarantined"
    assert rows["crash.onnx"].attempts == 2
    assert rows["slow.onnx"].status == "failed"
    error = rows["slow.onnx"].error
    assert error is not None
    assert (error.kind, error.exit_code) == ("timeout", 6)
    assert ranked(folder, tmp_path / "out", resume=True)[1] == []
    _, ran = ranked(folder, tmp_path / "out", resume=True, retry_failed=True)
    assert ran == ["crash.onnx", "slow.onnx", "crash.onnx"]


def test_a_loss_before_a_resume_counts(folder: Path, tmp_path: Path):
    save(folder, mlp(weight(8, 3) * 5), "crash.onnx")
    ranked(folder, tmp_path / "out")
    log = tmp_path / "out" / results.LOG
    lines = log.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[3])["lost"]["reason"] == "crashed: SIGSEGV"
    log.write_bytes(b"".join(lines[:4]))  # killed after the first loss
    rows, ran = ranked(folder, tmp_path / "out", resume=True)
    assert ran == ["crash.onnx"]
    assert rows["crash.onnx"].status == "quarantined"


def test_a_log_that_cannot_be_written_ends_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from intrain_onnx.engine.log import Log

    real, calls = Log.append, []

    def full(self: Log, row: Any) -> None:
        calls.append(row)
        if len(calls) == 2:
            raise LimitError("cannot write: No space left on device")
        real(self, row)

    monkeypatch.setattr(Log, "append", full)
    with pytest.raises(LimitError, match="No space"):
        ranked(folder, tmp_path / "out")
    monkeypatch.undo()
    rows, ran = ranked(folder, tmp_path / "out", resume=True)
    assert ran == ["b.onnx"]
    assert len(rows) == 2


def test_a_remote_model_is_fetched_with_its_data(tmp_path: Path):
    import fsspec

    folder = tmp_path / "models"
    folder.mkdir()
    external(folder, "a", 1.0)
    store = fsspec.filesystem("memory")
    for name in ("m.onnx", "w.bin"):
        store.pipe(f"/ranked/{name}", (folder / "a" / name).read_bytes())
    out, cache = tmp_path / "out", tmp_path / "cache"
    out.mkdir()
    engine, kept = Counting(), {}
    job = RankOne(CONFIG, reports=None, cache=cache, cache_bytes=10**6)
    run(job, candidates(["memory://ranked/"]), out, engine, keep=lambda row: kept.update({row.model: row}))
    (row,) = kept.values()
    assert row.status == "scored"
    assert set(row.external_sha256) == {"w.bin"}
    engine = Counting()
    run(job, candidates(["memory://ranked/"]), out, engine, resume=True)
    assert engine.ran == []
    small = RankOne(CONFIG, cache=tmp_path / "small", cache_bytes=100)
    other = tmp_path / "other"
    other.mkdir()
    run(small, candidates(["memory://ranked/"]), other, Counting(), keep=lambda row: kept.update({"x": row}))
    assert kept["x"].error is not None
    assert "--cache-bytes" in kept["x"].error.message
