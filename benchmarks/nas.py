"""Every score and every proxy on every search space that has accuracies: one run, one page.

    python benchmarks/nas.py DATA_DIR [-o nas.bench] [--workers 2] [--scale 1.0] [--write docs/benchmarks.md]

DATA_DIR holds the tables of accuracies (see `nas_studies.STUDIES` for their names and columns), which are
not part of the repository: some have no licence. Results are stored as they come, so a run that was cut off
goes on when it is started again. torchvision's classifiers need torchvision.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nas_tables
from nas_studies import OF_SETTINGS, SEED, SETTINGS, STUDIES, Measured, SettingsRow, Study, rows_of

from intrain_onnx.bench import run, summary, table
from intrain_onnx.bench.find_space import find
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.proxy_table import PROXIES

SECONDS = "seconds.txt"
LEAST = 6
"""Architectures of a space that are measured at any scale."""


def plan(study: Study, workers: int, *, proxies: tuple[str, ...] = (), **settings: Any) -> run.Plan:
    fixed = {"seed": SEED, "seeds": 1, "device": "cpu", **settings}
    return run.Plan.of(find(study.space), study.protocols, proxies=proxies, workers=workers, **fixed)


def measure(study: Study, data: Path, folder: Path, workers: int) -> Measured:
    space = SPACES[study.space]
    rows = rows_of(study, data)
    entries = table.entries(rows, space, sample=study.sample, seed=SEED)
    made = plan(study, workers, proxies=tuple(PROXIES) if study.proxies else ())
    path = folder / f"{space.name}.jsonl"
    with timed(space.title, folder, workers):
        records = run.run(made, entries, path, resume=True, progress=counted(space.title))
    return Measured(study, rows, entries, records)


@contextmanager
def timed(what: str, folder: Path, workers: int) -> Iterator[None]:
    """Add to the time that the page says: a run that goes on adds to those before it.

    In seconds of one worker, as spaces may be measured side by side.
    """
    started = time.perf_counter()
    try:
        yield
    finally:
        took = time.perf_counter() - started
        with (folder / SECONDS).open("a", encoding="utf-8") as stream:
            stream.write(f"{took * workers:.0f}\n")
        print(f"\n{what}: {took:.0f} s in this run", file=sys.stderr)


def counted(what: str) -> Callable[[int, int], None]:
    return lambda done, total: print(f"\r{what}: {done} of {total}  ", end="", file=sys.stderr, flush=True)


def scaled(count: int, scale: float) -> int:
    return max(LEAST, round(count * scale))


def settings_study(study: Study, sample: int, data: Path, folder: Path, workers: int) -> list[SettingsRow]:
    """Tau of the scores on the same architectures with other numbers and sizes of images."""
    entries = table.entries(rows_of(study, data), SPACES[study.space], sample=sample, seed=SEED)
    rows = []
    for batch, size in SETTINGS:
        made = plan(study, workers, batch=batch, size=size)
        path = folder / f"settings_{batch}x{size}.jsonl"
        title = f"{batch} x {size}"
        with timed(title, folder, workers):
            records = run.run(made, entries, path, resume=True, progress=counted(title))
        found = summary.summarise(entries, records, seed=SEED, rounds=0)
        rows.append(SettingsRow(batch, size, found.measures))
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("nas.bench"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="write the page here")
    parser.add_argument("--spaces", nargs="*", help="these alone")
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of architectures of each")
    options = parser.parse_args(arguments)
    data, folder, workers = options.data, options.output, options.workers
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        replace(study, sample=scaled(study.sample, options.scale))
        for study in STUDIES
        if not options.spaces or study.space in options.spaces
    ]
    missing = [s for s in wanted if not (data / s.file).is_file()]
    for study in missing:
        print(f"left out: {study.file} is not in {data}", file=sys.stderr)
    measured = [measure(s, data, folder, workers) for s in wanted if s not in missing]
    if options.write:
        of_settings = scaled(OF_SETTINGS, options.scale)
        settings = [
            row
            for m in measured
            if m.study.space == STUDIES[0].space
            for row in settings_study(m.study, of_settings, data, folder, workers)
        ]
        seconds = sum(float(line) for line in (folder / SECONDS).read_text(encoding="utf-8").split())
        took = nas_tables.took(seconds, workers)
        text = nas_tables.page(measured, settings, took, [s.file for s in missing])
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
