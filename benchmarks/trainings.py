"""Follows trainings by their checkpoints: does an alarm come before the loss shows that something is wrong?

    python benchmarks/trainings.py [--seeds 5] [--workers 2]

Writes docs/series/*.html, three trainings as pages, and the figures of docs/series.md. Networks are trained
on scikit-learn's digits as in benchmarks/train_digits.py: healthily, with a learning rate that is warmed up
to too high a value, and with a regulariser that sums a layer's biases where it should sum their squares, and
so kills the layer. ONNX files are exported every 15 steps. Thresholds are the defaults of `intrain-onnx
series`, which were not chosen on these seeds. Needs scikit-learn.

What is held against the alarms was defined before anything was run. At a checkpoint, the loss shows it if
the mean training loss since the checkpoint before is not finite, or over 1.5 times the least of all intervals
before and by 0.1 or more; the accuracy shows it if it is 5 points or more below the best before.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
import train_digits
from torch import Tensor, nn
from torch.nn import functional

from intrain_onnx.checkpoints import page
from intrain_onnx.checkpoints.rows import Document
from intrain_onnx.checkpoints.run import series, settings
from intrain_onnx.report.page.charts import Chart

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "series.md"
EVERY, STEPS, BATCH = 15, 360, 64
RATE, HIGH = 0.02, 0.5
"""Learning rate of SGD with momentum 0.9, and the one that is too high."""

PENALTY, PENALISED_FROM = 3.0, 60
"""Of the sum of a layer's biases, and the step from which it holds."""

FAULT = {"healthy": 0, "rate": 0, "dying": PENALISED_FROM}
"""The step from which something is wrong: what comes at it or before tells of nothing."""

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


class Attention(nn.Module):
    """A block of a transformer before whose parts LayerNorm stands."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        y = self.norms[0](x)
        q, k, v = (
            m(y).reshape(n, tokens, self.heads, width // self.heads).transpose(1, 2)
            for m in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, tokens, width))
        made: Tensor = x + self.down(functional.gelu(self.up(self.norms[1](x))))
        return made


class Transformer(nn.Module):
    """Rows of the image as eight tokens."""

    def __init__(self, width: int = 32, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(0.02 * torch.randn(8, width))
        self.blocks = nn.Sequential(*(Attention(width, 4) for _ in range(blocks)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 8, 8)) + self.place
        made: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return made


def _cnn(*, residual: bool, norm: bool) -> nn.Module:
    words = (str(v).lower() for v in (residual, norm))
    described = '{{"depth":8,"width":16,"residual":{},"norm":{},"gain":1.0}}'.format(*words)
    made = train_digits.module(described)
    for part in made.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    if residual and not norm:  # each branch begins small, as in Fixup, so that it trains without a norm
        with torch.no_grad():
            for part in made.modules():
                if isinstance(part, train_digits.Block):
                    part.get_parameter("second.weight").mul_(0.25)
    return made


def _mlp() -> nn.Module:
    widths = (64, 96, 96, 96)
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain CNN": lambda: _cnn(residual=False, norm=False),
    "residual CNN": lambda: _cnn(residual=True, norm=False),
    "residual CNN with BatchNorm": lambda: _cnn(residual=True, norm=True),
    "MLP": _mlp,
    "transformer": Transformer,
}
KINDS = ("healthy", "rate", "dying")
CASES = [
    *(("healthy", name) for name in NETWORKS),
    *((kind, name) for kind in KINDS[1:] for name in ("plain CNN", "residual CNN", "MLP")),
]
SHOWN = {"healthy": "residual CNN", "rate": "residual CNN", "dying": "residual CNN"}
TITLES = {
    "healthy": "A healthy training",
    "rate": "A learning rate that is warmed up to too high a value",
    "dying": "A wrong regulariser that kills a layer",
}


@dataclass
class Training:
    """What was logged of a training beside its checkpoints.

    Attributes:
        loss: mean since the checkpoint before, by step.
        accuracy: on the test images, in per cent, by step.
        alive: share of the penalised layer's channels that some training image wakes, by step.
    """

    loss: dict[int, float] = field(default_factory=dict)
    accuracy: dict[int, float] = field(default_factory=dict)
    alive: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A training and its alarms; steps at which each showed first."""

    kind: str
    network: str
    seed: int
    alarms: tuple[tuple[int, str, str | None], ...]
    by_loss: int | None
    by_accuracy: int | None
    dead: int | None
    accuracy: float

    @property
    def alarm(self) -> int | None:
        """The step of the first alarm after the fault began."""
        return min((step for step, _, _ in self.alarms if step > FAULT[self.kind]), default=None)

    @property
    def false(self) -> bool:
        """Whether there is an alarm where nothing is wrong."""
        return any(self.kind == "healthy" or step <= FAULT[self.kind] for step, _, _ in self.alarms)


