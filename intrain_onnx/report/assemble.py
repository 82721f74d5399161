"""Puts a report together from what the other packages found."""

from __future__ import annotations

import math
import platform
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.measure.trace import Trace
from intrain_onnx.network import coverage, gradient_reach
from intrain_onnx.network.input_shapes import InputSpec, declared_shape
from intrain_onnx.network.layers import LayerMap, Slot
from intrain_onnx.network.values import of_file
from intrain_onnx.proxy_table import PROXIES
from intrain_onnx.report.document import SCHEMA_VERSION, number
from intrain_onnx.report.model_warnings import static_warnings, warning_row
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork
from intrain_onnx.rewrites.protocol.step import Head
from intrain_onnx.scores.scoring import LayerScore, NamedScore, ParameterScore, PointScore, Score
from intrain_onnx.versions import version

if TYPE_CHECKING:
    from intrain_onnx.measure.prepare import Runnable
    from intrain_onnx.parity.compare import Parity
    from intrain_onnx.proxies.measure import Measured
    from intrain_onnx.runtime.machine import Machine

_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnx2torch", "onnxruntime", "onnxruntime-gpu", "torch")


def describe(network: Network) -> dict[str, Any]:
    """The ``model`` part of a report, from the static pass alone."""
    loaded, model, layers = network.loaded, network.model, network.layers
    return {
        "path": str(loaded.path) if loaded.path is not None else None,
        "sha256": loaded.sha256,
        "bytes": loaded.bytes,
        "external_sha256": loaded.external_sha256(),
        "producer": " ".join(filter(None, (loaded.producer_name, loaded.producer_version))),
        "ir_version": loaded.ir_version,
        "opset_imports": {k or "ai.onnx": v for k, v in sorted(loaded.opset_imports.items())},
        "inputs": [_value(v) for v in model.graph.inputs],
        "outputs": [_value(v) for v in model.graph.outputs],
        "parameters": parameter_count(model, layers),
        "nodes": layers.nodes,
        "canonical_layers": len(layers.layers),
        "macs": macs(network),
        "macs_input_shapes": {spec.name: list(spec.shape) for spec in network.single.inputs},
    }


def macs(network: Network) -> int | None:
    """Multiply-accumulate operations for one sample; None where no shape is known."""
    total = network.layers.macs
    return None if total is None else total // max(network.single.batch, 1)


def _value(value: ir.Value) -> dict[str, Any]:
    dims = declared_shape(value)
    return {
        "name": value.name,
        "dtype": value.dtype.name.lower() if value.dtype is not None else None,
        "shape": None if dims is None else list(dims),
    }


def parameter_count(model: ir.Model, layers: LayerMap) -> int:
    """Elements of the initializers behind all parameters, each counted once however often it is used."""
    return sum(dict(row for name in layers.slots for row in of_file(model.graph.initializers[name])).values())


@dataclass(frozen=True)
class Measurements:
    """All that a report is made from.

    Attributes:
        config: the settings.
        machine: where the model ran.
        network: the file's graph in normal form.
        probed: the same in the protocol's form.
        runnable: the module, and what it was fed.
        traces: of each run.
        scored: the score and its parts.
        parity: the comparison with onnxruntime; None where it was not asked for.
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


def report(m: Measurements) -> dict[str, Any]:
    """The whole document, ready for strict JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "intrain-onnx", "version": version("intrain-onnx")},
        "model": describe(m.network),
        "settings": m.config.as_dict()
        | {
            "execution": "batched" if m.runnable.batched else "sample_by_sample",
            "samples": m.runnable.used.batch,
            "inputs_fed": [_fed(spec) for spec in m.runnable.used.inputs],
            "losses": _losses(m.probed.heads, m.traces),
        },
        "environment": {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
            "device": m.machine.name,
            "threads": m.machine.threads,
            "packages": {p: v for p in _PACKAGES if (v := version(p)) is not None},
        },
        "score": _score(m.scored),
        "scores": _scores(m.scored),
        "proxies": {
            name: {
                "values": {part: number(value, 9) for part, value in found.values.items()},
                "direction": PROXIES[name].direction,
                "error": found.error,
            }
            for name, found in m.proxies.items()
        },
        "layers": [_layer(s) for s in m.scored.layers],
        "points": [_point(p) for p in m.scored.points],
        "parameters": _parameters(m),
        "coverage": coverage.as_dict(m.network.coverage),
        "gradient_reach": _gradient_reach(m),
        "depth_profile": _depth_profile(m.scored),
        "nodes": _fates(m),
        "parity": _parity(m.parity),
        "warnings": _warnings(m),
        "timings_s": {name: round(value, 4) for name, value in m.seconds.items()}
        | {f"{k}_{i}": round(v, 4) for i, t in enumerate(m.traces) for k, v in t.seconds.items()},
    }


def _warnings(m: Measurements) -> list[dict[str, Any]]:
    """In the order of the steps: of the file, of the conversion, of the graph, of the run."""
    rows = [warning_row(*row) for row in m.network.loaded.warnings]
    if m.parity is not None and m.parity.ok is False:
        rows.append(warning_row("parity", f"differs from onnxruntime: {m.parity.reason}"))
    elif m.parity is not None and m.parity.ok is None:
        rows.append(warning_row("parity_not_checked", m.parity.reason or ""))
    return [*rows, *static_warnings(m.network), *(warning_row(*row) for row in m.runnable.warnings)]


