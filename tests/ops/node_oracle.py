"""One ONNX node through our converter and through an independent runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnx import helper
from torch import Tensor, fx

from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.runtime.convert import convert

torch.set_num_threads(1)


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, np.ndarray],
    outputs: Iterable[str],
    *,
    opset: int = 21,
    initializers: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]] = (),
    ml_opset: int = 3,
) -> onnx.ModelProto:
    """A model in memory; ``inputs`` maps names to arrays whose types and shapes the inputs get."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [onnx.numpy_helper.from_array(a, name) for name, a in dict(initializers).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", ml_opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def single_node(
    op_type: str,
    values: Sequence[np.ndarray | None],
    *,
    n_outputs: int = 1,
    domain: str = "",
    opset_version: int = 21,
    outputs: Sequence[str] | None = None,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node; a value of None is an input that is left out."""
    names = ["" if v is None else f"x{i}" for i, v in enumerate(values)]
    outputs = outputs or [f"y{i}" for i in range(n_outputs)]
    node = helper.make_node(op_type, names, outputs, domain=domain, **attributes)
    inputs = {n: v for n, v in zip(names, values, strict=True) if v is not None}
    return make_model([node], inputs, [o for o in outputs if o], opset=opset_version), inputs


def converted(model: onnx.ModelProto) -> fx.GraphModule:
    """The torch module of a model."""
    network = ir.serde.deserialize_model(model)
    normalise(network)
    return convert(network)


def ours(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[Tensor]:
    """What the converted module gives, as a list of tensors."""
    result = converted(model)(*(torch.from_numpy(np.array(v)) for v in inputs.values()))
    return list(result) if isinstance(result, tuple) else [result]


def onnxruntime_cpu(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime gives on the CPU without rewriting the graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[np.ndarray] = session.run(None, dict(inputs))
    return outputs


def check(
    op_type: str,
    values: Sequence[np.ndarray | None],
    *,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    steps: int = 0,
    compare: Iterable[int] | None = None,
    **options: Any,
) -> list[Tensor]:
    """Assert that a node gives what onnxruntime gives; integers may differ by ``steps``."""
    model, inputs = single_node(op_type, values, **options)
    expected = onnxruntime_cpu(model, inputs)
    actual = ours(model, inputs)
    assert len(actual) == len(expected)
    for index in compare if compare is not None else range(len(expected)):
        assert_close(actual[index], expected[index], rtol=rtol, atol=atol, steps=steps)
    return actual


def assert_close(
    actual: Tensor, expected: np.ndarray, *, rtol: float = 1e-4, atol: float = 1e-5, steps: int = 0
) -> None:
    """Assert equal type and shape, and values within the tolerances."""
    got = actual.detach().numpy()
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    if got.dtype.kind in "iub":
        assert np.abs(got.astype(np.int64) - expected.astype(np.int64)).max(initial=0) <= steps
    else:
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)
