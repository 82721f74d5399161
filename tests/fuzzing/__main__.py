"""Look for internal errors by hand: ``python -m tests.fuzzing --mutants 20000 --seed 1 -o FOLDER``.

Damages valid models, runs ``inspect`` and ``score`` on each mutant, prints how many ended in which way, and
each place that raised what no file may raise; the first mutant of each place is saved.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the packages of tests beside this one

from intrain_onnx.parity import telemetry

os.environ.update(telemetry.SWITCHES)

from . import drive, subjects


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=1000)
    parser.add_argument("--mutant", type=int, help="the one of this number only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--seconds", type=float, default=60.0, help="wall clock of one mutant")
    parser.add_argument("-o", "--output", type=Path, help="folder for what was found")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    first = args.seed * 10**7
    jobs = range(first, first + args.mutants) if args.mutant is None else [args.mutant]
    counts: Counter[str] = Counter()
    places: Counter[str] = Counter()
    began = time.monotonic()
    subjects.warm_up()
    for verdict in drive.run(subjects.inspect_and_score, jobs, seconds=args.seconds):
        counts[verdict.kind] += 1
        if verdict.is_broken:
            place = re.sub(r"0x[0-9a-f]+|\d{4,}", "#", f"{verdict.kind} {verdict.text}")
            places[place] += 1
            if places[place] == 1:
                _keep(verdict, args.output)
        elif verdict.seconds > 20:
            print(f"slow: {verdict.job} {verdict.seconds:.0f} s {verdict.kind}", flush=True)
        if sum(counts.values()) % 1000 == 0:
            print(f"{sum(counts.values()):,} in {time.monotonic() - began:,.0f} s", flush=True)
        if time.monotonic() - began > 60 * args.minutes:
            break
    total = sum(counts.values())
    print(f"{total:,} mutants in {time.monotonic() - began:,.0f} s: {dict(counts.most_common())}")
    for place, number in places.most_common():
        print(f"{number:6} {place}")
    return 1 if places else 0


def _keep(verdict: drive.Verdict, folder: Path | None) -> None:
    name, data, damages = subjects.mutant_of(verdict.job)
    print(f"{verdict.kind} {verdict.job} {name} {damages}: {verdict.text}", flush=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{verdict.kind.lower()}_{verdict.job}.onnx").write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
