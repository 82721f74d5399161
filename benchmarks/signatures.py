#!/usr/bin/env python3
"""How many flags models with unusual signatures need before they are scored, and whether the audit passes.

    python benchmarks/signatures.py                 # the committed networks of that kind
    python benchmarks/signatures.py FILE|FOLDER...  # any others
    python benchmarks/signatures.py --no-audit ...  # scores only

One line for a file: no flag, one hint, more hints, or fails. A hint is what the error of the run before
shows: the options that it names are added, and the run is repeated. --full adds what each input was fed.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import fixtures  # noqa: E402

OPTION = re.compile(r"(--(?:input|input-shape|batch-axis|batch|inputs))[ =]('[^']+'|\"[^\"]+\"|[^\s,;)`]+)")
LONGEST = 600
"""Seconds that one run may take."""


@dataclass
class Run:
    """What one call of the command gave."""

    code: int
    said: str
    report: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def call(command: str, file: Path, options: list[str]) -> Run:
    """Run score or audit on a file and read the report that it wrote."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "report.json"
        output = str(place) if command == "score" else f"json={place}"
        line = [sys.executable, "-m", "intrain_onnx", command, str(file), *options, "-o", output]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        try:
            done = subprocess.run(
                line, capture_output=True, text=True, check=False, timeout=LONGEST, env=environment
            )
        except subprocess.TimeoutExpired:
            return Run(-1, f"takes longer than {LONGEST} s", seconds=LONGEST)
        report = json.loads(place.read_text()) if place.is_file() else {}
    said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
    return Run(done.returncode, said, report, time.monotonic() - start)


def hinted(said: str) -> list[str]:
    """Return the options that an error shows, the first for each option and input."""
    found: dict[tuple[str, str], str] = {}
    for option, text in OPTION.findall(said):
        value = text.strip("'\"") if text[0] in "'\"" else text.rstrip(".:")
        found.setdefault((option, re.split("[:=]", value)[0]), value)
    return [word for (option, _), value in found.items() for word in (option, value)]


@dataclass
class Outcome:
    """How a file fared: the runs of score, one more for each hint, and that of the audit."""

    file: Path
    runs: list[Run]
    options: list[str]
    audit: Run | None = None

    @property
    def kind(self) -> str:
        """How many hints it took."""
        if self.runs[-1].code != 0:
            return "fails"
        return ("no flag", "one hint")[len(self.runs) - 1] if len(self.runs) < 3 else "more"


def fare(file: Path, *, audited: bool, hints: int = 3) -> Outcome:
    """Score a file, taking hints while they bring new options, and audit it with the same ones."""
    options: list[str] = []
    runs = [call("score", file, options)]
    while runs[-1].code != 0 and len(runs) <= hints:
        more = hinted(runs[-1].said)
        if not more or set(more) <= set(options):
            break
        options = [*options, *more]
        runs.append(call("score", file, options))
    return Outcome(file, runs, options, call("audit", file, options) if audited else None)


def parity(report: dict[str, Any]) -> str:
    """Return the outcome of the comparison with onnxruntime in a word or two."""
    found = report.get("parity") or {}
    if found.get("ok") is True:
        return "parity ok"
    return (
        f"parity {'DIFFERS' if found.get('ok') is False else 'not made'}: {found.get('reason', '')}".rstrip(
            ": "
        )
    )


def fed(row: dict[str, Any]) -> str:
    """Return what an input was fed: name, shape, kind, and below which number ids stay."""
    below = f" below {row['ids']}" if row.get("ids") else ""
    return f"{row['name']} {'x'.join(map(str, row['shape']))} {row['kind']}{below}"


def errors(audit: Run) -> list[str]:
    """Return the findings of an audit that fail it."""
    rows = [row for one in audit.report.get("audits", []) for row in one["findings"]]
    return [f"{f['check']} {f.get('place') or ''}".strip() for f in rows if f.get("severity") == "error"]


def line(outcome: Outcome, *, full: bool) -> str:
    """Return what is printed of a file."""
    last, report = outcome.runs[-1], outcome.runs[-1].report
    cells = [f"{outcome.kind:8}", outcome.file.stem]
    if last.code == 0:
        cells += [f"{report['score']['intrain']:.4g}", f"{len(report['layers'])} layers", parity(report)]
    else:
        cells.append(f"exit {last.code}")
    if outcome.audit is not None:
        found = errors(outcome.audit)
        told = f"audit exit {outcome.audit.code}" if outcome.audit.code else "audit passes"
        cells.append(told + (f" ({', '.join(found)})" if found else ""))
    cells.append(f"{sum(run.seconds for run in outcome.runs):.0f} s")
    lines = ["  ".join(cells)]
    lines += [f"    error: {run.said}" for run in outcome.runs if run.code != 0]
    if outcome.options:
        lines.append(f"    hint: {shlex.join(outcome.options)}")
    if outcome.audit is not None and outcome.audit.code not in (0, 1):
        lines.append(f"    audit: {outcome.audit.said}")
    if full:
        lines += [f"    fed: {fed(row)}" for row in report.get("settings", {}).get("inputs_fed", [])]
        lines += [f"    warning: {text}" for text in report.get("warnings", [])]
    return "\n".join(lines)


def files(given: list[str]) -> list[Path]:
    """Return the files to be run: those named, those in folders, or the committed ones."""
    if not given:
        return [fixtures.path(name) for name in fixtures.manifest()["signatures"]["files"]]
    found = [sorted(path.rglob("*.onnx")) if path.is_dir() else [path] for path in map(Path, given)]
    return [file for group in found for file in group]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE|FOLDER")
    parser.add_argument("--no-audit", action="store_true", help="score only")
    parser.add_argument("--full", action="store_true", help="also print what was fed, and warnings")
    args = parser.parse_args()
    outcomes = []
    for file in files(args.files):
        outcomes.append(fare(file, audited=not args.no_audit))
        print(line(outcomes[-1], full=args.full), flush=True)
    counts = Counter(outcome.kind for outcome in outcomes)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("no flag", "one hint", "more", "fails"))
    print(f"\n{len(outcomes)} files: {told}")
    ok = Counter(parity(o.runs[-1].report).split(":")[0] for o in outcomes if o.runs[-1].code == 0)
    print(", ".join(f"{count} {word}" for word, count in ok.items()))
    if not args.no_audit:
        passed = sum(o.audit is not None and o.audit.code == 0 for o in outcomes)
        print(f"audit passes on {passed} of {len(outcomes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
