"""Worker processes: each loss is one item's, is told with its reason, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from intrain_onnx.engine import processes
from intrain_onnx.engine.outcomes import Lost, WorkerLimits
from intrain_onnx.engine.serial import Serial
from intrain_onnx.errors import LimitError

from .jobs import behave, square, where

pytestmark = pytest.mark.workers
LIMITS = WorkerLimits(seconds=20, cpu_seconds=10, memory=200 * 2**20)


def results(items: list[Any], limits: WorkerLimits = LIMITS, workers: int = 2) -> dict[int, Any]:
    found = processes.Processes(workers, limits).map(behave, items)
    return {outcome.index: outcome.result for outcome in found}


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody waited for does not."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def gone(pid: int, patience: float = 10.0) -> bool:
    end = time.monotonic() + patience
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_all_items_come_back_as_the_serial_engine_gives_them(workers: int):
    told: list[tuple[int, Any]] = []
    found = processes.Processes(workers).map(
        square, range(20), lambda index, event: told.append((index, event))
    )
    assert sorted((o.index, o.item, o.result) for o in found) == [(i, i, i * i) for i in range(20)]
    assert sorted(told) == [(i, ("half", i)) for i in range(20)]
    plain = Serial().map(square, range(20))
    assert [(o.index, o.item, o.result) for o in plain] == [(i, i, i * i) for i in range(20)]


def test_no_items_start_no_process():
    assert list(processes.Processes(2).map(square, [])) == []


def test_a_worker_serves_many_items():
    assert len({o.result for o in processes.Processes(1).map(where, range(5))}) == 1


@pytest.mark.parametrize(
    "number", [signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL]
)
def test_a_crash_costs_its_item_alone(number: signal.Signals):
    found = results([("a", 0), ("signal", number), ("b", 0), ("c", 0)])
    assert found == {0: "a", 1: Lost("crashed", number.name), 2: "b", 3: "c"}
    assert found[1].may_pass
    assert found[1].error("x.onnx").exit_code == 1


def test_a_kill_and_an_exit_are_no_crash():
    found = results([("signal", signal.SIGKILL), ("exit", 3), ("a", 0)])
    assert found == {0: Lost("killed", "SIGKILL"), 1: Lost("killed", "exit code 3"), 2: "a"}


@pytest.mark.parametrize(
    ("item", "limits", "reason"),
    [
        (("sleep", 60), WorkerLimits(seconds=1), "timeout"),
        (("spin", 0), WorkerLimits(cpu_seconds=1), "cpu_time"),
        (("allocate", 2**30), WorkerLimits(memory=200 * 2**20), "memory"),
    ],
)
def test_each_limit_is_told_with_its_option(item: Any, limits: WorkerLimits, reason: str):
    found = results([item, ("a", 0)], limits)
    assert (found[0].reason, found[1]) == (reason, "a")
    option = {"timeout": "seconds", "cpu_time": "cpu_seconds", "memory": "memory"}[reason]
    assert isinstance(found[0].error(), LimitError)
    assert f"--limit {option}=" in str(found[0].error("x.onnx"))
    assert not found[0].may_pass


def test_what_a_fresh_worker_holds_does_not_count(tmp_path: Path):
    """One that is forked of a server with torch has some 300 MB from the start."""
    script = tmp_path / "parent.py"
    script.write_text(
        "from intrain_onnx.engine.outcomes import WorkerLimits\n"
        "from intrain_onnx.engine.processes import Processes\n"
        "from tests.engine.jobs import behave\n"
        "if __name__ == '__main__':\n"
        "    engine = Processes(1, WorkerLimits(memory=100 * 2**20), preload=('torch',))\n"
        "    items = [('sleep', 1), ('allocate', 2**30), ('a', 0)]\n"
        "    print([getattr(o.result, 'reason', o.result) for o in engine.map(behave, items)])\n"
    )
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env, check=True)
    assert found.stdout == "['sleep', 'memory', 'a']\n"


def test_cpu_time_of_earlier_items_does_not_count():
    """The kernel adds it up over the life of a process."""
    limits = WorkerLimits(cpu_seconds=2)
    items = [("busy", i) for i in range(6)]
    found = processes.Processes(1, limits).map(_busy, items)
    assert [o.result for o in found] == list(range(6))


def _busy(item: tuple[str, int], tell: Any) -> int:
    end = time.process_time() + 0.6
    while time.process_time() < end:
        pass
    return item[1]


def test_what_a_job_raises_is_told_with_its_traceback():
    found = results(
        [("raise", ValueError("two\nlines")), ("raise", MemoryError()), ("unpicklable", 1), ("a", 0)]
    )
    assert found[0].reason == "internal"
    assert found[0].detail == "ValueError: two"
    assert "in behave" in found[0].trace
    assert found[1].reason == "memory"
    assert (found[2].reason, "cannot be sent" in found[2].detail) == ("internal", True)
    assert found[3] == "a"


def test_workers_do_not_write_on_standard_output(capfd: pytest.CaptureFixture[str]):
    assert results([("print", "noise")]) == {0: "print"}
    assert capfd.readouterr().out == ""


def test_nothing_is_left_of_a_worker_that_had_children(tmp_path: Path):
    assert results([("child", str(tmp_path / "pid"))])[0].reason == "crashed"
    assert gone(int((tmp_path / "pid").read_text()))


def test_items_are_taken_when_a_worker_is_free():
    taken: list[int] = []

    def items() -> Any:
        for i in range(10):
            taken.append(i)
            yield i

    found = processes.Processes(2).map(square, items())
    next(found)
    assert len(taken) == 2
    next(found)
    assert len(taken) <= 3
    found.close()


def test_closing_ends_the_workers():
    found = processes.Processes(2).map(where, range(10))
    pids = {next(found).result for _ in range(4)}
    found.close()
    assert all(gone(pid) for pid in pids)


def test_a_worker_that_dies_idle_costs_nothing():
    engine = processes.Processes(1)
    found = engine.map(where, range(3))
    first = next(found).result
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    rest = [o.result for o in found]
    assert len(rest) == 2
    assert not any(isinstance(pid, Lost) for pid in rest)
    assert first not in rest


def test_killed_again_and_again_every_item_is_told_once():
    """The pools of libraries share a pipe and its lock, and stall where a worker dies holding it."""
    engine, seen = processes.Processes(2), []
    for count, outcome in enumerate(engine.map(square, range(300))):
        seen.append(outcome.index)
        if count % 10 == 0:
            process = engine.workers[count // 10 % 2]._process
            if process is not None and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
    assert sorted(seen) == list(range(300))


def run_script(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    root, script = Path(__file__).parents[2], folder / "script.py"
    head = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from intrain_onnx.config import ScoreConfig\n"
        "from intrain_onnx.engine.processes import Processes\n"
        "from tests.engine.jobs import square\n"
        f"CONFIG, MODELS = ScoreConfig.for_protocol(), {str(root / 'samples')!r}\n"
    )
    script.write_text(head + text)
    env = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, script]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )


UNGUARDED = {
    "engine": "list(Processes(1).map(square, range(1000)))",
    "rank": """
