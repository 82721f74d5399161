"""The measurements of the benchmark of speed: times side by side, costs per node, memory, profiles."""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import torch
from speed_nets import Net, chain_file
from speed_rivals import RIVALS, one_pass
from torch import Tensor, nn

from intrain_onnx.bench.measure import measure
from intrain_onnx.bench.spaces import SPACES, nasbench201
from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.loading.load import load
from intrain_onnx.measure.prepare import Runnable, prepare
from intrain_onnx.measure.probe import calibrate_and_probe, probe
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.runtime.interpreter import Samples
from intrain_onnx.runtime.onnx2torch_converter import convert_second

Call = Callable[[], object]
Times = dict[str, list[float]]
RIVAL_ROUNDS = 3
"""Rounds that the scripts take part in: some take ten times as long as a pass."""


def _one_seed(
    runnable: Runnable, config: ScoreConfig, fed: Sequence[Tensor | Samples], generator: torch.Generator
) -> object:
    """What a score does for one seed, without the drawing of weights and inputs."""
    return (calibrate_and_probe if config.calibrate else probe)(runnable, fed, generator)


def config_of(net: Net, protocol: str = "architecture") -> ScoreConfig:
    """The settings that a network is measured under."""
    return ScoreConfig.for_protocol(protocol, batch=net.shape[0], parity=False)


def runnable_of(path: Path, config: ScoreConfig, device: torch.device) -> Runnable:
    """A file, ready to be probed."""
    runs = runs_on(device)
    made = prepare(for_protocol(Network.of(load(path), config, runs), config, runs.see), config, device)
    if config.weights == "reinitialise":
        made.redraw(0)
    return made


def second(runnable: Runnable) -> nn.Module | None:
    """onnx2torch's module of the same graph and weights; None if it cannot convert it."""
    values = {name: p.detach().cpu().numpy() for name, p in runnable.parameters.items()}
    try:
        made: nn.Module = convert_second(
            runnable.probed.model.clone(), runnable.layers, values, batch_statistics=False
        ).to(runnable.device)
    except IntrainError:
        return None
    return made


def entrants(net: Net, folder: Path, device: torch.device) -> dict[str, Call]:
    """What runs side by side on one network, by name."""
    path = net.file(folder)
    calls: dict[str, Call] = {}
    for protocol in PROTOCOLS:
        config = config_of(net, protocol)
        runnable = runnable_of(path, config, device)
        generator = torch.Generator().manual_seed(0)
        fed = runnable.feed(generator)
        seed = partial(_one_seed, runnable, config, fed, generator)
        if protocol == "architecture":
            (x,) = fed
            assert isinstance(x, Tensor)
            seed()
            calls["bare"] = partial(one_pass, runnable.module, x)
            calls["draw"] = partial(runnable.redraw, 0)
            calls["probe"] = partial(probe, runnable, fed, generator)
            other, first = second(runnable), x
            estimating = replace(runnable, projections=128)
            calls["projections"] = partial(_one_seed, estimating, config, fed, generator)
        calls[protocol] = seed
    native = net.native()
    if native is not None:
        calls["native"] = partial(one_pass, native.to(device), first)
    if other is not None and _runs(partial(one_pass, other, first)):
        calls["onnx2torch"] = partial(one_pass, other, first)
    module = native if native is not None else other
    if module is not None:
        calls |= {name: partial(script, module, first) for name, script in RIVALS.items()}
    return calls


def _runs(call: Call) -> bool:
    try:
        call()
    except Exception:  # a converter that is not ours may fail in any way
        return False
    return True


def timed(call: Call, device: torch.device) -> float:
    """Seconds of one call, the work of the device included."""
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def side_by_side(calls: Mapping[str, Call], pairs: int, device: torch.device) -> Times:
    """Seconds of each call in each round; the first round warms up and is dropped."""
    times: Times = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # a collection looks at the networks of the other rows too
    for index in range(pairs + 1):
        for name, call in calls.items():
            if name in RIVALS and index > RIVAL_ROUNDS:
                continue
            seconds = timed(call, device)
            if index:
                times[name].append(seconds)
    gc.unfreeze()
    return times


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def ratios(times: Times, name: str, to: str = "bare") -> tuple[float, float, float] | None:
    """Median and quartiles of the ratio of two calls, round by round."""
    if not times.get(name) or not times.get(to):
        return None
    return spread([a / b for a, b in zip(times[name], times[to], strict=False)])


