"""Device, threads and determinism of torch during one score."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from intrain_onnx.config import ScoreConfig, cores, most_threads
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading import allowance
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.runtime.random_streams import random_nodes_from

_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a model runs.

    Attributes:
        device: of all tensors.
        threads: of the CPU, as torch tells them.
    """

    device: torch.device
    threads: int

    @property
    def name(self) -> str:
        """The device as a report names it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


def _usual_threads() -> int:
    """As many as the environment asks OpenMP for, of which the first level counts; or else all cores."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    wanted = int(told) if told.isascii() and told.isdigit() and len(told) < _DIGITS else 0
    return min(wanted or cores(), most_threads())


@contextmanager
def machine_for(config: ScoreConfig) -> Iterator[Machine]:
    """Set torch's threads, CUDA flags, the element limit and the seed of random nodes; restore them on exit.

    CUDA runs with deterministic cuDNN kernels, without autotuning or TF32.

    Raises:
        SettingsError: CUDA is requested, but not available.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is 'cuda', and torch finds no CUDA device", hint="Use --device auto")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    before = torch.get_num_threads()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)
    try:
        torch.set_num_threads(config.threads or _usual_threads())
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
        with element_limit(allowance.current().elements()), random_nodes_from(config.seed):
            yield Machine(torch.device("cuda" if cuda else "cpu"), torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = flags
