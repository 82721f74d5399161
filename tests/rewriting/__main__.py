"""Look for broken promises by hand: ``python -m tests.rewriting --chains 5000 --seed 1 -o FOLDER``.

Prints each chain that breaks one, shortened, and saves the network and what became of it as a pair of files.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the packages of tests beside this one

from intrain_onnx.parity import telemetry

os.environ.update(telemetry.SWITCHES)

import numpy as np
import onnx
import torch

from . import chains, networks
from .editing import REWRITES


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=500)
    parser.add_argument("--chain", type=int, help="the one of this number only")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--longest", type=int, default=6, help="steps of a chain at most")
    parser.add_argument(
        "--files", action="store_true", help="the samples and the matrix, not random networks"
    )
    parser.add_argument("--models", nargs="*", type=Path, help="these files, not random networks")
    parser.add_argument("--only", help="steps whose names hold this")
    parser.add_argument("--without", nargs="*", default=[], help="steps to leave out")
    parser.add_argument(
        "--each", action="store_true", help="say how often each step applied, and what failed"
    )
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("-o", "--output", type=Path, help="folder for what was found")
    return parser.parse_args()


SAID = ("refused", "uncovered")
"""Verdicts that a user is told: the first of each reason is shown."""


class Search:
    """Runs chains, counts what became of them, and keeps what breaks a promise."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.counts: Counter[str] = Counter()
        self.applied: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.apart: dict[str, list[float]] = {figure: [] for figure in chains.TOLERANCES}
        self.started = time.monotonic()

    def run(self, title: str, proto: onnx.ModelProto, chain: chains.Chain) -> None:
        outcome = chains.judge(proto, chain, longest=self.args.longest)
        self.counts[outcome.verdict if outcome.steps else "no step applied"] += 1
        self.applied.update(step.name for step in outcome.steps)
        self.gone.update(text[:200] for text in outcome.gone)
        if outcome.verdict == "equal" and outcome.steps:
            for figure, distance in outcome.apart.items():
                self.apart[figure].append(distance)
        if outcome.verdict in SAID:
            text = re.sub(r"'[^']*'|[\d.]+", "*", f"{outcome.verdict}: {outcome.detail}")[:200]
            self.refused[text] += 1
        if outcome.verdict in chains.BROKEN or (outcome.verdict in SAID and self.refused[text] == 1):
            self.found(title, proto, outcome)

    def found(self, title: str, proto: onnx.ModelProto, outcome: chains.Outcome) -> None:
        chain, outcome = chains.shorten(proto, outcome.steps)
        kind = f"{outcome.verdict} {' > '.join(step.name for step in chain)}"
        self.kinds[kind] += 1
        if self.kinds[kind] > 3:
            return
        print(f"{kind}\n    {title}\n    {chain}\n    {outcome.detail}", flush=True)
        if self.args.output and outcome.model is not None:
            self.args.output.mkdir(parents=True, exist_ok=True)
            stem = f"{'-'.join(step.name for step in chain)[:80]}-{self.kinds[kind]}"
            onnx.save(proto, self.args.output / f"{stem}-before.onnx")
            onnx.save(outcome.model, self.args.output / f"{stem}-after.onnx")
            text = f"{kind}\n{title}\n{chain}\n{outcome.detail}\n"
            (self.args.output / f"{stem}.txt").write_text(text)

    def summary(self) -> None:
        seconds = time.monotonic() - self.started
        total = sum(self.counts.values())
        print(f"seed {self.args.seed}: {total} chains in {seconds:.0f} s: {dict(self.counts)}")
        for figure, found in self.apart.items():
            shares = np.quantile(found or [0.0], [0.5, 0.9, 0.99, 0.999, 1])
            text = " ".join(f"{x:.1e}" for x in shares)
            print(f"{figure} of equal scores: {text} (50 %, 90 %, 99 %, 99.9 %, all)")
        for title, rows in (("broken", self.kinds), ("said", self.refused), ("left out", self.gone)):
            for text, count in rows.most_common(None if self.args.each else 20):
                print(f"{title} {count:5d}  {text}")
        if self.args.each:
            for name in REWRITES:
                print(f"applied {self.applied[name]:5d}  {name}")


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)
    search = Search(args)
    missing = sorted(n for n, found in REWRITES.items() if not found.available)
    print(f"seed {args.seed}; without their tools: {', '.join(missing) or 'none'}", flush=True)
    names = [n for n, found in REWRITES.items() if found.available and (args.only or "") in n]
    names = [n for n in names if n not in args.without]
    paths = list(networks.files().items()) if args.files else [(p.stem, p) for p in args.models or ()]
    fixed = [(name, networks.on_grid(onnx.load(path))) for name, path in paths]
    for index in [args.chain] if args.chain is not None else range(args.chains):
        if time.monotonic() - search.started > 60 * args.minutes:
            break
        rng = np.random.default_rng([args.seed, index])
        if fixed:
            title, proto = fixed[int(rng.integers(len(fixed)))]
        else:
            plan = networks.random_plan(rng)
            title, proto = repr(plan), networks.build(plan)
        search.run(f"chain {index}: {title}", proto, chains.random_chain(rng, names))
    search.summary()


if __name__ == "__main__":
    main()