from intrain_onnx.rank import job, run, sources
run.run(job.RankOne(CONFIG), sources.candidates([MODELS]), Path(), Processes(1), resume=True)
""",
    "bench": """
from intrain_onnx.bench import run
from intrain_onnx.bench.find_space import find
from intrain_onnx.bench.table import Entry
plan = run.Plan.of(find("digits"), ["architecture"], workers=1)
entries = [Entry(str(number), {}) for number in range(1000)]
run.run(plan, entries, Path("results.jsonl"), resume=True, progress=lambda done, total: None)
""",
    "search": """
from intrain_onnx.bench.find_space import find
from intrain_onnx.search import goals, run
plan = run.Plan(find("macro"), goals.Goals(), CONFIG, 32, 32, 4, 0)
run.run(plan, 1000, Path(), Processes(1), run.Ended(), resume=True)
""",
}
"""Calls of a script without a guard, which each worker imports and so makes again."""


@pytest.mark.parametrize("call", UNGUARDED)
def test_a_script_without_a_guard_ends(call: str, tmp_path: Path):
    if call == "search":
        pytest.importorskip("pymoo")
    found = run_script(tmp_path, UNGUARDED[call])
    last = found.stderr.splitlines()[-1]
    assert found.returncode == 1
    assert "end before they are ready: exit code 1, 4 times in a row" in last
    assert 'below `if __name__ == "__main__":`' in last


DYING = """
if __name__ == "__mp_main__":
    os.kill(os.getpid(), signal.{0})
if __name__ == "__main__":
    print(*(outcome.result for outcome in Processes(1).map(square, [1])))
"""


def test_a_crash_at_each_start_ends_the_run_and_a_kill_does_not(tmp_path: Path):
    """Memory may be there again for the next item; a library that crashes when it is loaded stays so."""
    crashed = run_script(tmp_path, DYING.format("SIGSEGV"))
    assert "end before they are ready: SIGSEGV, 4 times in a row" in crashed.stderr
    killed = run_script(tmp_path, DYING.format("SIGKILL"))
    assert "Lost(reason='killed', detail='SIGKILL'" in killed.stdout


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("doing", ["sleep", "hold"])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, doing: str):
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, time\n"
        "from intrain_onnx.engine.processes import Processes\n"
        "from tests.engine.jobs import behave, where\n"
        "if __name__ == '__main__':\n"
        "    engine = Processes(2)\n"
        "    for worker in engine.workers:\n"
        f"        worker.begin(behave, ('{doing}', 600))\n"
        "    print(*(w._process.pid for w in engine.workers), flush=True)\n"
        "    time.sleep(600)\n"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    time.sleep(1)  # they have begun
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all(gone(pid) for pid in pids)
