#!/usr/bin/env python3
"""What `intrain-onnx rank` holds among hostile files, what kills cost it, models an hour.

    python benchmarks/rank_many.py                                        # 100 models, prints the section
    python benchmarks/rank_many.py --models 1000 --write docs/rank.md     # puts it into the page
    python benchmarks/rank_many.py --parts speed --hostile FOLDER

Models are cells of NAS-Bench-201 drawn by a seed, with BatchNorm folded. Hostile files are those of
`tests/fuzzing/corpus`, of `--hostile`, and mutants by seed, up to `--bad` in all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fuzzing import mutate, sources  # noqa: E402

from intrain_onnx.bench.spaces import nasbench201  # noqa: E402
from intrain_onnx.rank import results  # noqa: E402
from intrain_onnx.rank.rows import Row  # noqa: E402

PARTS = ("hostile", "killed", "speed")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
LIMITS = ("--limit", "seconds=20", "--limit", "memory=3Gi")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=lambda text: text.split(","), default=PARTS, help="by name")
    parser.add_argument("--models", type=int, default=100, help="generated, in the folder with hostile ones")
    parser.add_argument("--bad", type=int, default=100, help="hostile files in that folder")
    parser.add_argument("--hostile", type=Path, help="folder with more of them")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--few", type=int, default=30, help="models of the parts killed and speed")
    parser.add_argument("--rounds", type=int, default=3, help="of the part speed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="JSON file of the numbers; those of other parts stay")
    parser.add_argument("--write", type=Path, help="page with the markers")
    return parser.parse_args()


def write_models(folder: Path, number: int, seed: int) -> None:
    """Distinct cells of NAS-Bench-201."""
    folder.mkdir()
    generator, cells = random.Random(seed), dict[str, None]()
    while len(cells) < number:
        cells[nasbench201.sample(generator)] = None
    for i, cell in enumerate(cells):
        onnx.save(nasbench201.build(cell, fold=True), folder / f"cell-{i:04d}.onnx")


def write_hostile(folder: Path, number: int, more: Path | None, seed: int) -> None:
    """The corpus, what was given, and mutants."""
    given = [p for place in (ROOT / "tests/fuzzing/corpus", more) if place for p in place.glob("*.onnx")]
    for path in list({path.name: path for path in given}.values())[:number]:
        shutil.copy(path, folder / f"bad-{path.name}")
    valid, job = sources.everything(), seed * 10**7
    while len(list(folder.glob("bad-*"))) < number:
        data, _ = mutate.mutant(valid[random.Random(job).randrange(len(valid))][1], job)
        (folder / f"bad-mutant-{job}.onnx").write_bytes(data)
        job += 1


def start(*args: object, quiet: bool = True) -> subprocess.Popen[bytes]:
    """The command, in a process of its own."""
    to = subprocess.DEVNULL if quiet else None
    return subprocess.Popen([sys.executable, "-m", "intrain_onnx", *map(str, args)], stdout=to, stderr=to)


def rank(folder: Path, out: Path, *more: object) -> subprocess.Popen[bytes]:
    """One ranking under small limits."""
    return start("rank", folder, "-o", out, *LIMITS, *more)


def lines(out: Path) -> int:
    """Rows of a log, roughly."""
    path = out / results.LOG
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def resident(pid: int) -> float:
    """Megabytes that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def below(pid: int) -> list[int]:
    """All processes below one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found += [int(path.parent.name), *below(int(path.parent.name))]
    return found


def alive(pids: set[int], patience: float = 10.0) -> int:
    """How many of some processes still run after a while."""
    end = time.monotonic() + patience
    while (left := [p for p in pids if Path(f"/proc/{p}/exe").exists()]) and time.monotonic() < end:
        time.sleep(0.1)
    return len(left)


def among_hostile(asked: argparse.Namespace, place: Path) -> dict[str, Any]:
    """All models of a folder with hostile ones, and what the parent and its workers leave."""
    folder, out = place / "models", place / "out"
    write_models(folder, asked.models, asked.seed)
    write_hostile(folder, asked.bad, asked.hostile, asked.seed)
    began, seen, memory = time.monotonic(), set[int](), []
    process = rank(folder, out, "--workers", 2)
    while process.poll() is None:
        seen.update(below(process.pid))
        try:
            memory.append((lines(out), resident(process.pid)))
        except OSError:
            break
        time.sleep(0.25)
    process.wait()
    rows = list(results.read(out).rows.values())
    bad = [row for row in rows if Path(row.model).name.startswith("bad-")]
    scored = sum(row.status == "scored" for row in rows if row not in bad)
    ends = Counter("scored" if row.error is None else row.error.kind for row in bad)
    return {
        "models": asked.models,
        "scored": scored,
        "hostile": asked.bad,
        "hostile_rows": len(bad),
        "ends": dict(ends.most_common()),
        "internal": sum(row.error is not None and row.error.kind == "internal" for row in bad),
        "left": alive(seen),
        "memory": [
            next((m for n, m in memory if n >= share * len(rows)), 0.0) for share in (0.05, 0.5, 0.97)
        ],
        "seconds": time.monotonic() - began,
        "row_bytes": (out / results.LOG).stat().st_size / len(rows),
        "exit_code": process.returncode,
    }


def measured(out: Path) -> list[dict[str, Any]]:
    """Rows by name, without what may differ."""

    def plain(row: Row) -> dict[str, Any]:
        return {name: value for name, value in row.measured().items() if name != "same_as"}

    return sorted(map(plain, results.read(out).rows.values()), key=lambda row: str(row["model"]))


def killed(asked: argparse.Namespace, place: Path) -> dict[str, Any]:
    """A run killed again and again, beside one left alone."""
    folder = place / "few"
    write_models(folder, asked.few, asked.seed + 1)
    write_hostile(folder, 10, None, asked.seed)
    whole, cut, chance = place / "whole", place / "cut", random.Random(asked.seed)
    began = time.monotonic()
    rank(folder, whole, "--workers", 2).wait()
    undisturbed = time.monotonic() - began
    kills, left, done = 0, 0, []
    while kills < asked.kills:
        process = rank(folder, cut, "--workers", 2, *(["--resume"] if lines(cut) or kills else []))
        before, until = lines(cut), chance.uniform(0.0, 1.0)
        while process.poll() is None and lines(cut) <= before and kills:  # each kill after some progress
            time.sleep(0.02)
        time.sleep(until if kills else 3 * until)
        workers = set(below(process.pid))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills, left = kills + 1, left + alive(workers)
        done.append(lines(cut))
    rank(folder, cut, "--workers", 2, "--resume").wait()
    return {
        "rows": len(measured(whole)),
        "kills": kills,
        "done": done,
        "equal": measured(cut) == measured(whole),
        "left": left,
        "seconds": undisturbed,
    }


def speed(asked: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Models an hour, in turn: one worker, two, and plain `score` with two threads."""
    folder = place / "fast"
    write_models(folder, asked.few, asked.seed + 2)
    models = sorted(folder.iterdir())
    plain = ["--seeds", 1, "--no-parity", "--threads", 2]
    times: dict[str, list[float]] = {"one": [], "two": [], "score": []}
    loads = []
    for i in range(asked.rounds):
        loads.append(os.getloadavg()[0])
        runs: dict[str, Callable[[Path], subprocess.Popen[bytes]]] = {
            "one": lambda out: rank(folder, out, "--workers", 1),
            "two": lambda out: rank(folder, out, "--workers", 2),
            "score": lambda out: start("score", *models, *plain, "-o", f"{out}/"),
        }
        for name, run in runs.items():
            out = place / f"{name}-{i}"
            out.mkdir()
            began = time.monotonic()
            process = run(out)
            process.wait()
            times[name].append(time.monotonic() - began)
    return {"models": asked.few, "times": times, "loads": loads, "cores": os.cpu_count()}


