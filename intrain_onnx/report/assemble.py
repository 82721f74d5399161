"""Builds the report from the static pass, the runs and the scores."""

from __future__ import annotations

import math
import platform
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import msgspec
import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import NumericalError, path_text
from intrain_onnx.measure.trace import Trace
from intrain_onnx.network import coverage, given_inputs, gradient_reach
from intrain_onnx.network.input_shapes import Signature, declared_shape
from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.values import of_file
from intrain_onnx.parity import telemetry
from intrain_onnx.proxy_table import PROXIES
from intrain_onnx.report import rows
from intrain_onnx.report.context.standing import standing
from intrain_onnx.report.document import number
from intrain_onnx.report.free_sizes import free_sizes
from intrain_onnx.report.gradient_along_depth import gradient_along_depth
from intrain_onnx.report.model_warnings import estimates, static_warnings, unsure_inputs
from intrain_onnx.report.schema_versions import SCHEMA_VERSION
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork
from intrain_onnx.rewrites.protocol.step import Head
from intrain_onnx.scores import baselines, counting
from intrain_onnx.scores.scoring import LayerScore, NamedScore, ParameterScore, PointScore, Score
from intrain_onnx.scores.static_twins import static_twins
from intrain_onnx.versions import version
from intrain_onnx.vocabulary import CoveredRole, LossKind, Role

if TYPE_CHECKING:
    from intrain_onnx.measure.prepare import Runnable
    from intrain_onnx.parity.compare import Parity
    from intrain_onnx.proxies.measure import Measured
    from intrain_onnx.runtime.machine import Machine

_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnx2torch", *telemetry.DISTRIBUTIONS, "torch")


def describe(network: Network) -> rows.Model:
    """The ``model`` part of a report, from the static pass alone."""
    loaded, model, layers = network.loaded, network.model, network.layers
    return rows.Model(
        path=path_text(loaded.path) if loaded.path is not None else None,
        sha256=loaded.sha256,
        bytes=loaded.bytes,
        external_sha256=loaded.external_sha256(),
        producer=" ".join(filter(None, (loaded.producer_name, loaded.producer_version))),
        ir_version=loaded.ir_version,
        opset_imports={k or "ai.onnx": v for k, v in sorted(loaded.opset_imports.items())},
        inputs=tuple(_value(v) for v in model.graph.inputs),
        outputs=tuple(_value(v) for v in model.graph.outputs),
        parameters=parameter_count(network),
        nodes=layers.nodes,
        canonical_layers=len(layers.layers),
        macs=macs(network),
        macs_input_shapes={spec.name: spec.shape for spec in network.single.inputs},
    )


def macs(network: Network) -> int | None:
    """Multiply-accumulate operations for one sample; None if shapes are unknown."""
    total = network.layers.macs
    return None if total is None else total // max(network.single.batch, 1)


def _value(value: ir.Value) -> rows.Value:
    dims = declared_shape(value)
    return rows.Value(
        name=value.name or "",
        dtype=value.dtype.name.lower() if value.dtype is not None else None,
        shape=None if dims is None else tuple(dims),
    )


def parameter_count(network: Network) -> int:
    """Elements of the initializers of all parameters; a shared initializer counts once."""
    initializers = network.model.graph.initializers
    found = (row for name in network.layers.slots for row in of_file(initializers[name]))
    return sum(dict(found).values())


@dataclass(frozen=True)
class Measurements:
    """Everything that a report is built from.

    Attributes:
        config: the settings.
        machine: where the model ran.
        network: the file's graph in normal form.
        probed: the network after the protocol's rewrites.
        runnable: the converted module and its inputs.
        traces: measurements of each run.
        scored: the score and its parts.
        parity: the comparison with onnxruntime; None if not requested.
        proxies: other zero-cost proxies, by name.
        seconds: wall-clock time of each step.
    """

    config: ScoreConfig
    machine: Machine
    network: Network
    probed: ProtocolNetwork
    runnable: Runnable
    traces: Sequence[Trace]
    scored: Score
    parity: Parity | None
    proxies: Mapping[str, Measured]
    seconds: Mapping[str, float]