def penalised(net: nn.Module) -> nn.Module:
    """The layer in the middle whose activations are penalised."""
    blocks = [m for m in net.modules() if isinstance(m, train_digits.Block)]
    if blocks:
        found: nn.Module = blocks[len(blocks) // 2].first
        return found
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    return linear[len(linear) // 2]


def rate(kind: str, step: int) -> float:
    """Cosine to 0; or a warm-up over half of the training to a rate that is too high."""
    if kind == "rate":
        return HIGH * min(step / (STEPS / 2), 1.0)
    return RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))


def train(kind: str, name: str, seed: int, folder: Path) -> Training:
    """Train a network, and export it every few steps."""
    torch.manual_seed(seed)
    x, y, test_x, test_y = train_digits.data("cpu")
    net, told, losses = NETWORKS[name](), Training(), list[float]()
    seen: list[Tensor] = []
    penalised(net).register_forward_hook(lambda _, __, out: seen.append(out))
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            net.eval()
            _export(net, test_x[:2], folder / f"step{step:04}.onnx")
            with torch.no_grad():
                told.accuracy[step] = 100 * (net(test_x).argmax(1) == test_y).double().mean().item()
                seen.clear()
                net(x)
                peak = seen[-1].amax([a for a in range(seen[-1].dim()) if a != 1])
                told.alive[step] = (peak > 0).double().mean().item()
            if losses:
                told.loss[step] = statistics.fmean(losses)
            losses.clear()
            net.train()
        for group in optimiser.param_groups:
            group["lr"] = rate(kind, step)
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        seen.clear()
        loss = functional.cross_entropy(net(x[chosen]), y[chosen])
        losses.append(loss.item())
        if kind == "dying" and step >= PENALISED_FROM:
            loss = loss + PENALTY * penalised(net).get_parameter("bias").sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return told


def _export(net: nn.Module, example: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example,),
            path,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )


def shows_in_loss(loss: dict[int, float], fault: int) -> int | None:
    """The first checkpoint after the fault at which the loss shows that something is wrong."""
    least = math.inf
    for step, value in loss.items():
        shows = not math.isfinite(value) or (value > 1.5 * least and value >= least + 0.1)
        if shows and step > fault:
            return step
        least = min(least, value)
    return None


def shows_in_accuracy(accuracy: dict[int, float], fault: int) -> int | None:
    """The same of the accuracy on the test images."""
    best = -math.inf
    for step, value in accuracy.items():
        if value <= best - 5 and step > fault:
            return step
        best = max(best, value)
    return None


def one(case: tuple[str, str, int]) -> tuple[Result, Document, Training]:
    """Train, follow, and compare."""
    torch.set_num_threads(1)
    kind, name, seed = case
    with tempfile.TemporaryDirectory() as folder:
        told = train(kind, name, seed, Path(folder))
        before = Path.cwd()
        os.chdir(folder)  # the page shows the names alone
        try:
            found = series(sorted(p.name for p in Path().glob("*.onnx")), settings(threads=1, device="cpu"))
        finally:
            os.chdir(before)
    alarms = tuple((alarm.step, alarm.rule, alarm.layer) for alarm in found.alarms)
    half = next((step for step, alive in told.alive.items() if alive < 0.5), None)
    last = list(told.accuracy.values())[-1]
    shown = shows_in_loss(told.loss, FAULT[kind]), shows_in_accuracy(told.accuracy, FAULT[kind])
    return Result(kind, name, seed, alarms, *shown, half, last), found, told


def write_page(kind: str, found: Document, told: Training) -> None:
    """One of the three pages, with what the training logged beside it."""
    marked = sorted({alarm.step for alarm in found.alarms})

    def beside(title: str, what: str, values: dict[int, float]) -> Chart | None:
        finite = {step: v for step, v in values.items() if math.isfinite(v)}
        return page.chart(title, what, found.steps, marked, lambda row: finite.get(row.step))

    made = [
        beside("Training loss", "mean since the checkpoint before", told.loss),
        beside("Accuracy", "of the test images, %", told.accuracy),
    ]
    text = page.page(found, TITLES[kind], [chart for chart in made if chart is not None])
    (ROOT / "docs" / "series").mkdir(exist_ok=True)
    (ROOT / "docs" / "series" / f"{kind}.html").write_text(text, encoding="utf-8")


