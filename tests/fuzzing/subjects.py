"""What is done with a mutant."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from intrain_onnx import inspection, pipeline
from intrain_onnx.config import ScoreConfig

from . import drive, sources
from .mutate import mutant

CONFIG = ScoreConfig.for_protocol(
    "architecture", seeds=1, batch=2, size=16, sequence=8, parity=False, threads=1, device="cpu", max_macs=1e9
)


def mutant_of(number: int) -> tuple[str, bytes, list[str]]:
    """The mutant of a number: the model that it is of, its bytes, and the names of its damages."""
    models = sources.everything()
    name, data = models[number % len(models)]
    return name, *mutant(data, number)


def inspect_and_score(number: int) -> tuple[str, str]:
    """``inspect``, and ``score`` of what that can read."""
    _, data, _ = mutant_of(number)
    return judge(data)


def judge(data: bytes) -> tuple[str, str]:
    """``inspect`` and ``score`` of the bytes of a file: the verdict of the first that breaks, or the last."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        path = Path(folder) / "mutant.onnx"
        path.write_bytes(data)
        kind, text = drive.judged(lambda: inspection.inspect(path, CONFIG, rewrites=True))
        if kind in ("INTERNAL", "ModelFileError", "UnsafeModelError", "LimitError"):
            return kind, text
        return drive.judged(lambda: pipeline.score(path, CONFIG))


def warm_up() -> None:
    """Import and compute once, so that each child is forked warm."""
    torch.set_num_threads(1)
    sources.everything()
    for _, data in sources.everything()[:4]:
        judge(data)
