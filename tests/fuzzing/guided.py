"""A coverage-guided fuzzer over one of the targets: ``python -m tests.fuzzing.guided network -o FOLDER``.

Needs atheris. Runs until ``--executions`` or ``--minutes`` are over. A file that breaks a target is saved in
the folder, with its traceback printed, and ends the run with another exit code than 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the packages of tests beside this one

import atheris

from intrain_onnx.parity import telemetry

os.environ.update(telemetry.SWITCHES)

with atheris.instrument_imports(include=["intrain_onnx"]):
    from . import targets


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument(
        "--executions", type=int, default=-1, help="as many as fit into the minutes by default"
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="start from one in so many files")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder for the corpus and what is found"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    corpus = args.output / args.target
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as started:
        for number, data in enumerate(targets.seeds(args.target)[:: args.every]):
            (Path(started) / f"{number:05}").write_bytes(data)
        options = [
            sys.argv[0],
            str(corpus),
            started,
            f"-seed={args.seed}",
            f"-runs={args.executions}",
            f"-max_total_time={round(60 * args.minutes)}",
            f"-artifact_prefix={args.output}/{args.target}-",
            "-max_len=200000",
            "-timeout=60",
            "-rss_limit_mb=6000",
            "-print_final_stats=1",
        ]
        atheris.Setup(options, targets.TARGETS[args.target], custom_mutator=_mutator(args.target))
        atheris.Fuzz()


def _mutator(name: str) -> Callable[[bytes, int, int], bytes]:
    def mutate(data: bytes, largest: int, seed: int) -> bytes:
        return targets.damaged(name, data, seed)[:largest]

    return mutate


if __name__ == "__main__":
    main()
