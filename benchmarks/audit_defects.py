#!/usr/bin/env python3
"""How well the audit finds seeded defects, and how often it cries wolf on healthy models.

    python benchmarks/audit_defects.py            # samples and the real models of tests/get_models.py
    python benchmarks/audit_defects.py --wide     # and what the exporters of all frameworks write
    python benchmarks/audit_defects.py --trained  # instead: defects in layers of trained models

Prints tables in Markdown; docs/audit.md has them. A defect is found where the named check fires at the
named place. A false alarm is a finding that fails the policy on a healthy model.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import fixtures  # noqa: E402
from audit.defects import DEFECTS, Defect, change, one_nan, stored  # noqa: E402
from models.fetch import names, path  # noqa: E402

from intrain_onnx.audit import policy  # noqa: E402
from intrain_onnx.audit.policy import Policy  # noqa: E402
from intrain_onnx.audit.run import Finding, Result, audit  # noqa: E402

LARGE = {
    "opennsfw": 2,
    "nudenet": 4,
    "rapidocr_det": 4,
    "rapidocr_rec": 4,
    "ddddocr": 4,
    "ddddocr_det": 2,
    "ddddocr_old": 4,
}
"""Samples of models with large inputs; the others take all 16."""


def found(result: Result, defect: Defect) -> Finding | None:
    """The finding that a defect must have, if it is there."""
    rows = [f for f in result.findings if f.check == defect.check and f.found.place == defect.place]
    return rows[0] if rows else None


def defects(told: Policy) -> int:
    """Print the table of defects; return how many were found."""
    print("| defect | check | names | severity | audit |\n|---|---|---|---|---|")
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for defect in DEFECTS:
            file = Path(folder) / "model.onnx"
            onnx.save(defect.model(), file)
            own = policy.parse(defect.policy)
            result = audit(file, replace(own, run=replace(told.run, providers=own.run.providers)))
            finding = found(result, defect)
            count += finding is not None
            verdict = "passes" if result.passed else "fails"
            named = "" if defect.place is None else f"`{defect.place}`"
            severity = "**missed**" if finding is None else finding.severity
            print(f"| {defect.name} | `{defect.check}` | {named} | {severity} | {verdict} |", flush=True)
    print(f"\n{count} of {len(DEFECTS)} defects found.\n")
    return count


def healthy(told: Policy, *, wide: bool) -> int:
    """Print the table of healthy models; return how many failed."""
    files = {file.stem: file for file in sorted((ROOT / "samples").glob("*.onnx"))}
    files |= {name: path(name) for name in names() if not name.startswith("light_")}
    print("| healthy model | audit | warnings | notes |\n|---|---|---|---|")
    results = {name: held(name, file, told) for name, file in files.items()}
    for name, result in results.items():
        print(f"| {name} | {' | '.join(cells([result]))} |")
    for family in ("export", "matrix") if wide else ():
        found = [held(n, fixtures.path(n), told) for n in fixtures.names() if n.startswith(family)]
        print(
            f"| {family}-\\*: {len(found)} files of all exporters | {' | '.join(cells(found))} |", flush=True
        )
        results |= {f"{family}-{i}": result for i, result in enumerate(found)}
    alarms = sum(not result.passed for result in results.values())
    print(f"\n{alarms} of {len(results)} healthy models fail: false alarms.")
    return alarms


def held(name: str, file: Path, told: Policy) -> Result:
    """One healthy model; what it fails on goes to standard error."""
    result = audit(file, replace(told, run=replace(told.run, batch=LARGE.get(name, told.run.batch))))
    for finding in result.findings:
        if told.fails(finding.severity):
            print(
                f"{name}: {finding.check} at {finding.found.place}: {finding.found.message}", file=sys.stderr
            )
    return result


def cells(results: list[Result]) -> list[str]:
    """Verdict, warnings and notes of one model or of several."""
    failed = sum(not result.passed for result in results)
    counted = Counter((f.severity, f.check) for result in results for f in result.findings)
    rows = [
        ", ".join(
            f"`{check}`" + (f" x {n}" if n > 1 else "")
            for (s, check), n in sorted(counted.items())
            if s == severity
        )
        for severity in ("warning", "note")
    ]
    return [f"**{failed} fail**" if failed else "passes" if len(results) == 1 else "all pass", *rows]


GENERIC: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "layer zeroed": ("weights-zero", np.zeros_like),
    "constant weights": ("weights-rank", np.ones_like),
    "one NaN weight": ("weights-not-finite", one_nan),
    "weights times 1e12": ("weights-extreme", lambda array: array * 1e12),
}
"""Defects that any network can have, with the check that must find each."""

TRAINED = (
    "rapidocr_cls",
    "rapidocr_rec",
    "magika",
    "silero_vad_16k_sequence",
    "silero_vad_op18_ifless",
    "nudenet",
)


def in_real_models(told: Policy, layers: int = 4) -> int:
    """Seed defects into layers of trained models, evenly spaced in depth; return how many were missed."""
    print("| defect in a trained model | seeded | found and named | audit fails |\n|---|---|---|---|")
    tried, caught, failed = Counter[str](), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for name in TRAINED:
            facts = audit(path(name), told).evidence
            assert facts is not None
            model = onnx.load(path(name))
            there = stored(model)
            fit = [
                w
                for w in facts.weights.values()
                if w.channels and w.rank_limit >= 4 and w.rank_ratio and w.name in there
            ]
            for weight in (fit[k] for k in np.linspace(0, len(fit) - 1, layers).astype(int)):
                for label, (check, new) in GENERIC.items():
                    broken = onnx.ModelProto()
                    broken.CopyFrom(model)
                    change(broken, weight.name, new)
                    onnx.save(broken, Path(folder) / "model.onnx")
                    result = audit(Path(folder) / "model.onnx", told)
                    places = {f.found.place for f in result.findings if f.check == check}
                    right = bool({weight.layer, weight.name} & places)
                    tried[label] += 1
                    caught[label] += right
                    failed[label] += not result.passed
                    if not right:
                        print(f"{name}: {label} in {weight.name}: {result.findings}", file=sys.stderr)
    for label in GENERIC:
        print(f"| {label} | {tried[label]} | {caught[label]} | {failed[label]} |", flush=True)
    print(f"\n{caught.total()} of {tried.total()} defects in trained models found.\n")
    return tried.total() - caught.total()


def main() -> int:
    """Print both tables; fail where a defect was missed or a healthy model fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wide", action="store_true", help="also the files of the export and framework matrices"
    )
    parser.add_argument("--trained", action="store_true", help="only defects in trained models")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    told = policy.default()
    told = replace(told, run=replace(told.run, seeds=options.seeds, threads=options.threads))
    if options.trained:
        return int(bool(in_real_models(replace(told, run=replace(told.run, batch=4, parity=False)))))
    missed = len(DEFECTS) - defects(told)
    return int(bool(missed + healthy(told, wide=options.wide)))


if __name__ == "__main__":
    sys.exit(main())