def section(found: dict[str, Any]) -> str:
    """The figures as the page has them."""
    text = [
        BEGIN,
        f"Written by `benchmarks/rank_many.py` on {os.cpu_count()} cores ({platform.machine()}).",
        "",
    ]
    if "hostile" in found:
        text += _hostile(found["hostile"])
    if "killed" in found:
        text += _killed(found["killed"])
    if "speed" in found:
        text += _speed(found["speed"], found.get("hostile"))
    return "\n".join([*text, END])


def _hostile(part: dict[str, Any]) -> list[str]:
    ends = ", ".join(f"{name} {count}" for name, count in part["ends"].items())
    memory = ", ".join(f"{value:.0f}" for value in part["memory"])
    return [
        "| among hostile files, two workers | |",
        "| --- | --- |",
        f"| generated models scored | {part['scored']:,} of {part['models']:,} |",
        f"| hostile files with a row | {part['hostile_rows']} of {part['hostile']} |",
        f"| how those ended | {ends} |",
        f"| processes left | {part['left']} |",
        f"| memory of the parent near its start, middle and end, MB | {memory} |",
        f"| bytes of the log a row | {part['row_bytes']:,.0f} |",
        f"| seconds in all | {part['seconds']:.0f} |",
        "",
    ]


def _killed(part: dict[str, Any]) -> list[str]:
    same = "equal to" if part["equal"] else "NOT EQUAL to"
    return [
        f"Killed with SIGKILL {part['kills']} times and resumed: {part['rows']} rows, {same} those of a run "
        f"left alone; rows at each kill: {', '.join(map(str, part['done']))}; workers left: {part['left']}.",
        "",
    ]