def report(m: Measurements) -> rows.Document:
    """The whole report, with finite numbers only.

    Raises:
        NumericalError: a figure of the score is not finite.
    """
    document = rows.Document(
        schema_version=SCHEMA_VERSION,
        tool=rows.Tool("intrain-onnx", version("intrain-onnx")),
        model=describe(m.network),
        settings=rows.Settings(
            **m.config.as_dict(),
            execution="batched" if m.runnable.batched else "sample_by_sample",
            samples=m.runnable.used.batch,
            inputs_fed=_fed(m.runnable.used),
            free_sizes=tuple(free_sizes(m.runnable.used, m.network.solved, m.config)),
            losses=_losses(m.probed.heads, m.traces),
            recomputed=m.runnable.segments is not None,
        ),
        environment=rows.Environment(
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
            device=m.machine.name,
            threads=m.machine.threads,
            packages={p: v for p in _PACKAGES if (v := version(p)) is not None},
        ),
        kind=m.scored.runs[0].values.kind,
        score=_score(m.scored),
        scores=_scores(m.scored, m.config),
        gradient=gradient_along_depth(m.scored),
        baselines=_baselines(m),
        proxies={name: _proxy(name, found) for name, found in m.proxies.items()},
        layers=tuple(map(_layer, m.scored.layers)),
        points=tuple(map(_point, m.scored.points)),
        parameters=_parameters(m),
        coverage=coverage_row(m.network.coverage),
        gradient_reach=_gradient_reach(m),
        depth_profile=_depth_profile(m.scored),
        nodes=_fates(m),
        parity=_parity(m.parity),
        warnings=tuple(_warnings(m)),
        timings_s={name: round(value, 4) for name, value in m.seconds.items()}
        | {f"{k}_{i}": round(v, 4) for i, t in enumerate(m.traces) for k, v in t.seconds.items()},
    )
    return msgspec.structs.replace(document, standing=standing(document))


def _fed(used: Signature) -> tuple[rows.FedInput, ...]:
    found = []
    for spec in used.inputs:
        given = used.given.get(spec.name)
        if given is None:
            row = rows.FedInput(spec.name, spec.shape, spec.kind, spec.high or None, "synthetic", None)
        else:
            digest = given_inputs.digest(spec, given)
            row = rows.FedInput(spec.name, spec.shape, "given", None, given.source, digest)
        found.append(row)
    return tuple(found)


def _warnings(m: Measurements) -> list[rows.WarningRow]:
    """Warnings in the order of the steps: loading, parity, static pass, run."""
    found = [rows.WarningRow(*row) for row in m.network.loaded.warnings]
    if m.parity is not None and m.parity.ok is False:
        found.append(rows.WarningRow("parity", f"differs from onnxruntime: {m.parity.reason}", None))
    elif m.parity is not None and m.parity.ok is None and telemetry.missing() is None:
        found.append(rows.WarningRow("parity_not_checked", m.parity.reason or "", None))
    found += [*static_warnings(m.network), *unsure_inputs(m.runnable.used)]
    found += estimates(m.config.projections, m.scored)
    return [*found, *(rows.WarningRow(*row) for row in m.runnable.warnings)]


def _finite(value: float) -> float:
    made = number(value)
    if made is None:
        raise NumericalError(f"a figure of the score is {value}")
    return made


def _losses(heads: Sequence[Head], traces: Sequence[Trace]) -> tuple[rows.Loss, ...]:
    terms = {term.output: term for term in traces[0].losses}
    found = []
    for head in heads:
        term = terms.get(head.output)
        found.append(
            rows.Loss(
                output=head.output,
                attached_to=head.value,
                cut_off=tuple(head.through),
                loss=cast(LossKind, term.kind) if term else None,
                shape=term.shape if term else None,
                value=number(term.value, 9) if term else None,
            )
        )
    return tuple(found)


