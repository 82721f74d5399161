"""Tiny ONNX graphs from ONNX's own text form, and the steps that tests take them through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from hypothesis import given, settings
from onnx import numpy_helper, parser

from intrain_onnx import graph, rewrite, signature
from intrain_onnx.config import ScoreConfig
from intrain_onnx.graph import Layer, LayerMap


def weight(*shape: int, seed: int = 0, scale: float | None = None) -> np.ndarray:
    """Normal float32 numbers, by default of a size that keeps activations near one."""
    fan_in = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 1
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return (values * (fan_in**-0.5 if scale is None else scale)).astype(np.float32)


def model(
    text: str,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 20,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """``(float[N,4] x) => (float[N,2] y) { y = MatMul(x, w) }`` with the initializers given by name."""
    imports = ", ".join(f'"{name}": {version}' for name, version in {"": opset, **(domains or {})}.items())
    proto = parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> net {text}")
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in (weights or {}).items())
    return proto


def normalised(proto: onnx.ModelProto, config: ScoreConfig | None = None, batch: int | None = 1) -> ir.Model:
    """The model as the static pass takes it, shapes inferred."""
    result = ir.from_proto(proto)
    rewrite.normalise(result)
    rewrite.infer_shapes(result, signature.resolve(result, config or ScoreConfig.for_protocol(), batch=batch))
    return result


def analysed(proto: onnx.ModelProto) -> LayerMap:
    """Result of the static pass."""
    return graph.analyse(normalised(proto))


def by_weight(layers: LayerMap) -> dict[str, Layer]:
    """Layers by the name of their first weight."""
    return {layer.weights[0].name: layer for layer in layers.layers}


def run_onnxruntime(
    proto: onnx.ModelProto | ir.Model,
    feeds: Mapping[str, np.ndarray],
    outputs: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """Run without graph optimisation; ``outputs`` may name any value of the graph."""
    proto = ir.to_proto(proto) if isinstance(proto, ir.Model) else proto
    if outputs is not None:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        del copy.graph.output[:]
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        proto = copy
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(feeds))


def for_all(**strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``hypothesis.given`` without a deadline: the machines of continuous integration stall."""
    return lambda test: settings(deadline=None, max_examples=60)(given(**strategies)(test))
