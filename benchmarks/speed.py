"""What a score costs over the bare forward and backward pass, and beside what a user would write instead.

    python benchmarks/speed.py                                    # prints the page
    python benchmarks/speed.py --write docs/speed.md --keep speed.json --profile resnet50,vit_s,swin
    python benchmarks/speed.py --networks resnet50,lstm,encoder --parts times,memory --device cuda
    python benchmarks/speed.py --parts "" --profile resnet50,vit_s,swin --write docs/speed.md \
        --before benchmarks/speed_before.json                     # exchanges the page's profiles alone

The networks are made by `speed_nets.py`, the scripts of other authors' scores by `speed_rivals.py`; needs
torchvision. `--keep` stores the numbers, and `--before` shows those of an earlier state beside them: profiles
of the state before a seed was one pass are in `speed_before.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import speed_runs as runs
import torch
from speed_nets import NETS, STUDIES, Net
from speed_page import page, with_parts

PARTS = ("times", "studies", "nodes", "bench", "score", "memory")
NODES = (100, 300, 1000, 3000, 10000)
REMEMBERED = ("resnet50", "mobilenet", "vit_s", "encoder")
"""Networks whose memory is measured."""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=_names, default=tuple(NETS), help="by name, with commas")
    parser.add_argument("--parts", type=_names, default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--pairs", type=int, default=5, help="rounds, besides one that warms up")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--nodes", type=int, default=NODES[-1], help="of the largest chain")
    parser.add_argument("--profile", type=_names, default=(), help="networks to profile")
    parser.add_argument("--write", type=Path, help="the page")
    parser.add_argument("--keep", type=Path, help="the numbers, as JSON")
    parser.add_argument("--before", type=Path, help="numbers of an earlier state")
    parser.add_argument("--folder", type=Path, help="where exported networks are kept")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def measured(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All numbers that were asked for; they are kept as they come, since a run takes many minutes."""
    device = torch.device(asked.device)
    nets = [NETS[name] for name in asked.networks]
    cuda = asked.device == "cuda"
    results: dict[str, Any] = {
        "machine": torch.cuda.get_device_name() if cuda else f"CPU, {asked.threads} threads",
        "torch": torch.__version__,
        "times": {},
    }
    for net in _told(nets if "times" in asked.parts else ()):
        calls = runs.entrants(net, folder, device)
        results["times"][net.name] = runs.side_by_side(calls, asked.pairs, device)
        _keep(asked, results)
    if "studies" in asked.parts:
        results["studies"] = {
            name: runs.study(points, folder, asked.pairs, device) for name, points in STUDIES.items()
        }
        _keep(asked, results)
    if "nodes" in asked.parts:
        counts = [count for count in NODES if count <= asked.nodes]
        results["nodes"] = [runs.per_node(folder, count, device) for count in counts]
    if "bench" in asked.parts:
        results["bench"] = runs.bench_cost(device, folder)
    if "score" in asked.parts:
        results["score"] = runs.whole_score(NETS["resnet50"], folder, asked.threads, asked.pairs, device)
    _keep(asked, results)
    if "memory" in asked.parts:
        rows = [net for net in nets if net.name in REMEMBERED]
        results["memory"] = {net.name: _peaks(net, asked, folder) for net in _told(rows)}
    results["profiles"] = {name: runs.profile(NETS[name], folder, device) for name in asked.profile}
    _keep(asked, results)
    return results


def _keep(asked: argparse.Namespace, results: dict[str, Any]) -> None:
    if asked.keep:
        asked.keep.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _told(nets: Iterable[Net]) -> Iterable[Net]:
    for net in nets:
        print(net.title, file=sys.stderr, flush=True)
        yield net


def _peaks(net: Net, asked: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Peaks of processes of their own, in bytes."""
    shared = ["--networks", net.name, "--folder", str(folder), "--threads", str(asked.threads)]
    command = [sys.executable, __file__, *shared, "--device", asked.device, "--peak"]
    found = (
        (kind, subprocess.check_output([*command, kind], env=runs.environment()))
        for kind in ("bare", "seed", "eigvalsh")
    )
    return {kind: int(output.split()[-1]) for kind, output in found}


def main() -> None:
    """Measure, then print or write the page."""
    asked = options()
    torch.set_num_threads(asked.threads)
    # As a score has it.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    folder = asked.folder or runs.temporary()
    folder.mkdir(exist_ok=True)
    if asked.peak:
        device = torch.device(asked.device)
        print(runs.peak_above_start(NETS[asked.networks[0]], asked.peak, folder, device))
        return
    results = measured(asked, folder)
    before = json.loads(asked.before.read_text(encoding="utf-8")) if asked.before else None
    if asked.write and "times" not in asked.parts:
        text = with_parts(asked.write.read_text(encoding="utf-8"), results, before)
    else:
        text = page(results, before)
    if asked.write:
        asked.write.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