def _score(result: Score) -> rows.Score:
    ci95 = result.ci95
    return rows.Score(
        intrain=_finite(result.intrain),
        geometric_capacity=_finite(result.geometric_capacity),
        optimization_resilience=_finite(result.optimization_resilience),
        layers=result.counted_layers,
        parameter_tensors=result.counted_parameters,
        std=number(result.std),
        standard_error=number(result.standard_error),
        ci95=None if ci95 is None else (_finite(ci95[0]), _finite(ci95[1])),
        runs=tuple(
            rows.Run(
                seed=r.seed,
                intrain=_finite(r.intrain),
                geometric_capacity=_finite(r.geometric_capacity),
                optimization_resilience=_finite(r.optimization_resilience),
            )
            for r in result.runs
        ),
    )


def _scores(result: Score, config: ScoreConfig) -> dict[str, rows.NamedScore]:
    """The variants and the paper's score, by name, with their static twins."""
    named = {**result.variants, "intrain": NamedScore(result.intrain, result.standard_error)}
    twins = [static_twins(run.values, config.as_dict()) for run in result.runs]
    return {
        name: rows.NamedScore(
            _finite(s.value), number(s.standard_error), _finite(statistics.fmean(t[name] for t in twins))
        )
        for name, s in named.items()
    }


def _baselines(m: Measurements) -> dict[str, int | float | None]:
    batch, samples = m.network.single.batch, m.runnable.used.batch
    counts = counting.count(m.probed, m.scored.layers, batch=batch, samples=samples)
    return {
        name: number(value) if isinstance(value, float) else value
        for name, value in baselines.all_of(counts).items()
    }


def _proxy(name: str, found: Measured) -> rows.Proxy:
    return rows.Proxy(
        values={part: number(value, 9) for part, value in found.values.items()},
        direction=PROXIES[name].direction,
        error=found.error,
    )


def _point(s: PointScore) -> rows.Point:
    point, trace = s.point, s.trace
    return rows.Point(
        value=point.value,
        layer=point.layer,
        read=point.read,
        join=point.join,
        cut=point.cut,
        depth=point.depth,
        rows=trace.rows if trace else None,
        channels=trace.channels if trace else None,
        log_participation_ratio=number(s.plain),
        log_participation_ratio_standardised=_finite(s.standardised),
        log_sensitivity=number(s.sensitivity),
        states=point.step_axis is not None,
        log_participation_ratio_standardised_error=_finite(s.error),
    )


def initializers(layer: Layer) -> tuple[str, ...]:
    """Initializers of the file that a layer's weights are made from, without duplicates."""
    return tuple(dict.fromkeys(name for w in layer.weights for name in w.initializers))


def _layer(s: LayerScore) -> rows.Layer:
    layer, trace = s.layer, s.trace
    return rows.Layer(
        name=layer.name,
        op=layer.op,
        kind=layer.kind,
        depth=layer.depth,
        inputs=tuple(layer.inputs),
        key=layer.key,
        weights=tuple(w.name for w in layer.weights),
        initializers=initializers(layer),
        weight_shape=layer.weights[0].shape,
        shape=trace.shape if trace else None,
        rows=trace.rows if trace else None,
        channels=trace.channels if trace else layer.channels,
        macs=layer.macs,
        participation_ratio=number(s.ratio),
        participation_ratio_corrected=number(s.corrected),
        log_participation_ratio=number(s.log_ratio),
        log_participation_ratio_error=_finite(s.error),
        status=s.status,
        counted=s.counted,
        module=layer.module,
    )


def _parameters(m: Measurements) -> tuple[rows.Parameter, ...]:
    shapes = m.runnable.shapes
    return tuple(_parameter(p, shapes[p.name]) for p in m.scored.parameters)


def _parameter(p: ParameterScore, shape: tuple[int, ...]) -> rows.Parameter:
    return rows.Parameter(
        name=p.name,
        role=cast(Role, p.slot.role),
        layer=p.slot.layer,
        depth=p.slot.depth,
        shape=shape,
        health=number(p.health),
        expected_health=number(p.expected),
        grad_std=number(p.std),
        grad_max_abs=number(p.max_abs),
        status=p.status,
        counted=p.counted,
    )


