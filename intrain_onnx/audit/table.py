"""Table of all checks, in the order in which findings are shown."""

from __future__ import annotations

from typing import Any

from intrain_onnx.audit.checks import (
    baseline,
    budget,
    deployment,
    file,
    gradients,
    layers,
    numerics,
    reference,
    training,
    weights,
)
from intrain_onnx.audit.checks.base import SEVERITIES, Check, Found, Options, Severity, nothing

__all__ = ["CHECKS", "SEVERITIES", "Check", "Found", "Options", "Severity"]

_WAIVERS = (
    Check(
        "waiver-expired",
        "A waiver is over",
        "error",
        "A waiver has a last day so that an accepted finding is looked at again. After that day its findings "
        "count again, and the waiver itself is reported.",
        "Repair what was waived, or renew the date with a reason.",
        needs=(),
        run=nothing,
        of_run=True,
    ),
    Check(
        "waiver-unused",
        "A waiver matches nothing",
        "note",
        "A waiver that no finding matches hides nothing now, but it would hide a finding that comes later. "
        "It is reported once a run, where all models of the run that it is for could be looked at.",
        "Take it out of the policy.",
        needs=(),
        run=nothing,
        of_run=True,
    ),
)

_GROUPS: tuple[tuple[Check[Any], ...], ...] = (
    file.CHECKS,
    training.CHECKS,
    weights.CHECKS,
    layers.CHECKS,
    gradients.CHECKS,
    numerics.CHECKS,
    budget.CHECKS,
    deployment.CHECKS,
    baseline.CHECKS,
    reference.CHECKS,
    _WAIVERS,
)

CHECKS = {check.id: check for group in _GROUPS for check in group}
"""Checks by id."""
