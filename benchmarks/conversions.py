"""Healthy conversions of a model: optimisers, opsets, float16, int8 by onnxruntime's quantiser."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from rewriting import tools

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure import inputs
from intrain_onnx.network import given_inputs
from intrain_onnx.pipeline import network_of

Feeds = Sequence[Mapping[str, np.ndarray]]


def noise(file: Path, calls: int = 8, samples: int = 4) -> Feeds:
    """Inputs as the probe draws them, of seeds that a comparison does not use."""
    config = ScoreConfig.for_protocol("checkpoint")
    network = network_of(load(file), config)
    batch = network.single.fixed_batch or samples
    signature = given_inputs.resolve(network.exact, config, batch=batch, sizes=network.solved.sizes)
    feeds = []
    for call in range(calls):
        drawn = inputs.draw(signature, torch.Generator().manual_seed(100 + call), torch.device("cpu"))
        names = [spec.name for spec in signature.inputs]
        feeds.append(dict(zip(names, inputs.as_arrays(drawn, signature), strict=True)))
    return feeds


class Reader(CalibrationDataReader):  # type: ignore[misc] # it has no types
    """Gives a quantiser the inputs that it calibrates on."""

    def __init__(self, feeds: Feeds) -> None:
        self.left = iter(feeds)

    def get_next(self) -> Any:
        return next(self.left, None)


def conversions(file: Path, feeds: Callable[[], Feeds]) -> Iterator[tuple[str, onnx.ModelProto | str]]:
    """Each conversion by name, or why the tool refuses the model.

    Args:
        file: a float32 model.
        feeds: what static quantisation is calibrated with.
    """
    logging.disable(logging.WARNING)
    model, random = onnx.load(file), np.random.default_rng(0)
    for name, (_, run) in tools.OPTIMISERS.items():
        yield name, _made(partial(run, model))
    for name, convert in (("opset raised", tools.opset_raised), ("opset lowered", tools.opset_lowered)):
        yield name, _made(partial(_at_opset, convert, model, random))
    for name, keep in (("float16", True), ("float16, inputs too", False)):
        yield name, _made(partial(convert_float_to_float16, onnx.load(file), keep_io_types=keep))
    with tempfile.TemporaryDirectory() as folder:
        for name, quantise in _quantisers(file, Path(folder), feeds).items():
            yield name, _made(quantise)


def _quantisers(file: Path, folder: Path, feeds: Callable[[], Feeds]) -> dict[str, Callable[[], Any]]:
    begun, done = folder / "begun.onnx", folder / "done.onnx"
    try:
        quant_pre_process(str(file), str(begun), skip_symbolic_shape=True)
    except Exception:  # it is optional
        onnx.save(onnx.load(file), begun)

    def dynamic(**options: Any) -> onnx.ModelProto:
        model = onnx.load(begun)
        del model.graph.value_info[:]  # shapes of transposed weights, which the quantiser keeps
        onnx.save(model, begun)
        quantize_dynamic(str(begun), str(done), weight_type=QuantType.QInt8, **options)
        return onnx.load(done)

    def static(form: QuantFormat, *, per_channel: bool) -> onnx.ModelProto:
        kind = QuantType.QUInt8 if form == QuantFormat.QOperator else QuantType.QInt8
        options = {"per_channel": per_channel, "activation_type": kind, "weight_type": QuantType.QInt8}
        quantize_static(str(begun), str(done), Reader(feeds()), quant_format=form, **options)
        return onnx.load(done)

    return {
        "int8 dynamic": dynamic,
        "int8 dynamic, by channel": lambda: dynamic(per_channel=True),
        "int8 QDQ": lambda: static(QuantFormat.QDQ, per_channel=False),
        "int8 QDQ, by channel": lambda: static(QuantFormat.QDQ, per_channel=True),
        "int8 operators": lambda: static(QuantFormat.QOperator, per_channel=False),
    }


def _at_opset(
    convert: Callable[..., onnx.ModelProto | None], model: onnx.ModelProto, random: np.random.Generator
) -> onnx.ModelProto | None:
    """The model at another opset, if onnx finds it valid: onnxruntime crashes on some that are not."""
    made = convert(model, random)
    if made is not None:
        onnx.checker.check_model(made, full_check=True)
    return made


def _made(make: Callable[[], Any]) -> onnx.ModelProto | str:
    try:
        return make() or "nothing to do"
    except Exception as error:  # of any kind: another's program
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
