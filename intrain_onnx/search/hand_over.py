"""Writes the ONNX file of a chosen architecture, with drawn weights, and checks what was written."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.parity.check import check_parity
from intrain_onnx.parity.compare import Parity, label
from intrain_onnx.report.document import write_atomically
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime.machine import machine_for
from intrain_onnx.search import costs
from intrain_onnx.search.goals import Costs


def write(source: onnx.ModelProto | str, path: Path, size: int, config: ScoreConfig) -> tuple[Costs, str]:
    """Write a model, and count and run the file.

    Args:
        source: as a space builds it.
        path: of the new file.
        size: of its image, or number of tokens.
        config: its seed draws the weights that are all zero, and the inputs of the run.

    Returns:
        The costs of the file, and whether onnxruntime agrees: ok, differs or not compared.

    Raises:
        IntrainError: the file cannot be read again or counted.
        OSError: it cannot be written.
    """
    model = onnx.load(source) if isinstance(source, str) else source
    draw(model.graph, np.random.default_rng(config.seed))
    write_atomically(path, model.SerializeToString())
    network = Network.of(load(path), config)
    with machine_for(config) as machine:
        found = check_parity(network, machine, config.seed)
    return costs.of_model(str(path), size), told(found)


def draw(graph: onnx.GraphProto, generator: np.random.Generator) -> None:
    """Draw weights that are all zero, in place: Kaiming normal over the fan-in, as a score draws them.

    A network of zeros runs, and cannot be trained: no gradient passes it.
    """
    columns = {node.input[1] for node in graph.node if _reads_columns(node)}
    for tensor in graph.initializer:
        shape = tuple(tensor.dims)
        if len(shape) < 2 or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        if not numpy_helper.to_array(tensor).any():
            inputs = shape[0] if tensor.name in columns else math.prod(shape[1:])
            values = generator.standard_normal(shape) * math.sqrt(2 / inputs)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def _reads_columns(node: onnx.NodeProto) -> bool:
    """Whether the second operand is a matrix of inputs by outputs."""
    turned = any(a.name == "transB" and a.i for a in node.attribute)
    return node.op_type in ("MatMul", "Gemm") and not turned


def told(found: Parity) -> str:
    """A comparison with onnxruntime in words."""
    if found.ok is None:
        return f"not compared: {found.reason}"
    return f"{'ok' if found.ok else f'differs: {found.reason}'} ({label()})"