def coverage_row(found: coverage.Coverage) -> rows.Coverage:
    """The ``coverage`` part of a report."""
    share = found.macs_share
    return rows.Coverage(
        share=_rounded_down(found.share),
        macs_share=None if share is None else _rounded_down(share),
        elements=found.elements,
        by_role={cast(CoveredRole, role): elements for role, elements in found.by_role.items()},
        not_recognised=tuple(
            rows.NotRecognised(m.node, m.op, m.reason, tuple(m.initializers), m.elements)
            for m in found.missed
        ),
    )


def _rounded_down(share: float) -> float:
    """Rounded down to six digits, so that a share below 1 is never shown as 1."""
    return math.floor(share * 1e6) / 1e6


def _gradient_reach(m: Measurements) -> rows.GradientReach:
    lost = {s.layer.name for s in m.scored.layers if s.status in ("unreached", "not_run")}
    lost |= {layer for layer, parts in m.probed.split.items() if lost.issuperset(parts)}
    measured = {p.name: p.status for p in m.scored.parameters}
    found = gradient_reach.summary(m.network.reach, m.network.layers.slots, measured, lost)
    return rows.GradientReach(
        share=_finite(found["share"]),
        reached_elements=found["reached_elements"],
        elements=found["elements"],
        stopped_by=tuple(rows.Stop(**stop) for stop in found["stopped_by"]),
    )


def _depth_profile(result: Score) -> tuple[rows.Depth, ...]:
    """Cumulative sums of both factors along depth; the last row holds the totals of the score."""
    layers: Counter[int] = Counter()
    ratios: defaultdict[int, float] = defaultdict(float)
    healths: defaultdict[int, float] = defaultdict(float)
    for s in result.layers:
        if s.counted:
            layers[s.layer.depth] += 1
            ratios[s.layer.depth] += s.log_ratio or 0.0
    for p in result.parameters:
        if p.counted:
            healths[p.slot.depth] += p.health or 0.0
    profile, capacity, health = [], [0.0], [0.0]
    for depth in sorted({*layers, *healths}):
        capacity.append(ratios[depth])
        health.append(healths[depth])
        profile.append(
            rows.Depth(
                depth=depth,
                layers=layers[depth],
                cumulative_log_participation_ratio=_finite(math.fsum(capacity)),
                cumulative_health=_finite(math.fsum(health)),
            )
        )
    return tuple(profile)


def _fates(m: Measurements) -> rows.Nodes:
    """Counts of nodes by what became of them; each node is counted once, so they add up to the total."""
    original, quantisation = m.network.layers, m.network.quantisation
    removed = quantisation.removed if quantisation is not None else 0
    added = len(quantisation.activations) if quantisation is not None else 0
    statuses = {s.layer.name: s.status for s in m.scored.layers}
    layers: Counter[str] = Counter()
    for layer in original.layers:
        status = statuses.get(m.probed.split.get(layer.name, (layer.name,))[0], "cut_off")
        layers[status] += 1 + (layer.output != layer.node_output)
    constants = m.network.constants
    total = original.nodes - added + constants + removed
    unused = original.nodes - len(original.live) - original.fixed
    cut = len(original.live - m.probed.kept)
    fates = {
        "measured": layers["measured"],
        "collapsed": layers["collapsed"],
        "dead": layers["dead"],
        "unreached_by_gradient": layers["unreached"],
        "not_run": layers["not_run"] + layers["too_few_rows"],
        "absorbed": len(m.probed.absorbed),
        "cut_off": cut,
        "constant": constants + original.fixed,
        "dequantised": removed,
        "unused": unused,
    }
    return rows.Nodes(total=total, **fates, structural=total - sum(fates.values()))


def _parity(compared: Parity | None) -> rows.Parity | None:
    if compared is None:
        return None
    return rows.Parity(
        reference=compared.reference,
        samples=compared.samples,
        max_abs_diff=number(compared.max_abs_diff, 6),
        max_rel_diff=number(compared.max_rel_diff, 6),
        ok=compared.ok,
        round_off=number(compared.round_off, 3),
        reason=compared.reason,
    )
