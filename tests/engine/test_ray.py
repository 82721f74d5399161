"""Two machines of a Ray cluster, which are processes here: rows, losses and back-pressure as with others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import weight
from commands.helpers import mlp, save
from commands.test_isolation import children, hostile, started

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
from ray.cluster_utils import Cluster  # noqa: E402

from intrain_onnx.config import ScoreConfig  # noqa: E402
from intrain_onnx.engine.outcomes import Lost, WorkerLimits  # noqa: E402
from intrain_onnx.engine.processes import Processes  # noqa: E402
from intrain_onnx.engine.ray_actors import Rayed  # noqa: E402
from intrain_onnx.engine.serial import Serial  # noqa: E402
from intrain_onnx.errors import LimitError, SettingsError  # noqa: E402
from intrain_onnx.rank.job import RankOne  # noqa: E402
from intrain_onnx.rank.results import read  # noqa: E402
from intrain_onnx.rank.run import run  # noqa: E402
from intrain_onnx.rank.sources import candidates  # noqa: E402

from .jobs import STUCK, Stuck, behave, square, where  # noqa: E402
from .test_processes import gone  # noqa: E402

pytestmark = pytest.mark.workers
LIMITS = WorkerLimits(seconds=60, memory=4 * 2**30)
RANK = RankOne(ScoreConfig.for_protocol(seeds=1, batch=4, parity=False, threads=1))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Operators that take their process down, in all processes that Ray starts."""
    folder = tmp_path_factory.mktemp("site")
    started(folder, "--version").communicate()
    paths = [str(folder / "site"), *sys.path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield folder


@pytest.fixture(scope="module")
def cluster(site: Path) -> Iterator[Cluster]:
    """A machine without room for workers, where the program runs, and one with room for one."""
    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    found.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 * 2**20)
    yield found
    found.shutdown()


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Any]:
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def results(engine: Rayed, items: list[Any]) -> dict[int, Any]:
    return {outcome.index: outcome.result for outcome in engine.map(behave, items)}


def test_each_loss_costs_its_item_alone_and_is_told_as_by_processes(cluster: Cluster):
    items = [
        ("a", 0),
        ("signal", signal.SIGSEGV),
        ("signal", signal.SIGKILL),
        ("sleep", 60),
        ("raise", ValueError("two\nlines")),
        ("unpicklable", 1),
        ("b", 0),
    ]
    limits = WorkerLimits(seconds=1, memory=600 * 2**20)
    found = results(Rayed(cluster.address, 1, limits), items)
    plain = {o.index: o.result for o in Processes(1, limits).map(behave, items)}
    assert found == plain
    assert found[1] == Lost("crashed", "SIGSEGV")
    assert found[3].reason == "timeout"


def test_memory_is_held_in_a_share_of_the_machine(cluster: Cluster):
    found = results(Rayed(cluster.address, 1, WorkerLimits(memory=300 * 2**20)), [("allocate", 2**30)])
    assert found[0].reason == "memory"


def test_items_are_taken_when_an_actor_is_free_and_closing_ends_the_workers(cluster: Cluster, second: Any):
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(10):
            taken.append(i)
            yield i

    found = Rayed(cluster.address, 4, LIMITS).map(where, items())  # two of four have room
    pids = {next(found).result}
    assert 1 <= len(taken) <= 2
    for _ in range(4):
        pids.add(next(found).result)
        assert len(taken) <= 7
    found.close()
    assert len(pids) <= 2
    assert all(gone(pid) for pid in pids)


def test_no_machine_with_room_is_an_error_that_says_so(cluster: Cluster):
    with pytest.raises(LimitError, match="had 8 CPUs free for 2 s") as raised:
        list(Rayed(cluster.address, 1, LIMITS, threads=8, patience=2).map(square, [1]))
    assert raised.value.hint is not None


def test_a_share_of_a_gpu_is_set_aside_for_each_worker(cluster: Cluster, second: Any):
    """The first machine says that it has one: two halves have room there, where there is one CPU."""
    assert results(Rayed(cluster.address, 2, LIMITS, gpus=0.5), [("a", 0), ("b", 0)]) == {0: "a", 1: "b"}
    with pytest.raises(LimitError, match="1 CPUs and 2 GPUs"):
        list(Rayed(cluster.address, 1, LIMITS, gpus=2, patience=2).map(square, [1]))
    pids = {o.result for o in Rayed(cluster.address, 2, LIMITS, gpus=1).map(where, range(4))}
    assert len(pids) == 1  # the second machine has a CPU, and no GPU


