"""Measures one checkpoint: its score, its layers, and how far its weights moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from intrain_onnx.audit.activation_ranges import Watch
from intrain_onnx.audit.facts import ChannelFacts
from intrain_onnx.audit.weights import weight_facts
from intrain_onnx.checkpoints.clones import cloned
from intrain_onnx.checkpoints.rows import Error, LayerStep, Step
from intrain_onnx.checkpoints.tasks import Task, failed
from intrain_onnx.config import ScoreConfig
from intrain_onnx.diff import weights
from intrain_onnx.diff.statistics import Sums
from intrain_onnx.diff.weights import Read
from intrain_onnx.errors import IntrainError, printable
from intrain_onnx.failure import Failure
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.load import load
from intrain_onnx.network.recognise import Layer
from intrain_onnx.pipeline import network_of, score
from intrain_onnx.progress import Progress
from intrain_onnx.report import rows as report_rows
from intrain_onnx.report.comparison import Comparison, LayerRow
from intrain_onnx.report.derived import largest_ratio, layer_gradient, layer_health
from intrain_onnx.report.document import number
from intrain_onnx.rewrites.network import Network

_ANOTHER = 7
"""Exit code of ``compare`` for two architectures."""


def measured(task: Task, config: ScoreConfig, limits: Limits, progress: Progress) -> Step:
    """The row of a checkpoint.

    It is compared with the first and the previous checkpoint, which are loaded again: the row depends on
    files alone.

    Raises:
        IntrainError: the file cannot be loaded.
    """
    progress("load", 0.0)
    network = _network(task.path, config, limits)
    read = Read.of(network)
    progress("weights", 0.1)
    moved: dict[str, _Moved] = {}
    for path in dict.fromkeys(p for p in (task.first, task.previous) if p is not None):
        found = _moved_from(path, read, config, limits)
        if found.other is not None:
            return _another(task, path, found.other)
        moved[path] = found
    first, previous = (moved.get(p or "", _Moved()) for p in (task.first, task.previous))
    progress("score", 0.3)
    row = task.row(
        status="scored",
        external_sha256=network.loaded.external_sha256(),
        distance_to_first=first.whole,
        distance_to_previous=previous.whole,
        notes=tuple(dict.fromkeys(note for found in moved.values() for note in found.notes)),
        layers=_layers(read, first, previous),
    )
    row = _with_weights(row, read, first)
    return _with_score(row, task, network, config, limits, first)


def _network(path: str, config: ScoreConfig, limits: Limits) -> Network:
    with allowance.held(limits, path):
        network = network_of(load(Path(path)), config, keyed=True)
    if network.runner is not None:
        network.runner.forget()
    return network


@dataclass(frozen=True)
class _Moved:
    """How far the weights moved from another checkpoint.

    Attributes:
        whole: relative distance of all parameters.
        layers: relative distance of each layer.
        names: of each layer, in the other checkpoint.
        other: the comparison, if that is another architecture.
        notes: why there is no distance.
    """

    whole: float | None = None
    layers: Mapping[str, float | None] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    other: Comparison | None = None
    notes: tuple[str, ...] = ()


def _moved_from(path: str, read: Read, config: ScoreConfig, limits: Limits) -> _Moved:
    try:
        before = Read.of(_network(path, config, limits))
    except IntrainError as error:  # a training may delete its old checkpoints
        return _Moved(notes=(printable(f"no distance to {path}: {error.message}", 500),))
    pairs, found = weights.pairs(before, read)
    if found.first_difference is not None:
        return _Moved(other=found)
    sums, others = weights.distances(before, read, pairs)
    distances: dict[str, float | None] = {}
    names = {}
    for pair, own in zip(pairs, sums, strict=True):
        if pair.first is not None and pair.second is not None:
            distances[pair.second.name] = _relative(own)
            names[pair.second.name] = pair.first.name
    return _Moved(_relative(*sums, others), distances, names)


def _relative(*sums: Sums) -> float | None:
    """Norm of the difference over that of the reference; None where the reference is zero."""
    reference = sum(s.aa for s in sums)
    return number(math.sqrt(sum(s.dd for s in sums) / reference)) if reference else None


def _another(task: Task, path: str, found: Comparison) -> Step:
    """The row of a file that holds another architecture, with the first difference."""
    assert found.first_difference is not None
    ours, theirs = found.rows[found.first_difference]
    where = f"first difference: {_words(theirs)} where {path} has {_words(ours)}"
    message = f"{task.path}: another architecture than {path}; {where}. Leave it out, or see compare"
    error = Error("OtherArchitecture", printable(message, 2000), _ANOTHER)
    return task.row(status="other", error=error)


def _words(layer: LayerRow | None) -> str:
    if layer is None:
        return "no layer"
    return f"{layer.kind} {layer.name} of {'x'.join(map(str, layer.shape))} at depth {layer.depth}"


def _layers(read: Read, first: _Moved, previous: _Moved) -> tuple[LayerStep, ...]:
    return tuple(
        LayerStep(
            name=first.names.get(layer.name, layer.name),
            kind=layer.kind,
            depth=layer.depth,
            channels=layer.channels,
            cloned_channels=_cloned(read, layer),
            distance_to_first=first.layers.get(layer.name),
            distance_to_previous=previous.layers.get(layer.name),
            module=layer.module,
        )
        for layer in read.layers.layers
    )


def _cloned(read: Read, layer: Layer) -> int | None:
    if layer.kind not in ("convolution", "linear"):
        return None
    held = read.parameters(layer)
    bias = held.get("bias")
    return (
        cloned(held["weight"].value, bias.value if bias is not None else None) if "weight" in held else None
    )


def _with_weights(row: Step, read: Read, first: _Moved) -> Step:
    """The row with the number of weights that are not finite."""
    lost: dict[str | None, int] = {}
    for fact in weight_facts(read.network.model, read.layers).values():
        if fact.not_finite and fact.role != "constant":
            lost[fact.layer] = lost.get(fact.layer, 0) + fact.not_finite
    known = {first.names.get(name or "", name): count for name, count in lost.items()}
    layers = tuple(msgspec.structs.replace(x, not_finite=known.get(x.name, 0)) for x in row.layers)
    return msgspec.structs.replace(row, layers=layers, not_finite=sum(lost.values()))


def _with_score(
    row: Step, task: Task, network: Network, config: ScoreConfig, limits: Limits, first: _Moved
) -> Step:
    """The row with what a run tells; with the error, if it fails."""
    watch = Watch()
    try:
        report = score(network, replace(config, inputs=network.given), limits=limits, watch=watch)
    except IntrainError as error:
        failure = Failure.of(error, task.path)
        return msgspec.structs.replace(row, status="failed", error=failed(task, failure).error)
    told = report.document
    changes: dict[str, Any] = {
        "intrain": told.score.intrain,
        "volume": told.scores["volume"].value if "volume" in told.scores else None,
        "geometric_capacity": told.score.geometric_capacity,
        "optimization_resilience": told.score.optimization_resilience,
        "gradient_norm": _gradient_norm(told),
        "warnings": tuple(sorted({w.code for w in told.warnings})),
        "layers": _measured_layers(row.layers, told, watch.facts().channels, first.names),
    }
    return msgspec.structs.replace(row, **changes)


def _gradient_norm(told: report_rows.Document) -> float | None:
    found = told.proxies.get("grad_norm")
    return number(found.values.get("grad_norm")) if found is not None else None


def _measured_layers(
    layers: Sequence[LayerStep],
    told: report_rows.Document,
    channels: Mapping[str, ChannelFacts],
    names: Mapping[str, str],
) -> tuple[LayerStep, ...]:
    parameters = {p.name: p for p in told.parameters}
    scored = {names.get(x.name, x.name): x for x in told.layers}
    dead = {names.get(name, name): facts.zero for name, facts in channels.items()}
    rows = []
    for layer in layers:
        x = scored.get(layer.name)
        if x is None:
            rows.append(layer)
            continue
        rows.append(
            msgspec.structs.replace(
                layer,
                status=x.status,
                participation_ratio=x.participation_ratio,
                largest_ratio=largest_ratio(x),
                health=layer_health(x, parameters),
                gradient=layer_gradient(x, parameters),
                dead_channels=dead.get(layer.name),
            )
        )
    return tuple(rows)
