"""Tiny ONNX graphs from ONNX's own text form, and the steps that tests take them through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from hypothesis import given, settings
from onnx import numpy_helper, parser

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import Source, load
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.network import input_shapes
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.network.recognise import Layer
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork, for_protocol


def weight(*shape: int, seed: int = 0, scale: float | None = None) -> np.ndarray:
    """Normal float32 numbers, by default of a size that keeps activations near one."""
    fan_in = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 1
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return (values * (fan_in**-0.5 if scale is None else scale)).astype(np.float32)


WEIGHT_SOURCES: Mapping[str, tuple[str, Mapping[str, np.ndarray]]] = {
    "identity": ("w = Identity(v)", {"v": weight(4, 3)}),
    "cast": ("w = Cast<to = 1>(v)", {"v": weight(4, 3).astype(np.float16)}),
    "transpose": ("w = Transpose(v)", {"v": weight(3, 4)}),
    "reshape": ("w = Reshape(v, s)", {"v": weight(2, 2, 3), "s": np.array([4, 3])}),
    "transpose and reshape": (
        "u = Transpose<perm = [2, 0, 1]>(v) w = Reshape(u, s)",
        {"v": weight(3, 4, 1), "s": np.array([4, 3])},
    ),
    "unsqueeze and squeeze": (
        "u = Unsqueeze(v, a) w = Squeeze(u, a)",
        {"v": weight(4, 3), "a": np.array([1])},
    ),
    "constant": (
        "w = Constant<value = float[4,3] {0.5,1.5,2.5,3.5,4.5,5.5,6.5,7.5,8.5,9.5,10.5,11.5}>()",
        {},
    ),
    "constant of shape": (
        "w = ConstantOfShape<value = float[1] {0.5}>(s)",
        {"s": np.array([4, 3])},
    ),
    "dequantised": (
        "w = DequantizeLinear<axis = 1>(q, s, z)",
        {
            "q": np.arange(12, dtype=np.int8).reshape(4, 3),
            "s": np.array([0.1, 0.2, 0.3], np.float32),
            "z": np.array([1, 2, 3], np.int8),
        },
    ),
    "dequantised, then transposed": (
        "d = DequantizeLinear(q, s) w = Transpose(d)",
        {"q": np.arange(12, dtype=np.int8).reshape(3, 4), "s": np.array(0.1, np.float32)},
    ),
}
"""Ways to write a (4, 3) weight called w: nodes, and the initializers that they read."""


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
    normalise(result)
    infer_shapes(result, input_shapes.resolve(result, config or ScoreConfig.for_protocol(), batch=batch))
    return result


def for_probing(source: Source, protocol: str = "architecture", **settings: Any) -> ProtocolNetwork:
    """A network in the form in which a protocol probes it."""
    config = ScoreConfig.for_protocol(protocol, **settings)
    runs = runs_on(torch.device("cpu"))
    return for_protocol(Network.of(load(source), config, runs), config, runs.see)


def analysed(proto: onnx.ModelProto) -> LayerMap:
    """Result of the static pass."""
    return analyse(normalised(proto))


def by_weight(layers: LayerMap) -> dict[str, Layer]:
    """Layers by the name of their first weight."""
    return {layer.weights[0].name: layer for layer in layers.layers}


def run_onnxruntime(
    proto: onnx.ModelProto | ir.Model,
    feeds: Mapping[str, np.ndarray],
    outputs: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """Run without graph optimisation; ``outputs`` may name any value of the graph.

    Declared shapes are left out: a model in the middle of the pipeline has those of one sample.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(ir.to_proto(proto) if isinstance(proto, ir.Model) else proto)
    names = [v.name for v in copy.graph.output] if outputs is None else outputs
    del copy.graph.output[:], copy.graph.value_info[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    for value in copy.graph.input:
        value.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[np.ndarray] = session.run(None, dict(feeds))
    return found


def for_all(**strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``hypothesis.given`` without a deadline: the machines of continuous integration stall."""
    return lambda test: settings(deadline=None, max_examples=60)(given(**strategies)(test))
