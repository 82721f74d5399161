"""Device, threads and determinism of torch during one score."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading import allowance
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.runtime.random_streams import random_nodes_from


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a model runs.

    Attributes:
        device: of all tensors.
        threads: of the CPU.
    """

    device: torch.device
    threads: int

    @property
    def name(self) -> str:
        """The device as a report names it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"


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
    threads = config.threads or len(os.sched_getaffinity(0))
    try:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
        with element_limit(allowance.current().elements()), random_nodes_from(config.seed):
            yield Machine(torch.device("cuda" if cuda else "cpu"), threads)
    finally:
        torch.set_num_threads(before)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = flags
