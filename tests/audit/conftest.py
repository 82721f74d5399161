"""Evidence of one healthy sample, gathered once."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from intrain_onnx.audit import policy
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.gather import gather
from intrain_onnx.audit.policy import Policy

ROOT = Path(__file__).parents[2]
TODAY = datetime.date(2026, 6, 1)


def quick(text: str = "") -> Policy:
    """A policy that measures with one seed and few samples."""
    told = policy.parse(text)
    return replace(told, run=replace(told.run, seeds=1, batch=8, threads=1))


@pytest.fixture(scope="session")
def healthy() -> Evidence:
    """A ResNet without defects."""
    return gather(ROOT / "samples" / "pytorch_resnet_dynamo.onnx", quick())