def study(nets: Sequence[tuple[float, Net]], folder: Path, pairs: int, device: torch.device) -> list[Any]:
    """Seconds of one seed of each network of a study; returns (what it should be linear in, seconds)."""
    calls: dict[str, Call] = {}
    for _, net in nets:
        config = config_of(net)
        runnable = runnable_of(net.file(folder), config, device)
        generator = torch.Generator().manual_seed(0)
        calls[net.name] = partial(_one_seed, runnable, config, runnable.feed(generator), generator)
    times = side_by_side(calls, pairs, device)
    return [(x, min(times[net.name])) for x, net in nets]


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The straight line with the least squares of relative residuals: offset, slope, largest residual."""
    xs = torch.tensor([[1.0, x] for x, _ in points], dtype=torch.float64)
    ys = torch.tensor([y for _, y in points], dtype=torch.float64)
    offset, slope = torch.linalg.lstsq(xs / ys[:, None], torch.ones_like(ys)[:, None]).solution[:, 0].tolist()
    worst = max(abs((offset + slope * x) / y - 1) for x, y in points)
    return offset, slope, worst


STAGES = ("load", "static pass", "rewriting", "conversion")


def per_node(folder: Path, nodes: int, device: torch.device) -> dict[str, float]:
    """Seconds of each stage before the probe, and of onnx's own load and shape inference."""
    path, config = chain_file(folder, nodes), ScoreConfig.for_protocol(batch=4, parity=False)
    runs = runs_on(device)
    best: dict[str, float] = {}
    for _ in range(max(1, min(5, 1000 // nodes))):
        gc.collect()
        marks = [time.perf_counter()]
        loaded = load(path)
        marks.append(time.perf_counter())
        network = Network.of(loaded, config, runs)
        marks.append(time.perf_counter())
        probed = for_protocol(network, config, runs.see)
        marks.append(time.perf_counter())
        prepare(probed, config, device)
        marks.append(time.perf_counter())
        found = dict(zip(STAGES, (b - a for a, b in itertools.pairwise(marks)), strict=True))
        started = time.perf_counter()
        onnx.shape_inference.infer_shapes(onnx.load(path))
        found["onnx"] = time.perf_counter() - started
        best = {name: min(seconds, best.get(name, seconds)) for name, seconds in found.items()}
    return best | {"nodes": float(nodes // 3 * 3)}


def bench_cost(device: torch.device, folder: Path, cells: int = 5) -> dict[str, Any]:
    """Seconds of `bench` for one architecture of NAS-Bench-201 (one seed), and of its bare pass."""
    generator, space = random.Random(0), SPACES["nasbench201"]
    config = ScoreConfig.for_protocol(
        "architecture", size=space.size, batch=space.batch, parity=False, points="all", seeds=1,
        threads=torch.get_num_threads(), device=device.type,
    )  # fmt: skip
    wholes, passes = [], []
    for index in range(cells + 1):
        name = nasbench201.sample(generator)
        path = folder / f"cell_{index}.onnx"
        onnx.save(nasbench201.build(name, fold=True), path)
        runnable = runnable_of(path, config, device)
        (x,) = runnable.feed(torch.Generator().manual_seed(0))
        assert isinstance(x, Tensor)
        bare = partial(one_pass, runnable.module, x)
        bare()
        whole = timed(partial(measure, space.name, name, space.size, (config,)), device)
        if index:
            wholes.append(whole)
            passes.append(timed(bare, device))
    ratio = spread([w / (p + 0.1) for w, p in zip(wholes, passes, strict=True)])
    return {"seconds": statistics.median(wholes), "bare": statistics.median(passes), "ratio": ratio}


_BARE = """
import sys, torch
torch.set_num_threads(int(sys.argv[3]))
module = torch.load(sys.argv[1], weights_only=False).to(sys.argv[2])
x = torch.randn(*map(int, sys.argv[4].split("x")), device=sys.argv[2])
loss = torch.nn.functional.cross_entropy(module(x), torch.zeros(len(x), dtype=torch.int64, device=x.device))
loss.backward()
print(loss.item())
"""


@dataclass(frozen=True)
class Ended:
    """A process that ended: its seconds, and the peak of its resident memory in bytes."""

    seconds: float
    peak: int


_STARTER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts a process: its peak would begin at the size of this one, which is large, if this one started it."""


def process(arguments: Sequence[str]) -> Ended:
    """Run a Python process to its end."""
    started = time.perf_counter()
    command = [sys.executable, "-c", _STARTER, sys.executable, *arguments]
    peak = int(subprocess.check_output(command, env=environment()))
    return Ended(time.perf_counter() - started, peak * 1024)


def environment() -> dict[str, str]:
    """Large blocks go back to the system when they are freed, or a peak would not show."""
    return os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def whole_score(net: Net, folder: Path, threads: int, pairs: int, device: torch.device) -> dict[str, Any]:
    """A whole `score` as a process against a script that loads the same network and runs one pass."""
    native = net.native()
    assert native is not None
    saved = folder / f"{net.name}.pt"
    torch.save(native, saved)
    script = ["-c", _BARE, str(saved), device.type, str(threads), net.size]
    score = [
        "-m", "intrain_onnx", "score", str(net.file(folder)), "--seeds", "1", "--no-parity",
        "--batch", str(net.shape[0]), "--device", device.type, "--threads", str(threads),
        "-o", str(folder / "report.json"),
    ]  # fmt: skip
    imports = process(["-c", "import torch, intrain_onnx.pipeline"]).peak
    found = [(process(script), process(score)) for _ in range(max(pairs, 2))][1:]
    return {
        "bare": statistics.median(b.seconds for b, _ in found),
        "score": statistics.median(s.seconds for _, s in found),
        "ratio": spread([s.seconds / b.seconds for b, s in found]),
        "peak": statistics.median(s.peak for _, s in found) - imports,
        "weights": sum(p.numel() * p.element_size() for p in native.parameters()),
    }


def resident() -> int:
    """Bytes resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_above_start(net: Net, which: str, folder: Path, device: torch.device) -> int:
    """Peak bytes of one kind of pass above what was there before it, after a warm-up with one sample."""
    small = Net(net.name, net.title, (1, *net.shape[1:]), net.make, net.write)
    for warm in (small, net):
        call = _alone(warm, which, folder, device)
        if warm is small:
            call()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    call()
    status = Path("/proc/self/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("VmHWM")).split()[1]) * 1024 - before


def _alone(net: Net, which: str, folder: Path, device: torch.device) -> Call:
    if which == "eigvalsh":
        module = net.native()
        assert module is not None
        return partial(RIVALS[which], module.to(device), torch.randn(net.shape, device=device))
    bare, seed = _bare_and_seed(net, folder, device)
    return bare if which == "bare" else seed


def _bare_and_seed(net: Net, folder: Path, device: torch.device) -> tuple[Call, Call]:
    """A bare pass, and one seed of `architecture`, of the same module."""
    config = config_of(net)
    runnable = runnable_of(net.file(folder), config, device)
    generator = torch.Generator().manual_seed(0)
    fed = runnable.feed(generator)
    (x,) = fed
    assert isinstance(x, Tensor)
    return partial(one_pass, runnable.module, x), partial(_one_seed, runnable, config, fed, generator)


def profile(
    net: Net, folder: Path, device: torch.device, rows: int = 30, times: int = 5
) -> dict[str, list[Any]]:
    """The operators that take most of a bare pass and of one seed; of each call the least of some times.

    So what else runs on the machine counts little, unless a call is long.

    Returns:
        Name, calls, seconds of its own and their share in all, of each operator.
    """
    bare, seed = _bare_and_seed(net, folder, device)
    seed()
    found = {}
    for name, call in (("bare", bare), ("architecture", seed)):
        call()
        seen = [_operators(call, device) for _ in range(times)]
        least = {
            key: [min(each) for each in zip(*(one[key] for one in seen), strict=False)] for key in seen[0]
        }
        total = math.fsum(map(math.fsum, least.values()))
        made = [(key, len(spent), math.fsum(spent), math.fsum(spent) / total) for key, spent in least.items()]
        found[name] = sorted(made, key=lambda row: -row[2])[:rows]
    return found


def _operators(call: Call, device: torch.device) -> defaultdict[str, list[float]]:
    """Seconds of its own of each call of each operator, in order."""
    cuda = device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=kinds) as seen:
        call()
        _wait(device)
    cost = "self_device_time_total" if cuda else "self_cpu_time_total"
    found: defaultdict[str, list[float]] = defaultdict(list)
    for event in sorted(seen.events(), key=lambda event: event.time_range.start):
        found[event.key].append(getattr(event, cost) / 1e6)
    return found


def seconds_of(rows: Sequence[Any]) -> float:
    """Seconds of all operators of a profile, from the first of those that are kept."""
    _, _, seconds, share = rows[0]
    return float(seconds / share)


def temporary() -> Path:
    """A folder that stays until the process ends."""
    return Path(tempfile.mkdtemp(prefix="speed"))
