"""Puts a report together from what the other packages found."""

from __future__ import annotations

import math
import platform
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import LoadedModel
from intrain_onnx.measure.trace import Trace
from intrain_onnx.network import coverage, gradient_reach
from intrain_onnx.network.input_shapes import InputSpec, Signature, declared_shape
from intrain_onnx.network.layers import LayerMap, Slot
from intrain_onnx.network.values import of_file
from intrain_onnx.proxy_table import PROXIES
from intrain_onnx.report.document import number
from intrain_onnx.report.schema_versions import SCHEMA_VERSION
from intrain_onnx.rewrites.normalise import Head
from intrain_onnx.scores.scoring import LayerScore, NamedScore, ParameterScore, PointScore, Score
from intrain_onnx.versions import version

if TYPE_CHECKING:
    from intrain_onnx.parity.compare import Parity
    from intrain_onnx.proxies.measure import Measured

_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnx2torch", "onnxruntime", "onnxruntime-gpu", "torch")


def describe(loaded: LoadedModel, model: ir.Model, layers: LayerMap, single: Signature) -> dict[str, Any]:
    """The ``model`` part of a report, from the static pass alone."""
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
        "macs": None if layers.macs is None else layers.macs // max(single.batch, 1),
        "macs_input_shapes": {spec.name: list(spec.shape) for spec in single.inputs},
    }


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


def report(
    *,
    described: Mapping[str, Any],
    result: Score,
    original: LayerMap,
    covered: coverage.Coverage,
    reached: gradient_reach.Reach,
    kept: frozenset[str],
    split: Mapping[str, Sequence[str]],
    parameter_shapes: Mapping[str, tuple[int, ...]],
    heads: Sequence[Head],
    absorbed: Sequence[str],
    constants: int,
    dequantised: tuple[int, int],
    config: ScoreConfig,
    used: Signature,
    batched: bool,
    traces: Sequence[Trace],
    compared: Parity | None,
    peers: Mapping[str, Measured],
    device: str,
    threads: int,
    warnings: Sequence[Mapping[str, str | None]],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The whole document, ready for strict JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "intrain-onnx", "version": version("intrain-onnx")},
        "model": dict(described),
        "settings": config.as_dict()
        | {
            "execution": "batched" if batched else "sample_by_sample",
            "samples": used.batch,
            "inputs_fed": [_fed(spec) for spec in used.inputs],
            "losses": _losses(heads, traces),
        },
        "environment": {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
            "device": device,
            "threads": threads,
            "packages": {p: v for p in _PACKAGES if (v := version(p)) is not None},
        },
        "score": _score(result),
        "scores": _scores(result),
        "proxies": {
            name: {
                "values": {part: number(value, 9) for part, value in m.values.items()},
                "direction": PROXIES[name].direction,
                "error": m.error,
            }
            for name, m in peers.items()
        },
        "layers": [_layer(s) for s in result.layers],
        "points": [_point(p) for p in result.points],
        "parameters": [_parameter(p, parameter_shapes) for p in result.parameters],
        "coverage": coverage.as_dict(covered),
        "gradient_reach": _gradient_reach(reached, original, result, split),
        "depth_profile": _depth_profile(result),
        "nodes": _fates(original, kept, split, result, absorbed, constants, dequantised),
        "parity": _parity(compared),
        "warnings": [dict(row) for row in warnings],
        "timings_s": {name: round(value, 4) for name, value in seconds.items()}
        | {f"{k}_{i}": round(v, 4) for i, t in enumerate(traces) for k, v in t.seconds.items()},
    }


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


def _parameter(p: ParameterScore, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    slot: Slot = p.slot
    return {
        "name": p.name,
        "role": slot.role,
        "layer": slot.layer,
        "depth": slot.depth,
        "shape": list(shapes[p.name]),
        "health": number(p.health),
        "grad_std": number(p.std),
        "grad_max_abs": number(p.max_abs),
        "status": p.status,
        "counted": p.counted,
    }


def _gradient_reach(
    reached: gradient_reach.Reach, original: LayerMap, result: Score, split: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    lost = {s.layer.name for s in result.layers if s.status in ("unreached", "not_run")}
    lost |= {layer for layer, parts in split.items() if lost.issuperset(parts)}
    measured = {p.name: p.status for p in result.parameters}
    found = gradient_reach.summary(reached, original.slots, measured, lost)
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


def _fates(
    original: LayerMap,
    kept: frozenset[str],
    split: Mapping[str, Sequence[str]],
    result: Score,
    absorbed: Sequence[str],
    constants: int,
    dequantised: tuple[int, int],
) -> dict[str, int]:
    """Every node of the file has one fate, and they add up to the total.

    ``dequantised`` is how many nodes the float form of a quantised model does without, and how many it adds.
    """
    removed, added = dequantised
    statuses = {s.layer.name: s.status for s in result.layers}
    layers: Counter[str] = Counter()
    for layer in original.layers:
        status = statuses.get(split.get(layer.name, [layer.name])[0], "cut_off")
        layers[status] += 1 + (layer.output != layer.node_output)
    total = original.nodes - added + constants + removed
    unused = original.nodes - len(original.live) - original.fixed
    cut = len(original.live - kept)
    fates = {
        "measured": layers["measured"],
        "collapsed": layers["collapsed"],
        "dead": layers["dead"],
        "unreached_by_gradient": layers["unreached"],
        "not_run": layers["not_run"] + layers["too_few_rows"],
        "absorbed": len(absorbed),
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