def _fed(spec: InputSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "kind": spec.kind, "ids": spec.high or None}


def _losses(heads: Sequence[Head], traces: Sequence[Trace]) -> list[dict[str, Any]]:
    terms = {term.output: term for term in traces[0].losses}
    rows = []
    for head in heads:
        term = terms.get(head.output)
        rows.append(
            {
                "output": head.output,
                "attached_to": head.value,
                "cut_off": list(head.through),
                "loss": term.kind if term else None,
                "shape": list(term.shape) if term else None,
                "value": number(term.value, 9) if term else None,
            }
        )
    return rows


def _score(result: Score) -> dict[str, Any]:
    ci95 = result.ci95
    return {
        "intrain": number(result.intrain),
        "geometric_capacity": number(result.geometric_capacity),
        "optimization_resilience": number(result.optimization_resilience),
        "layers": result.counted_layers,
        "parameter_tensors": result.counted_parameters,
        "std": number(result.std),
        "standard_error": number(result.standard_error),
        "ci95": None if ci95 is None else [number(v) for v in ci95],
        "runs": [
            {
                "seed": r.seed,
                "intrain": number(r.intrain),
                "geometric_capacity": number(r.geometric_capacity),
                "optimization_resilience": number(r.optimization_resilience),
            }
            for r in result.runs
        ],
    }


def _scores(result: Score) -> dict[str, Any]:
    """The paper's score and the variants, each by its name."""
    named = {"intrain": NamedScore(result.intrain, result.standard_error), **result.variants}
    return {
        name: {"value": number(s.value), "standard_error": number(s.standard_error)}
        for name, s in named.items()
    }


def _point(s: PointScore) -> dict[str, Any]:
    point, trace = s.point, s.trace
    return {
        "value": point.value,
        "layer": point.layer,
        "read": point.read,
        "join": point.join,
        "cut": point.cut,
        "depth": point.depth,
        "rows": trace.rows if trace else None,
        "channels": trace.channels if trace else None,
        "log_participation_ratio": number(s.plain),
        "log_participation_ratio_standardised": number(s.standardised),
    }


def _layer(s: LayerScore) -> dict[str, Any]:
    layer, trace = s.layer, s.trace
    return {
        "name": layer.name,
        "op": layer.op,
        "kind": layer.kind,
        "depth": layer.depth,
        "inputs": list(layer.inputs),
        "key": layer.key,
        "weights": [w.name for w in layer.weights],
        "initializers": list(dict.fromkeys(name for w in layer.weights for name in w.initializers)),
        "weight_shape": list(layer.weights[0].shape),
        "shape": list(trace.shape) if trace else None,
        "rows": trace.rows if trace else None,
        "channels": trace.channels if trace else layer.channels,
        "macs": layer.macs,
        "participation_ratio": number(s.ratio),
        "participation_ratio_corrected": number(s.corrected),
        "log_participation_ratio": number(s.log_ratio),
        "status": s.status,
        "counted": s.counted,
    }


def _parameters(m: Measurements) -> list[dict[str, Any]]:
    shapes = {name: tuple(p.shape) for name, p in m.runnable.parameters.items()}
    return [_parameter(p, shapes[p.name]) for p in m.scored.parameters]


def _parameter(p: ParameterScore, shape: tuple[int, ...]) -> dict[str, Any]:
    slot: Slot = p.slot
    return {
        "name": p.name,
        "role": slot.role,
        "layer": slot.layer,
        "depth": slot.depth,
        "shape": list(shape),
        "health": number(p.health),
        "grad_std": number(p.std),
        "grad_max_abs": number(p.max_abs),
        "status": p.status,
        "counted": p.counted,
    }


def _gradient_reach(m: Measurements) -> dict[str, Any]:
    lost = {s.layer.name for s in m.scored.layers if s.status in ("unreached", "not_run")}
    lost |= {layer for layer, parts in m.probed.split.items() if lost.issuperset(parts)}
    measured = {p.name: p.status for p in m.scored.parameters}
    found = gradient_reach.summary(m.network.reach, m.network.layers.slots, measured, lost)
    return found | {"share": number(found["share"])}


def _depth_profile(result: Score) -> list[dict[str, Any]]:
    """Both sums along depth; the last row holds the totals of the score."""
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
    rows, capacity, health = [], [0.0], [0.0]
    for depth in sorted({*layers, *healths}):
        capacity.append(ratios[depth])
        health.append(healths[depth])
        rows.append(
            {
                "depth": depth,
                "layers": layers[depth],
                "cumulative_log_participation_ratio": number(math.fsum(capacity)),
                "cumulative_health": number(math.fsum(health)),
            }
        )
    return rows


def _fates(m: Measurements) -> dict[str, int]:
    """Every node of the file has one fate, and they add up to the total."""
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
    return {"total": total, **fates, "structural": total - sum(fates.values())}


def _parity(compared: Parity | None) -> dict[str, Any] | None:
    if compared is None:
        return None
    return {
        "reference": compared.reference,
        "samples": compared.samples,
        "max_abs_diff": number(compared.max_abs_diff, 6),
        "max_rel_diff": number(compared.max_rel_diff, 6),
        "ok": compared.ok,
        "round_off": number(compared.round_off, 3),
        "reason": compared.reason,
    }
