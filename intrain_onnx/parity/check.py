"""Compares a converted model with onnxruntime on the same inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from intrain_onnx import memory
from intrain_onnx.errors import IntrainError, MissingOpsError, printable
from intrain_onnx.loading.allowance import raise_spent
from intrain_onnx.loading.load import LoadedModel
from intrain_onnx.measure import inputs
from intrain_onnx.parity import onnxruntime_process
from intrain_onnx.parity.comparable import Comparable
from intrain_onnx.parity.compare import Parity, Spread, compare, failed, spread_of
from intrain_onnx.parity.round_off import response_to_round_off
from intrain_onnx.rewrites import dequantise, half_precision
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import run
from intrain_onnx.runtime.machine import Machine

Array = np.ndarray[Any, Any]


NUDGE = 1e-6
"""Relative noise on float inputs that should not change the result of a quantised model."""

Ask = Callable[..., list[Array]]


def check_parity(network: Network, machine: Machine, seed: int) -> Parity:
    """Compare a model with onnxruntime on one batch of synthetic inputs.

    A failure on the way is recorded as the reason for no comparison; if the scored network fails in the same
    way, its run reports it.

    Args:
        network: onnxruntime runs its file, torch its ``exact`` graph.
        machine: the device of both, and the intra-op threads of onnxruntime.
        seed: of the inputs.

    Raises:
        LimitError: the time, or the rounds of its loops, are over.
        MemoryError: the process is out of memory, or another error that says so.
    """
    samples = network.single.batch
    if not memory.fits(network.loaded.tensor_bytes):
        return failed("the weights do not fit into memory, where onnxruntime needs them", samples)
    try:
        return _compared(network, machine, seed)
    except onnxruntime_process.NoReferenceError as error:
        return failed(str(error), samples)
    except IntrainError as error:
        raise_spent(error)
        error.hint = error.hint if isinstance(error, MissingOpsError) else None
        return failed(str(error), samples)
    except Exception as error:  # of any kind: a parity check must not abort the score
        if memory.ran_out(error):
            raise
        said = next(iter(str(error).splitlines()), "")
        return failed(printable(f"the check failed: {type(error).__name__}: {said}"), samples)


def _compared(network: Network, machine: Machine, seed: int) -> Parity:
    loaded, model, single, device = network.loaded, network.exact, network.single, machine.device
    # Nodes after the loss may lack a handler.
    module = network.runner.module if network.runner is not None else convert.convert(model).to(device)
    drawn = inputs.draw(single, torch.Generator().manual_seed(seed), device)
    arrays = inputs.as_arrays(drawn, single)
    for index, (array, spec) in enumerate(zip(arrays, single.inputs, strict=True)):
        if spec.dtype in half_precision.ROUNDING:  # rounded to the model's element type
            drawn[index] = torch.from_numpy(array.astype(np.float32)).to(device)
    started = time.perf_counter()
    with torch.no_grad():  # before onnxruntime, which keeps no limit on loops and sizes
        ours = [parts[0] for parts in run(module, drawn)]
    names = [v.name or "" for v in model.graph.outputs]
    for name, output in zip(names, ours, strict=True):
        if not isinstance(output, Tensor):
            return failed(f"output {printable(repr(name))} is not a tensor", single.batch)
    ask = partial(
        onnxruntime_process.run_reference,
        cuda=device.type == "cuda",
        threads=machine.threads,
        timeout=60 + 20 * (time.perf_counter() - started),
    )
    file, feeds = (
        loaded.for_onnxruntime(),
        dict(zip((spec.name for spec in single.inputs), arrays, strict=True)),
    )
    try:
        expected, how, rounding = ask(file, feeds), "", half_precision.rounding(model)
    except onnxruntime_process.NoReferenceError:
        if not half_precision.has_bfloat16(model):
            raise
        file, feeds = _widened(loaded, feeds)
        expected, how, rounding = ask(file, feeds), ", bfloat16 as float32", 0.0
    graph = Comparable(model)
    quantised = network.quantisation is not None
    return compare(
        ours,
        expected,
        names,
        single.batch,
        partial(response_to_round_off, module, drawn, names, rounding, graph=graph),
        dequantise.output_steps(model),
        rounding=rounding,
        how=how,
        excuse=graph.why_not,
        itself=partial(_itself, ask, file, feeds, names, expected) if quantised else None,
    )


def _itself(
    ask: Ask, file: str | bytes, feeds: Mapping[str, Array], names: Sequence[str], expected: Sequence[Array]
) -> Spread:
    """Differences of onnxruntime from itself: unoptimised, and with noise on the inputs (``NUDGE``)."""
    random = np.random.default_rng(0)
    nudged = {
        name: (a * (1 + NUDGE * random.standard_normal(a.shape))).astype(a.dtype)
        if a.dtype.kind == "f"
        else a
        for name, a in feeds.items()
    }
    others = {}
    for how, given, optimised in (
        ("optimised or not", feeds, False),
        (f"inputs nudged by {NUDGE:g}", nudged, True),
    ):
        try:
            others[how] = ask(file, given, optimised=optimised)
        except onnxruntime_process.NoReferenceError:  # one of the two runs is enough
            continue
    return spread_of(names, expected, others, "onnxruntime differs from itself")


def _widened(loaded: LoadedModel, feeds: dict[str, Array]) -> tuple[bytes, dict[str, Array]]:
    """The model, serialised, and its inputs, with bfloat16 widened to float32.

    Raises:
        NoReferenceError: the model is too large for one protobuf message.
    """
    model = loaded.fresh()
    half_precision.widen(model)
    wide = {n: a.astype(np.float32) if a.dtype == ml_dtypes.bfloat16 else a for n, a in feeds.items()}
    try:
        return ir.to_proto(model).SerializeToString(), wide
    except ValueError as error:
        raise onnxruntime_process.NoReferenceError(str(error)) from error
