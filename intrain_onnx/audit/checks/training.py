"""Checks for training artefacts: training-mode and random nodes, folded BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from intrain_onnx.audit.checks.base import Check, Found, Options

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence


def _training(evidence: Evidence, options: Options) -> Iterator[Found]:
    for node in evidence.file.training:
        yield Found(
            f"{node.detail} in training mode" if "::" not in node.detail else node.detail, node.name, "node"
        )
    for row in evidence.file.warnings:
        if row.code == "training-info":
            yield Found(row.message)


def _random(evidence: Evidence, options: Options) -> Iterator[Found]:
    for node in evidence.file.random:
        yield Found(f"{node.op} draws random numbers: two runs differ", node.name, "node")


def _folded(evidence: Evidence, options: Options) -> Iterator[Found]:
    for row in evidence.file.warnings:
        if row.code == "batch_norm_folded":
            yield Found(row.message)


CHECKS = (
    Check(
        "training-mode",
        "Nodes in training mode",
        "error",
        "Dropout or BatchNormalization in training mode makes the output random, or dependent on the other "
        "samples of the batch. Losses and training graphs are left over too.",
        "Export in evaluation mode: `model.eval()` in PyTorch, `training=False` in Keras.",
        needs=(),
        run=_training,
    ),
    Check(
        "random-nodes",
        "Nodes that draw random numbers",
        "note",
        "A sampler may be meant (a variational decoder), or be noise that regularised the training.",
        "Export without the noise, or accept that outputs differ from run to run.",
        needs=(),
        run=_random,
    ),
    Check(
        "batch-norm-folded",
        "BatchNorm folded away",
        "note",
        "The exporter folded BatchNorm into the layers before it. The network computes the same, but it "
        "cannot be trained on as it was.",
        "Nothing for inference. To train on, export with the BatchNorm kept.",
        needs=(),
        run=_folded,
    ),
)
