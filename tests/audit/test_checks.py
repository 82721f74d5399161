"""Each check: it fires on what it looks for, names the place, and is silent on a healthy network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from models import names, require

from audit.conftest import ROOT, TODAY, quick
from audit.defects import DEFECTS, Defect
from intrain_onnx.audit.checks.baseline import drop_by_chance
from intrain_onnx.audit.deployment.facts import (
    AssignmentFacts,
    LatencyFacts,
    Placed,
    SignatureFacts,
    Verified,
)
from intrain_onnx.audit.evidence import Evidence, Failure
from intrain_onnx.audit.facts import ChannelFacts, NodeFacts, RangeFacts, ValueFacts, Variation
from intrain_onnx.audit.run import Finding, audit, judge
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.network.coverage import QUERIES, Coverage, Missed
from intrain_onnx.report.decode import encode
from intrain_onnx.report.document import Report
from intrain_onnx.report.rows import Run, Score, WarningRow

LAYER = "node_Conv_139"
REFERENCE = {f"reference-{name}" for name in ("structure", "weights", "activations", "outputs")}
FOUND_ELSEWHERE = {
    "not-loaded",
    "waiver-expired",
    "waiver-unused",
    "precision-cost",
    "precision-underflow",
} | REFERENCE
"""Made by the runner, or from a second file; tests of the command, of waivers, of diff and of precision have them."""


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name.replace(" ", "_"))
def test_a_seeded_defect_is_found_and_named(defect: Defect, tmp_path: Path):
    file = tmp_path / "model.onnx"
    onnx.save(defect.model(), file)
    result = audit(file, quick(defect.policy), today=TODAY)
    told = [f for f in result.findings if f.check == defect.check]
    assert defect.place in [f.found.place for f in told], result.findings
    assert all(f.found.message for f in told)
    assert result.passed == all(f.severity != "error" for f in result.findings)


@pytest.mark.parametrize("file", sorted((ROOT / "samples").glob("*.onnx")), ids=lambda f: f.stem)
def test_samples_pass(file: Path):
    result = audit(file, quick(), today=TODAY)
    assert result.passed, result.findings
    assert [f.check for f in result.findings if f.severity != "note"] == []


@pytest.mark.parametrize("name", [n for n in names() if not n.startswith(("opennsfw", "light_"))])
def test_real_models_pass(name: str):
    told = quick()
    result = audit(
        require(name), replace(told, run=replace(told.run, batch=2 if "ddddocr" in name else 4)), today=TODAY
    )
    assert result.passed, [f for f in result.findings if f.severity == "error"]


def findings(evidence: Evidence, check: str, text: str = "") -> list[Finding]:
    return [f for f in judge(evidence, quick(text), TODAY).findings if f.check == check]


def edited(report: Report, change: Callable[[dict[str, Any]], None]) -> Report:
    data = copy.deepcopy(dict(report.data))
    change(data)
    return Report(data)


def with_report(evidence: Evidence, change: Callable[[dict[str, Any]], None]) -> Evidence:
    """The evidence with a changed report of the checkpoint."""
    report = edited(evidence.reports["checkpoint"], change)
    return replace(evidence, reports={**evidence.reports, "checkpoint": report})


def with_layer(evidence: Evidence, **fields: Any) -> Evidence:
    def change(data: dict[str, Any]) -> None:
        next(x for x in data["layers"] if x["name"] == LAYER).update(fields)

    return with_report(evidence, change)


def with_file(evidence: Evidence, **fields: Any) -> Evidence:
    return replace(evidence, file=replace(evidence.file, **fields))


def with_channels(evidence: Evidence, **fields: Any) -> Evidence:
    channels = {LAYER: ChannelFacts(**{"layer": LAYER, "after": "Relu", "channels": 32, "constant": 0, "zero": 0,
                                       "rows": 64, **fields})}  # fmt: skip
    return with_ranges(evidence, channels=channels)


def with_ranges(evidence: Evidence, **fields: Any) -> Evidence:
    assert evidence.ranges is not None
    return replace(evidence, ranges=replace(evidence.ranges, **fields))


def with_value(evidence: Evidence, largest: float) -> Evidence:
    value = ValueFacts("v", "node_x", "Conv", largest, False, 0.0)
    return replace(evidence, ranges=RangeFacts({"v": value}, {}))


def with_weight(evidence: Evidence, **fields: Any) -> Evidence:
    name = next(n for n, w in evidence.weights.items() if w.layer == LAYER and w.role == "weight")
    changed = replace(evidence.weights[name], **fields)
    return replace(evidence, weights={**evidence.weights, name: changed})


def _sick_health(data: dict[str, Any]) -> None:
    for row in data["parameters"]:
        row["health"] = 1e-4


def _reached_less(data: dict[str, Any]) -> None:
    data["gradient_reach"]["share"] = 0.01


def _differs(data: dict[str, Any]) -> None:
    data["parity"] |= {"ok": False, "reason": "far off", "max_rel_diff": 0.5}


def _not_compared(data: dict[str, Any]) -> None:
    data["parity"] |= {"ok": None, "reason": "no kernel", "max_rel_diff": None}


def _gradient(size: float) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        row = next(r for r in data["parameters"] if r["layer"] == LAYER and r["role"] == "weight")
        row["grad_std"] = size

    return change


def _dead_in_both(evidence: Evidence) -> Evidence:
    both = {n: with_layer(replace(evidence, reports={"checkpoint": r}), status="dead").reports["checkpoint"]
            for n, r in evidence.reports.items()}  # fmt: skip
    return replace(evidence, reports=both)


def with_deployment(evidence: Evidence, **fields: Any) -> Evidence:
    return replace(evidence, deployment=replace(evidence.deployment, **fields))


FELL_BACK = AssignmentFacts(
    ("CUDA", "CPU"),
    ("CUDA", "CPU"),
    ("CUDA", "CPU"),
    {"CPU": 1},
    (Placed("CPU", "n", "Op", "n", sizes=False),),
)
ONE_ROW = {"status": "collapsed", "kind": "embedding", "weight_shape": [1, 32]}


def _deciding(evidence: Evidence) -> Evidence:
    return with_file(evidence, deciding={LAYER: NodeFacts("round", "Round")})


def _not_run(evidence: Evidence) -> Evidence:
    def change(data: dict[str, Any]) -> None:
        next(x for x in data["layers"] if x["name"] == LAYER)["status"] = "not_run"
        for row in data["parameters"]:
            if row["layer"] == LAYER:
                row["status"] = "unreached"

    return with_report(evidence, change)


def _in_a_branch(evidence: Evidence) -> Evidence:
    assert evidence.checkpoint is not None
    layer = next(x for x in evidence.checkpoint.layers if x.name == LAYER)
    return with_file(evidence, branches=frozenset(layer.weights))


FIRES: Mapping[str, tuple[Callable[[Evidence], Evidence], str | None, str]] = {
    "not-measured": (lambda e: replace(e, failures={"ranges": Failure("UnsupportedError", "no way", "n", "Op")}), "n", ""),
    "external-data": (lambda e: with_file(e, external=("w.bin",)), "w.bin", "[checks.external-data]\nallow = false"),
    "file-warnings": (lambda e: with_file(e, warnings=(WarningRow("unsorted", "not in order", None),)), None, ""),
    "opset-range": (lambda e: with_file(e, opset=6), None, ""),
    "custom-ops": (lambda e: with_file(e, foreign=(NodeFacts("m", "Magic", "com.acme"),)), "m", ""),
    "unsupported-ops": (lambda e: with_file(e, missing={"ai.onnx::Odd-1": 2}), "ai.onnx::Odd-1", ""),
    "weights-not-recognised": (lambda e: with_file(e, covered=Coverage(10, {"weight": 9}, (Missed("q", "Einsum", "no layer", ("w",), 1, None),))), "q", ""),
    "learned-queries": (lambda e: with_file(e, covered=Coverage(10, {"weight": 9}, (Missed("q", "MatMul", QUERIES, ("w",), 1, None),))), "q", ""),
    "training-mode": (lambda e: with_file(e, training=(NodeFacts("d", "Dropout", "Dropout drops values"),)), "d", ""),
    "random-nodes": (lambda e: with_file(e, random=(NodeFacts("r", "RandomNormal"),)), "r", ""),
    "batch-norm-folded": (lambda e: e, None, ""),
    "weights-not-finite": (lambda e: with_weight(e, not_finite=2, nan=1), "blocks.1.conv1.weight", ""),
    "weights-extreme": (lambda e: with_weight(e, max_abs=1e7), LAYER, ""),
    "weights-zero": (lambda e: with_weight(e, zeros=4608), LAYER, ""),
    "weights-rank": (lambda e: with_weight(e, rank_ratio=1.0), LAYER, ""),
    "zero-channels": (lambda e: with_weight(e, zero_channels=20), LAYER, ""),
    "collapsed": (lambda e: with_layer(with_channels(e, constant=32), status="collapsed"), LAYER, ""),
    "one-row-tables": (lambda e: with_layer(with_channels(e, constant=32), **ONE_ROW), LAYER, ""),
    "input-dependent": (lambda e: with_ranges(e, varied=(Variation("masks inverted", ("mask",), (LAYER,)),)), LAYER, ""),
    "low-participation": (lambda e: with_layer(e, participation_ratio=1.0001), LAYER, ""),
    "dead-layers": (_dead_in_both, LAYER, ""),
    "unread-layers": (lambda e: with_ranges(_dead_in_both(e), unread=frozenset({LAYER})), LAYER, ""),
    "zero-gradient": (lambda e: with_layer(e, status="dead"), LAYER, ""),
    "dead-channels": (lambda e: with_channels(e, zero=31), LAYER, ""),
    "unreached-layers": (lambda e: with_layer(e, status="unreached"), LAYER, ""),
    "deciding-layers": (lambda e: _deciding(with_layer(e, status="unreached")), LAYER, ""),
    "branches-not-run": (lambda e: _in_a_branch(_not_run(e)), LAYER, ""),
    "unreached-share": (lambda e: with_report(e, _reached_less), None, ""),
    "gradient-vanishing": (lambda e: with_report(e, _gradient(1e-20)), LAYER, ""),
    "gradient-exploding": (lambda e: with_report(e, _gradient(1e9)), LAYER, ""),
    "low-health": (lambda e: with_report(e, _sick_health), "node_Conv_133", ""),
    "not-finite": (lambda e: replace(e, failures={"checkpoint": Failure("NumericalError", "NaN", "n", "Op")}), "n", ""),
    "activation-range": (lambda e: with_value(e, 1e8), "node_x", ""),
    "float16-range": (lambda e: with_value(e, 7e4), "node_x", 'deploy = "float16"'),
    "float16-constants": (lambda e: with_weight(e, role="constant", max_abs=1e9), "blocks.1.conv1.weight", 'deploy = "float16"'),
    "parity": (lambda e: with_report(e, _differs), None, ""),
    "parity-unknown": (lambda e: with_report(e, _not_compared), None, ""),
    "file-size": (lambda e: e, None, "[checks.file-size]\nmax_mb = 0.01"),
    "parameter-count": (lambda e: e, None, "[checks.parameter-count]\nmax = 10"),
    "macs": (lambda e: e, None, "[checks.macs]\nmax = 10"),
    "opset-support": (lambda e: e, "node_mean", "[checks.opset-support]\nmax_opset = 17"),
    "memory": (lambda e: e, "node_relu_1", "[checks.memory]\nmax_mb = 0.1"),
    "provenance": (lambda e: e, None, '[checks.provenance]\nrequire = ["licence"]'),
    "latency": (lambda e: with_deployment(e, latency=LatencyFacts(1, 1, "CPU", 9, 5.0, 4.0, 6.0)), None, "[checks.latency]\nmax_ms = 1"),
    "provider-fallback": (lambda e: with_deployment(e, assignment=FELL_BACK), "n", ""),
    "signature": (lambda e: with_deployment(e, signature=SignatureFacts(("k",), (Verified("m.onnx", "no"),))), "m.onnx", ""),
    "baseline-settings": (lambda e: _against(e, "settings"), None, ""),
    "architecture-changed": (lambda e: _against(e, "layers"), "node_Conv_133", ""),
    "score-regression": (lambda e: _against(e, "score"), None, ""),
}  # fmt: skip


def _against(evidence: Evidence, part: str) -> Evidence:
    """A baseline that differs in one part."""

    def change(data: dict[str, Any]) -> None:
        if part == "settings":
            data["settings"]["samples"] = 999
        elif part == "layers":
            data["layers"][0] |= {"key": "other", "weight_shape": [99, 3, 3, 3]}
        else:
            data["score"]["intrain"] *= 2
            for run in data["score"]["runs"]:
                run["intrain"] *= 2

    return replace(evidence, baseline=edited(evidence.reports["checkpoint"], change))


def test_every_check_is_tried():
    assert set(FIRES) | FOUND_ELSEWHERE == set(CHECKS)


@pytest.mark.parametrize("check", FIRES)
def test_a_check_fires_and_names_the_place(check: str, healthy: Evidence):
    change, place, text = FIRES[check]
    changed = change(healthy)
    if "deploy" in text:
        changed = replace(changed, deploy="float16")
    told = findings(changed, check, text)
    assert place in [f.found.place for f in told]
    assert told[0].severity == CHECKS[check].severity


@pytest.mark.parametrize("check", [c for c in FIRES if c != "batch-norm-folded"])
def test_a_check_is_silent_on_a_healthy_network(check: str, healthy: Evidence):
    assert findings(replace(healthy, baseline=healthy.reports["checkpoint"]), check) == []


def test_a_table_of_one_row_cannot_vary(healthy: Evidence):
    assert findings(with_layer(with_channels(healthy, constant=32), **ONE_ROW), "collapsed") == []


@pytest.mark.parametrize(
    ("check", "dead"),
    [
        ("collapsed", lambda e: with_layer(with_channels(e, constant=32), status="collapsed")),
        ("dead-layers", lambda e: with_channels(e, zero=32, constant=32)),
        ("dead-layers", _dead_in_both),
    ],
)
def test_what_another_input_wakes_is_not_dead(
    check: str, dead: Callable[[Evidence], Evidence], healthy: Evidence
):
    evidence = dead(healthy)
    assert [f.found.place for f in findings(evidence, check)] == [LAYER]
    tried = (Variation("other noise", ("x",), ()), Variation("masks inverted", ("mask",), (LAYER,)))
    awake = with_ranges(evidence, varied=tried)
    assert findings(awake, check) == []
    [told] = findings(awake, "input-dependent")
    assert told.severity == "note"
    assert "masks inverted (mask)" in told.found.message
    asleep = with_ranges(evidence, varied=tried[:1])
    assert [f.found.place for f in findings(asleep, check)] == [LAYER]


def test_outputs_in_large_units_are_no_explosion(healthy: Evidence):
    """A loss of 8,000 (NMR shifts in ppm) and effects of 7e8 were seen in a sound network."""

    def in_units(data: dict[str, Any]) -> None:
        _gradient(1e6)(data)
        data["settings"]["losses"][0]["value"] = 8e3

    [told] = findings(with_report(healthy, _gradient(1e6)), "gradient-exploding")
    assert told.found.measured is not None
    assert 1e8 < told.found.measured < 8e11
    assert findings(with_report(healthy, in_units), "gradient-exploding") == []


def test_what_no_output_reads_is_a_warning(healthy: Evidence):
    unread = with_ranges(_dead_in_both(healthy), unread=frozenset({LAYER}))
    assert findings(unread, "dead-layers") == []
    assert [f.severity for f in findings(unread, "unread-layers")] == ["warning"]


def test_layers_that_only_decide_are_no_error(healthy: Evidence):
    unreached = with_layer(healthy, status="unreached")
    assert findings(_deciding(unreached), "unreached-layers") == []
    assert findings(_deciding(healthy), "deciding-layers") == []


@pytest.mark.parametrize(("largest", "mask", "degree", "found"), [
    (1e9, 1e9, 1, False), (1.1e9, 1e9, 1, True), (1e9, 0.0, 1, True),
    (6.7e7, 0.0, 2, False), (1e15, 0.0, 2, True), (1e15, 0.0, 3, False),
])  # fmt: skip
def test_masks_and_powers_in_the_range(
    largest: float, mask: float, degree: int, found: bool, healthy: Evidence
):
    value = ValueFacts("v", "node_x", "Add", largest, False, 0.0, mask, degree)
    ranges = with_ranges(healthy, values={"v": value})
    assert bool(findings(ranges, "activation-range")) == found


def test_folded_batch_norm_is_silent_where_it_was_kept():
    kept = audit(ROOT / "samples" / "pytorch_resnet_training.onnx", quick(), today=TODAY)
    assert "batch-norm-folded" not in [f.check for f in kept.findings]


def test_a_check_that_is_off_says_nothing(healthy: Evidence):
    changed = with_weight(healthy, rank_ratio=1.0)
    assert findings(changed, "weights-rank", '[checks.weights-rank]\nseverity = "off"') == []


def test_branches_of_an_if_that_did_not_run_are_a_note(healthy: Evidence):
    outside = _not_run(healthy)
    assert [f.found.place for f in findings(outside, "unreached-layers")] == [LAYER]
    inside = _in_a_branch(outside)
    assert findings(inside, "unreached-layers") == []
    assert [f.severity for f in findings(inside, "branches-not-run")] == ["note"]


def test_infinities_of_a_mask_are_meant(healthy: Evidence):
    masked = with_weight(healthy, role="constant", not_finite=7, nan=0)
    assert findings(masked, "weights-not-finite") == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [([2.0, 2.1, 2.2], [1.0, 1.1, 1.2], 0.0), ([2.0, 2.1], [2.0, 2.1], 1.0)],
)
def test_chance_of_a_drop_that_is_equal_in_all_seeds(
    before: list[float], after: list[float], expected: float
):
    assert drop_by_chance(_runs(before), _runs(after)) == pytest.approx(expected, abs=1e-6)


def test_chance_of_a_drop_needs_two_seeds_and_falls_with_the_evidence():
    assert drop_by_chance(_runs([2.0]), _runs([1.0])) is None
    noisy = drop_by_chance(_runs([2.0, 1.0, 3.0]), _runs([1.5, 1.5, 1.5]))
    clear = drop_by_chance(_runs([2.0, 1.9, 2.1]), _runs([1.0, 1.0, 1.0]))
    assert noisy is not None
    assert clear is not None
    assert clear < 0.05 < noisy


def _runs(scores: list[float]) -> Score:
    runs = tuple(Run(i, s, 1.0, 1.0) for i, s in enumerate(scores))
    return Score(sum(scores) / len(scores), 1.0, 1.0, 1, 1, None, None, None, runs)


def test_a_drop_within_the_noise_of_the_seeds_is_no_finding(healthy: Evidence):
    def several(scores: list[float]) -> Callable[[dict[str, Any]], None]:
        def change(data: dict[str, Any]) -> None:
            data["score"] = encode(_runs(scores))

        return change

    now = with_report(healthy, several([1.5, 1.5, 1.5]))
    old = edited(healthy.reports["checkpoint"], several([2.0, 1.0, 3.0]))
    assert findings(replace(now, baseline=old), "score-regression") == []


@pytest.mark.parametrize(
    ("stage", "kind", "check"),
    [
        ("checkpoint", "MissingOpsError", "not-measured"),
        ("architecture", "NumericalError", "not-measured"),
        ("checkpoint", "NumericalError", "not-finite"),
        ("ranges", "LimitError", "not-measured"),
    ],
)
def test_no_failure_gets_lost(stage: str, kind: str, check: str, healthy: Evidence):
    result = judge(replace(healthy, failures={stage: Failure(kind, "why", None, None)}), quick(), TODAY)
    assert check in [f.check for f in result.findings]
    assert not result.passed


def test_a_domain_that_is_allowed_but_cannot_be_run_does_not_pass(tmp_path: Path):
    onnx.save(next(d for d in DEFECTS if d.check == "custom-ops").model(), tmp_path / "model.onnx")
    allowed = quick('[checks.custom-ops]\nallow = ["com.acme"]')
    result = audit(tmp_path / "model.onnx", allowed, today=TODAY)
    assert [f.check for f in result.findings if f.severity == "error"] == ["unsupported-ops"]
