"""Latency: measured if a limit asks, with its spread; a budget is held against the median."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.conftest import ROOT, TODAY, quick
from intrain_onnx.audit.deployment.facts import LatencyFacts
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.run import audit, judge

SAMPLE = ROOT / "samples" / "jax_cnn.onnx"


def test_it_is_measured_where_a_limit_asks():
    assert audit(SAMPLE, quick(), today=TODAY).data()["deployment"]["latency"] is None
    limits = "max_ms = 0.0001\nruns = 9\nwhole_batch = {}"
    rows = {}
    for whole in ("false", "true"):
        result = audit(SAMPLE, quick(f"[checks.latency]\n{limits.format(whole)}"), today=TODAY)
        assert [f.check for f in result.findings if f.severity == "error"] == ["latency"]
        rows[whole] = result.data()["deployment"]["latency"]
    assert [row["samples"] for row in rows.values()] == [1, 8]
    for row in rows.values():
        assert 0 < row["first_quartile_ms"] <= row["median_ms"] <= row["third_quartile_ms"]
        assert (row["runs"], row["threads"], row["provider"]) == (9, 1, "CPUExecutionProvider")


@pytest.mark.parametrize(("median", "passed"), [(9.9, True), (10.1, False)])
def test_the_median_is_held_against_the_limit(median: float, passed: bool, healthy: Evidence):
    told = LatencyFacts(1, 2, "CPUExecutionProvider", 50, median, 1.0, 30.0)
    changed = replace(healthy, deployment=replace(healthy.deployment, latency=told))
    result = judge(changed, quick("[checks.latency]\nmax_ms = 10"), TODAY)
    assert result.passed == passed
    if not passed:
        [found] = (f.found for f in result.findings if f.check == "latency")
        assert found.message == (
            "10.1 ms, allowed are 10: the median of 50 runs of 1 sample (quartiles 1 and 30), 2 threads, "
            "CPUExecutionProvider"
        )


def test_what_cannot_be_timed_does_not_pass(healthy: Evidence):
    told = LatencyFacts(1, 1, error="onnxruntime: no kernel")
    changed = replace(healthy, deployment=replace(healthy.deployment, latency=told))
    result = judge(changed, quick("[checks.latency]\nmax_ms = 10"), TODAY)
    assert [f.found.message for f in result.findings if f.check == "latency"] == [
        "the latency cannot be measured: onnxruntime: no kernel"
    ]
    assert not result.passed


def test_weights_that_do_not_fit_are_not_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("intrain_onnx.memory.fits", lambda size: False)
    policy = quick('[run]\nproviders = ["CPUExecutionProvider"]\n[checks.latency]\nmax_ms = 10')
    result = audit(SAMPLE, policy, today=TODAY)
    told = {f.check: f.found.message for f in result.findings if f.severity == "error"}
    assert sorted(told) == ["latency", "provider-fallback"]
    assert all("do not fit into memory" in message for message in told.values())
