"""Every score and every proxy on every search space that has accuracies: one run, one page.

    python benchmarks/nas.py DATA_DIR [-o nas.bench] [--workers 2] [--write docs/benchmarks.md]

DATA_DIR holds the tables of accuracies (see `nas_studies.STUDIES` for their names and columns), which are
not part of the repository: some have no licence. Results are stored as they come, so a run that was cut off
goes on when it is started again. torchvision's classifiers need torchvision.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nas_tables
from nas_studies import OF_SETTINGS, SEED, SETTINGS, STUDIES, Measured, SettingsRow, Study, rows_of

from intrain_onnx.bench import run, summary, table
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.proxy_table import PROXIES


def plan(study: Study, workers: int, *, proxies: tuple[str, ...] = (), **settings: Any) -> run.Plan:
    fixed = {"seed": SEED, "seeds": 1, "device": "cpu", **settings}
    return run.Plan.of(SPACES[study.space], study.protocols, proxies=proxies, workers=workers, **fixed)


def measure(study: Study, data: Path, folder: Path, workers: int) -> Measured:
    space = SPACES[study.space]
    rows = rows_of(study, data)
    entries = table.entries(rows, space, sample=study.sample, seed=SEED)
    made = plan(study, workers, proxies=tuple(PROXIES) if study.proxies else ())
    path = folder / f"{space.name}.jsonl"
    started = time.perf_counter()
    records = run.run(made, entries, path, resume=True, progress=counted(space.title))
    took = time.perf_counter() - started
    with (folder / "seconds.txt").open("a", encoding="utf-8") as stream:
        stream.write(f"{took:.0f}\n")  # a run that goes on adds to those before it
    print(f"\n{space.title}: {took:.0f} s in this run", file=sys.stderr)
    return Measured(study, rows, entries, records)


def counted(what: str) -> Callable[[int, int], None]:
    return lambda done, total: print(f"\r{what}: {done} of {total}  ", end="", file=sys.stderr, flush=True)


def settings_study(data: Path, folder: Path, workers: int) -> list[SettingsRow]:
    """Tau of the scores on the same architectures with other numbers and sizes of images."""
    study = STUDIES[0]
    entries = table.entries(rows_of(study, data), SPACES[study.space], sample=OF_SETTINGS, seed=SEED)
    rows = []
    for batch, size in SETTINGS:
        made = plan(study, workers, batch=batch, size=size)
        path = folder / f"settings_{batch}x{size}.jsonl"
        records = run.run(made, entries, path, resume=True, progress=counted(f"{batch} x {size}"))
        found = summary.summarise(entries, records, seed=SEED, rounds=0)
        rows.append(SettingsRow(batch, size, found.measures))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("nas.bench"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="write the page here")
    parser.add_argument("--spaces", nargs="*", help="these alone")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = [s for s in STUDIES if not options.spaces or s.space in options.spaces]
    missing = [s for s in wanted if not (options.data / s.file).is_file()]
    for study in missing:
        print(f"left out: {study.file} is not in {options.data}", file=sys.stderr)
    measured = [measure(s, options.data, options.output, options.workers) for s in wanted if s not in missing]
    if options.write:
        first = STUDIES[0] in wanted and STUDIES[0] not in missing
        settings = settings_study(options.data, options.output, options.workers) if first else []
        seconds = sum(float(line) for line in (options.output / "seconds.txt").read_text().split())
        text = nas_tables.page(measured, settings, seconds, [s.file for s in missing])
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