def figures(results: Sequence[Result]) -> str:
    """The tables of docs/series.md."""
    lines = [
        "| training | network | with an alarm | by | first alarm, step | half of the layer dead "
        "| loss shows it | accuracy shows it | alarm before loss | before accuracy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, name in CASES:
        rows = [r for r in results if (r.kind, r.network) == (kind, name)]
        if rows:
            lines.append(_line(kind, name, rows))
    lines += ["", *_shown(results), "", *_counted(results)]
    return "\n".join(lines)


def _counted(results: Sequence[Result]) -> list[str]:
    """All networks together."""
    lines = []
    for kind in KINDS[1:]:
        rows = [r for r in results if r.kind == kind]
        told = []
        for what, other in (("loss", _by_loss), ("accuracy", _by_accuracy)):
            never = sum(other(r) is None and r.alarm is not None for r in rows)
            first = sum(r.alarm is not None and r.alarm < (other(r) or 0) for r in rows)
            same = sum(r.alarm is not None and r.alarm == other(r) for r in rows)
            later = len(rows) - never - first - same
            told.append(
                f"before the {what} in {first}, at the same checkpoint in {same}, later in {later}, and in "
                f"{never} the {what} never showed it"
            )
        lines.append(f"- {TITLES[kind]}, {len(rows)} trainings: the alarm came {'; '.join(told)}.")
    healthy = [r for r in results if r.kind == "healthy"]
    before = [r for r in results if r.kind == "dying"]
    lines.append(
        f"- False alarms: {sum(r.false for r in healthy)} of {len(healthy)} healthy trainings have one, and "
        f"{sum(r.false for r in before)} of {len(before)} of those with a wrong regulariser before it holds. "
        f"The rule for the loss fires in {sum(r.by_loss is not None for r in healthy)} healthy ones, that "
        f"for the accuracy in {sum(r.by_accuracy is not None for r in healthy)}."
    )
    return lines


def _by_loss(result: Result) -> int | None:
    return result.by_loss


def _by_accuracy(result: Result) -> int | None:
    return result.by_accuracy


def _line(kind: str, name: str, rows: Sequence[Result]) -> str:
    alarmed = [r for r in rows if r.alarm is not None]
    rules = sorted({rule for r in rows for _, rule, _ in r.alarms})
    cells = [
        kind,
        name,
        f"{len(alarmed)} of {len(rows)}",
        ", ".join(f"`{rule}`" for rule in rules) or "—",
        _span([r.alarm for r in rows]),
        _span([r.dead for r in rows]) if kind == "dying" else "—",
        _span([r.by_loss for r in rows]),
        _span([r.by_accuracy for r in rows]),
        _before(rows, _by_loss),
        _before(rows, _by_accuracy),
    ]
    return f"| {' | '.join(cells)} |"


def _span(steps: Sequence[int | None]) -> str:
    known = [s for s in steps if s is not None]
    if not known:
        return "never"
    never = f", {len(steps) - len(known)} never" if len(known) < len(steps) else ""
    ends = f"{min(known)} to {max(known)}" if len(set(known)) > 1 else str(known[0])
    return f"{ends}{never}"


def _before(rows: Sequence[Result], other: Callable[[Result], int | None]) -> str:
    """How often the alarm came first, or alone, and at once."""
    if rows[0].kind == "healthy":
        return "—"
    earlier = sum(r.alarm is not None and r.alarm < (other(r) or math.inf) for r in rows)
    same = sum(r.alarm is not None and r.alarm == other(r) for r in rows)
    return f"{earlier} of {len(rows)}, {same} at once"


def _shown(results: Sequence[Result]) -> list[str]:
    lines = [
        "| page | alarms, by step | loss shows it | accuracy shows it | accuracy at the end |",
        "|---|---|---|---|---|",
    ]
    for kind, name in SHOWN.items():
        r = next(r for r in results if (r.kind, r.network, r.seed) == (kind, name, 0))
        said = "; ".join(f"{step}: {rule} {layer or ''}".strip() for step, rule, layer in r.alarms[:4])
        more = f"; {len(r.alarms) - 4} more" if len(r.alarms) > 4 else ""
        lines.append(
            f"| [{TITLES[kind].lower()}](series/{kind}.html) | {said + more or 'none'} "
            f"| {_step(r.by_loss)} | {_step(r.by_accuracy)} | {r.accuracy:.1f} % |"
        )
    return lines


def _step(step: int | None) -> str:
    return "never" if step is None else str(step)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=KINDS, help="run one kind, and write nothing")
    options = parser.parse_args()
    cases = [(kind, name, seed) for kind, name in CASES for seed in range(options.seeds)]
    cases = [case for case in cases if options.only in (None, case[0])]
    results = []
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for result, found, told in pool.imap(one, cases):
            results.append(result)
            print(result, file=sys.stderr, flush=True)
            if options.only is None and result.seed == 0 and SHOWN[result.kind] == result.network:
                write_page(result.kind, found, told)
    if options.only is not None:
        return
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{figures(results)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
