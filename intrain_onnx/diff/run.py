"""Compares two files of one network, in all that can be measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from intrain_onnx.config import ScoreConfig
from intrain_onnx.diff import activations, operators, thresholds, weights
from intrain_onnx.diff.activations import Activations
from intrain_onnx.diff.feeding import Feeding, feeding, of_names
from intrain_onnx.diff.rows import (
    SCHEMA_VERSION,
    Document,
    Expected,
    Inputs,
    LayerRow,
    OperatorRow,
    Side,
    WeightRow,
)
from intrain_onnx.diff.side import precision_of, quantised_as
from intrain_onnx.diff.weights import Pair, Read
from intrain_onnx.errors import IntrainError, path_text, printable
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.load import load
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.pipeline import score
from intrain_onnx.progress import Progress, silent
from intrain_onnx.report import assemble
from intrain_onnx.report.derived import layer_health
from intrain_onnx.report.document import Report
from intrain_onnx.report.rows import Tool
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime.machine import Machine, machine_for
from intrain_onnx.versions import version

_OTHER_NETWORK = "untrained_batch_norm"
"""Warning of a score that is measured on another network than the file computes."""


@dataclass(frozen=True)
class DiffSettings:
    """How two files are compared.

    Attributes:
        config: of the runs: seed, batch, sizes, given inputs, device, threads.
        expected: what the second file is.
        thresholds: those that differ from the usual ones, by name.
        scored: measure the scores of both.
        limits: on what each file may take.
    """

    config: ScoreConfig
    expected: Expected = "conversion"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    scored: bool = True
    limits: Limits | None = None

    @classmethod
    def of(cls, *, expected: Expected = "conversion", **changes: Any) -> DiffSettings:
        """The settings of the protocol ``checkpoint`` with one seed, and changes to them."""
        own = {name: changes.pop(name) for name in ("thresholds", "scored", "limits") if name in changes}
        config = ScoreConfig.for_protocol("checkpoint", parity=False, **{"seeds": 1, **changes})
        thresholds.require_known(own.get("thresholds", ()))
        return cls(config, expected, **own)


def diff(
    first: Path, second: Path, settings: DiffSettings | None = None, progress: Progress = silent
) -> Document:
    """Compare two files of one network.

    Args:
        first: the reference.
        second: a conversion of it, or a later checkpoint.
        settings: by default those of a conversion.
        progress: called at the start of each step.

    Raises:
        IntrainError: a file cannot be loaded, the inputs do not fit, or a node cannot be run.
    """
    settings = settings or DiffSettings.of()
    started = time.perf_counter()
    with machine_for(settings.config) as machine:
        loaded = []
        for place, path in enumerate((first, second)):
            progress(f"load {path.name}", 0.1 * place)
            loaded.append(_network(path, settings, machine, given=place == 0))
        document = between(loaded[0], loaded[1], settings, machine, progress)
    return structs.replace(document, seconds=time.perf_counter() - started)


def against(reference: Path, network: Network, settings: DiffSettings) -> Document:
    """Compare a network, which has structural keys, with a file that is its reference.

    Raises:
        IntrainError: the reference cannot be loaded, its inputs do not fit, or a node cannot be run.
    """
    started = time.perf_counter()
    with machine_for(settings.config) as machine:
        document = between(_network(reference, settings, machine, given=True), network, settings, machine)
    return structs.replace(document, seconds=time.perf_counter() - started)


def _network(path: Path, settings: DiffSettings, machine: Machine, *, given: bool) -> Network:
    with allowance.held(settings.limits, str(path)):
        loaded = load(path)
        config = (
            settings.config
            if given
            else of_names(settings.config, [v.name for v in loaded.fresh().graph.inputs])
        )
        return Network.of(loaded, config, runs_on(machine.device), keyed=True)


def between(
    a: Network, b: Network, settings: DiffSettings, machine: Machine, progress: Progress = silent
) -> Document:
    """Compare two normalised networks, with structural keys.

    Raises:
        IntrainError: see :func:`diff`.
    """
    paths = [path_text(n.loaded.path) if n.loaded.path is not None else "model in memory" for n in (a, b)]
    reads = Read.of(a), Read.of(b)
    progress("weights", 0.2)
    pairs, found = weights.pairs(*reads)
    with allowance.held(settings.limits, paths[1]):
        tensors = [weights.of_pair(*reads, pair) for pair in pairs]
        others = weights.of_others(*reads)
        progress("activations", 0.35)
        fed, seen = _run(reads, pairs, settings, machine)
    progress("scores", 0.6)
    notes: list[str] = []
    reports = [_scored(n, path, settings, notes) for n, path in zip((a, b), paths, strict=True)]
    layers = _layers(pairs, tensors, seen, reports)
    sides = [_side(n, path, report) for n, path, report in zip((a, b), paths, reports, strict=True)]
    noise = not fed.first.given
    if noise:
        notes += thresholds.notes(sides, seen.outputs)
    limits = thresholds.chosen(settings.expected, sides, settings.thresholds, noise=noise)
    ops = [operators.kinds(n.model) for n in (a, b)]
    differing = tuple(OperatorRow(*found) for found in operators.differences(*ops))
    told = thresholds.findings(
        limits, layers, others, seen.outputs, differing if settings.expected == "checkpoint" else ()
    )
    return Document(
        schema_version=SCHEMA_VERSION,
        tool=Tool("intrain-onnx", version("intrain-onnx")),
        expected=settings.expected,
        passed=not told,
        first=sides[0],
        second=sides[1],
        inputs=_inputs(fed, settings),
        same_structure=found.first_difference is None,
        parts_at=thresholds.parts_at(limits, layers),
        findings=told,
        layers=layers,
        parameters=others,
        outputs=seen.outputs,
        operators=differing,
        thresholds=thresholds.as_row(limits),
        notes=(*notes, *seen.notes),
        seconds=0.0,
    )


def _run(
    reads: tuple[Read, Read],
    pairs: Sequence[Pair],
    settings: DiffSettings,
    machine: Machine,
) -> tuple[Feeding, Activations]:
    """Activations and outputs on the same inputs."""
    fed = feeding(reads[0].network, reads[1].network, settings.config)
    for read in reads:
        if read.network.runner is not None:
            read.network.runner.forget()
    networks = [activations.Network(read, machine.device) for read in reads]
    return fed, activations.measured(networks[0], networks[1], pairs, fed, settings.config.seed)


def _scored(network: Network, path: str, settings: DiffSettings, notes: list[str]) -> Report | None:
    """The report of a network; None, with a note, if it has none."""
    if not settings.scored:
        return None
    config = of_names(settings.config, [v.name for v in network.exact.graph.inputs])
    try:
        report = score(network, replace(config, inputs=network.given), limits=settings.limits)
    except IntrainError as error:
        allowance.raise_spent(error)
        notes.append(printable(f"{path} has no score: {error}", 500))
        return None
    told = (w.message for w in report.document.warnings if w.code == _OTHER_NETWORK)
    notes += [printable(f"the score of {path} is not that of its file: {message}", 500) for message in told]
    return report


def _layers(
    pairs: Sequence[Pair],
    tensors: Sequence[tuple[WeightRow, ...]],
    seen: Activations,
    reports: Sequence[Report | None],
) -> tuple[LayerRow, ...]:
    scored = [_by_layer(report) for report in reports]
    rows = []
    for number, (pair, rows_of) in enumerate(zip(pairs, tensors, strict=True)):
        layers = pair.first, pair.second
        known = next(x for x in layers if x is not None)
        parts = [scored[i].get(x.name, (None, None)) if x else (None, None) for i, x in enumerate(layers)]
        rows.append(
            LayerRow(
                first=pair.first.name if pair.first else None,
                second=pair.second.name if pair.second else None,
                kind=known.kind,
                depth=known.depth,
                shapes=tuple(x.weights[0].shape if x else None for x in layers),  # type: ignore[arg-type]
                status=pair.status,
                weights=rows_of,
                activation=seen.of_layers.get(number),
                unseen=seen.unseen.get(number),
                log_participation_ratio=(parts[0][0], parts[1][0]),
                health=(parts[0][1], parts[1][1]),
            )
        )
    return tuple(rows)


def _by_layer(report: Report | None) -> dict[str, tuple[float | None, float | None]]:
    """Log participation ratio and mean gradient health by layer."""
    if report is None:
        return {}
    parameters = {p.name: p for p in report.document.parameters}
    return {x.name: (x.log_participation_ratio, layer_health(x, parameters)) for x in report.document.layers}


def _side(network: Network, path: str, report: Report | None) -> Side:
    told = assemble.describe(network)
    return Side(
        path=path,
        sha256=told.sha256,
        producer=told.producer,
        precision=precision_of(network),
        quantisation=quantised_as(network),
        parameters=told.parameters,
        layers=told.canonical_layers,
        intrain=report.document.score.intrain if report is not None else None,
    )


def _inputs(fed: Feeding, settings: DiffSettings) -> Inputs:
    return Inputs(
        samples=fed.samples,
        seed=settings.config.seed,
        given=tuple(fed.first.given),
        shapes={spec.name: spec.shape for spec in fed.first.inputs},
    )