def _speed(part: dict[str, Any], hostile: dict[str, Any] | None) -> list[str]:
    hours = {name: [part["models"] / t * 3600 for t in times] for name, times in part["times"].items()}
    medians = {name: statistics.median(values) for name, values in hours.items()}
    titles = {"one": "1 worker", "two": "2 workers", "score": "plain `score`, 2 threads"}
    ratio = statistics.median(b / a for a, b in zip(hours["one"], hours["two"], strict=True))
    core_hours = 1e6 / medians["one"]
    rows = [
        f"| {titles[name]} | {medians[name]:,.0f} ({min(values):,.0f} to {max(values):,.0f}) |"
        for name, values in hours.items()
    ]
    size = ""
    if hostile:
        grown = (hostile["memory"][2] - hostile["memory"][0]) / (
            0.92 * (hostile["models"] + hostile["hostile"])
        )
        size = (
            f" The log takes {hostile['row_bytes'] / 1e3:.1f} GB, and the parent, which holds all rows and "
            f"writes the tables at the end, {1e3 * grown:.0f} GB of memory: rank such sets in parts."
        )
    loads = ", ".join(f"{load:.1f}" for load in part["loads"])
    return [
        "| NAS-Bench-201, 16 samples of 3x32x32 | models an hour, median and range |",
        "| --- | --- |",
        *rows,
        "",
        f"{part['models']} models a run, in turn, {len(part['loads'])} rounds, the start of the processes "
        f"included. Two workers over one, within a round: {ratio:.2f}. Load of the machine before each "
        f"round, from other work too: {loads}.",
        "",
        f"**A million such models** are 1,000,000 / {medians['one']:,.0f} = {core_hours:,.0f} core-hours, "
        f"{core_hours / 64:,.1f} hours on one machine of 64 cores or {core_hours / 640:,.1f} on ten; at "
        f"0.04 $ a core-hour, {0.04 * core_hours:,.0f} $.{size}",
        "",
    ]


def main() -> None:
    """Measure, then print or write the section."""
    asked = options()
    found: dict[str, Any] = {}
    if asked.keep and asked.keep.exists():
        found = json.loads(asked.keep.read_text(encoding="utf-8"))
    for part, function in {"hostile": among_hostile, "killed": killed, "speed": speed}.items():
        if part in asked.parts:
            with tempfile.TemporaryDirectory() as place:
                found[part] = function(asked, Path(place))
            print(part, found[part], file=sys.stderr, flush=True)
            if asked.keep:
                asked.keep.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = section(found)
    if asked.write:
        page = asked.write.read_text(encoding="utf-8")
        head, _, rest = page.partition(BEGIN)
        asked.write.write_text(head + text + rest.partition(END)[2], encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
