"""Runs a converted model and onnxruntime on the same input, and compares their outputs."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch

from intrain_onnx.errors import MissingOpsError
from intrain_onnx.loading.load import LoadedModel
from intrain_onnx.measure import inputs
from intrain_onnx.parity import onnxruntime_process
from intrain_onnx.parity.compare import Parity, compare, failed, response_to_round_off
from intrain_onnx.rewrites import dequantise, half_precision
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import run
from intrain_onnx.runtime.machine import Machine

Array = np.ndarray[Any, Any]


def check_parity(network: Network, machine: Machine, seed: int) -> Parity:
    """Compare a model with onnxruntime on one batch of synthetic inputs.

    Args:
        network: onnxruntime runs its file, torch its ``exact`` graph.
        machine: the device of both, and the intra-op threads of onnxruntime.
        seed: of the inputs.
    """
    loaded, model, single, device = network.loaded, network.exact, network.single, machine.device
    samples = single.batch
    try:
        module = convert.convert(model).to(device)
    except MissingOpsError as error:  # nodes after the heads may lack a handler
        return failed(str(error), samples)
    drawn = inputs.draw(single, torch.Generator().manual_seed(seed), device)
    arrays = inputs.as_arrays(drawn, single)
    for index, (array, spec) in enumerate(zip(arrays, single.inputs, strict=True)):
        if spec.dtype in half_precision.ROUNDING:  # rounded to the model's element type
            drawn[index] = torch.from_numpy(array.astype(np.float32)).to(device)
    started = time.perf_counter()
    with torch.no_grad():  # before onnxruntime, which does not limit loops and sizes
        ours = run(module, drawn)
    timeout = 60 + 20 * (time.perf_counter() - started)
    ask = partial(
        onnxruntime_process.run_reference,
        cuda=device.type == "cuda",
        threads=machine.threads,
        timeout=timeout,
    )
    feeds = dict(zip((spec.name for spec in single.inputs), arrays, strict=True))
    try:
        try:
            expected, how, rounding = ask(_file_or_bytes(loaded), feeds), "", half_precision.rounding(model)
        except onnxruntime_process.NoReferenceError:
            if not half_precision.has_bfloat16(model):
                raise
            expected, how, rounding = ask(*_widened(loaded, feeds)), ", bfloat16 as float32", 0.0
    except onnxruntime_process.NoReferenceError as error:
        return failed(str(error), samples)
    return compare(
        [parts[0] for parts in ours],
        expected,
        [v.name or "" for v in model.graph.outputs],
        samples,
        partial(response_to_round_off, module, drawn, rounding),
        dequantise.output_steps(model),
        rounding=rounding,
        how=how,
    )


def _file_or_bytes(loaded: LoadedModel) -> str | bytes:
    """The checked bytes; the path only for a model with external data, which onnxruntime finds by it."""
    return str(loaded.path) if loaded.external else loaded.serialised()


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
