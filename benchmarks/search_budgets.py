"""Searches the MobileNetV2 space at the paper's budgets, and prints what was found beside ZiCo's winner.

    python benchmarks/search_budgets.py FOLDER [--evaluations 500] [--workers 2] [--seed 0]

A folder that is there is gone on with. The table of the section "At the paper's budgets" of docs/search.md is
printed here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.config import ScoreConfig
from intrain_onnx.search import results
from intrain_onnx.search.candidates import Candidate
from intrain_onnx.search.chosen import chosen
from intrain_onnx.search.costs import Counter, of_model
from intrain_onnx.search.goals import Objective
from intrain_onnx.search.job import ScoreOne
from intrain_onnx.vocabulary import LEADING

SPACE = "mobilenet_v2"
BUDGETS = {"450M": 450e6, "600M": 600e6, "1000M": 1000e6}
ZICO = "16 k7e1b40c40n1s2 k7e2b64c80n1s2 k7e4b96c96n5s2 k7e2b224c224n5s2 2048"
"""Li et al., ZiCo, ICLR 2023: their winner at 450M."""

HEADER = (
    "| budget | architecture | volume | first 20, best | MACs | of the budget | #Params | without a score |"
)


def row(*cells: object) -> str:
    """A row of the table."""
    return f"| {' | '.join(map(str, cells))} |"


def searched(folder: Path, name: str, most: float, options: argparse.Namespace) -> str:
    """Search at one budget; the row of the best."""
    out = folder / name
    command = [
        sys.executable,
        "-m",
        "intrain_onnx",
        "search",
        SPACE,
        "-o",
        str(out),
        "--budget",
        f"macs={name}",
    ]
    for option in ("evaluations", "workers", "seed"):
        command += [f"--{option}", str(getattr(options, option))]
    subprocess.run([*command, *(["--resume"] if out.exists() else [])], check=True)
    evaluations = sorted(results.read(out).evaluations.values(), key=lambda e: e.number)
    objectives = [Objective(LEADING, 1)]
    [best] = chosen(evaluations, objectives, 1)
    [early] = chosen(evaluations[:20], objectives, 1)
    costs = of_model(str(out / "best" / "1.onnx"), SPACES[SPACE].counted_at)
    assert 0.99 * most <= costs["macs"] <= most
    figures = (f"{best.value(LEADING):.1f}", f"{early.value(LEADING):.1f}")
    share = f"{100 * costs['macs'] / most:.2f} %"
    failed = sum(e.value(LEADING) is None for e in evaluations)
    shown = (f"{costs['macs'] / 1e6:.1f} M", share, f"{costs['params'] / 1e6:.2f} M", failed)
    return row(name, f"`{best.architecture}`", *figures, *shown)


def published(seed: int) -> str:
    """The row of ZiCo's winner, scored as the searches score."""
    space = SPACES[SPACE]
    config = ScoreConfig.for_protocol(
        batch=space.batch, size=space.size, seed=seed, seeds=1, threads=1, parity=False
    )
    found = ScoreOne(SPACE, space.size, config)(Candidate(0, (), ZICO), lambda event: None)
    costs = Counter(space, space.counted_at)(ZICO)
    share = f"{100 * costs['macs'] / BUDGETS['450M']:.2f} %"
    shown = (f"{costs['macs'] / 1e6:.1f} M", share, f"{costs['params'] / 1e6:.2f} M", "")
    return row("ZiCo, 450M", f"`{ZICO}`", f"{found.value(LEADING):.1f}", "", *shown)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--evaluations", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = [searched(options.folder, name, most, options) for name, most in BUDGETS.items()]
    lines = [HEADER, "|---|---|---|---|---|---|---|---|", *rows, published(options.seed)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