def test_another_version_on_a_machine_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "intrain_onnx.engine.ray_actors.versions", lambda: {"intrain-onnx": "9", "torch": "9"}
    )
    with pytest.raises(SettingsError, match="here 9"):
        list(Rayed(cluster.address, 1, LIMITS).map(square, [1]))


def test_an_address_where_nobody_is_is_told_at_once():
    before = time.monotonic()
    with pytest.raises(SettingsError, match=r"cannot use Ray at 127\.0\.0\.1:1: .*refused"):
        list(Rayed("127.0.0.1:1").map(square, [1]))
    assert time.monotonic() - before < 20


def models(folder: Path) -> Path:
    folder.mkdir()
    for i in range(6):
        save(folder, mlp(weight(8, 3) * (i + 1)), f"{i}.onnx")
    (folder / "broken.onnx").write_bytes(b"no model")
    return folder


def measured(engine: Any, folder: Path, out: Path, job: Any = RANK) -> list[str]:
    """Rows as text, sorted, without timings."""
    out.mkdir()
    kept: list[str] = []
    run(
        job,
        candidates([str(folder)]),
        out,
        engine,
        keep=lambda row: kept.append(json.dumps(row.measured())),
    )
    return sorted(kept)


def killed_once(begun: Path, cluster: Cluster, node: Any) -> None:
    """Kill a machine as soon as it works on an item."""
    end = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < end:
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


def test_a_machine_killed_in_mid_run_changes_no_row(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, begun = models(tmp_path / "models"), tmp_path / "begun"
    serial = measured(Serial(), folder, tmp_path / "serial")
    hostile(folder, "Kill", "kill.onnx")
    preload = ("intrain_onnx.pipeline",)
    # By the program: the server of this process may have been started without the hostile operators.
    alone = started(tmp_path, "rank", folder, "-o", tmp_path / "processes", "--batch", 4, "--workers", 2)
    assert alone.communicate(timeout=90)
    found = read(tmp_path / "processes").rows.values()
    whole = sorted(json.dumps(row.measured()) for row in found)
    assert [row for row in whole if "kill.onnx" not in row] == serial

    monkeypatch.setenv(STUCK, str(begun))
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    monkeypatch.delenv(STUCK)
    killer = threading.Thread(target=killed_once, args=(begun, cluster, node))
    killer.start()
    engine = Rayed(cluster.address, 2, WorkerLimits(seconds=90), preload=preload)
    rows = measured(engine, folder, tmp_path / "ray", Stuck(RANK, 0.5))
    killer.join()
    assert begun.exists()
    assert rows == whole
    lost = (tmp_path / "ray" / "results.jsonl").read_text().count('"lost"')
    assert lost == 1  # the crash; a machine is not held against the item
    [killed] = [json.loads(row) for row in whole if "kill.onnx" in row]
    assert (killed["status"], killed["error"]["kind"]) == ("quarantined", "crashed")


def test_ray_on_this_machine_leaves_nothing_behind(site: Path, tmp_path: Path):
    """No process, no file beside the outputs, no report of its use; a signal ends it as any engine."""
    folder = models(tmp_path / "models")
    hostile(folder, "Hang", "z.onnx")
    # A path to a socket has 107 bytes at most, and a user's TMPDIR may be long.
    short = "/tmp" if os.path.isdir("/tmp") else None
    home, temporary = tmp_path / "home", Path(tempfile.mkdtemp(prefix="ray", dir=short))
    home.mkdir()
    options = ["--engine", "ray", "--workers", "1", "--batch", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "intrain_onnx", "rank", str(folder), "-o", str(tmp_path / "out"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HOME": str(home), "TMPDIR": str(temporary)},
    )
    log = tmp_path / "out" / "results.jsonl"
    end = time.monotonic() + 60
    while not (log.exists() and log.read_bytes().count(b'"row"') == 7):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    below = children(process.pid)
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - before < 6  # 2 s on a machine with nothing else to do
    assert process.returncode == 143, err
    assert "6 of 7 models have a rank" in out
    assert "Traceback" not in err
    assert all(gone(pid) for pid in below)
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []
    temporary.rmdir()
