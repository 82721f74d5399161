"""Healthy samples with one defect each, and what the audit must say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[2]
HALF = 'deploy = "float16"'


@dataclass(frozen=True)
class Defect:
    """A seeded defect.

    Attributes:
        name: in the table.
        base: the sample.
        seed: changes the model in place.
        check: id of the check that must find it.
        place: what the finding must name; None for the whole model.
        policy: text of the policy; empty for the default.
    """

    name: str
    base: str
    seed: Callable[[onnx.ModelProto], None]
    check: str
    place: str | None
    policy: str = ""

    def model(self) -> onnx.ModelProto:
        """The sample with its defect."""
        model = onnx.load(ROOT / "samples" / f"{self.base}.onnx")
        self.seed(model)
        return model


def stored(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Tensors of a file by name: initializers, and what Constant nodes hold."""
    constants = {n.output[0]: a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute}
    return constants | {t.name: t for t in model.graph.initializer}


def change(model: onnx.ModelProto, name: str, new: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the numbers of a tensor."""
    tensor = stored(model)[name]
    array = np.array(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(new(array).astype(array.dtype), name))


def weights(name: str, new: Callable[[np.ndarray], np.ndarray]) -> Callable[[onnx.ModelProto], None]:
    """A defect in the numbers of one initializer."""
    return lambda model: change(model, name, new)


def insert(
    model: onnx.ModelProto, value: str, node: onnx.NodeProto, *constants: np.ndarray | np.generic
) -> None:
    """Put a node behind a value: all its readers read the node. Its first input is the value."""
    made = f"{value}_{node.op_type.lower()}"
    for reader in model.graph.node:
        reader.input[:] = [made if name == value else name for name in reader.input]
    for index, constant in enumerate(constants):
        name = f"{made}_constant_{index}"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(constant), name))
        node.input.append(name)
    node.input.insert(0, value)
    node.output[:] = [made]
    at = next((i + 1 for i, n in enumerate(model.graph.node) if value in n.output), 0)
    model.graph.node.insert(at, node)


def through(
    value: str, op: str, *constants: np.ndarray | np.generic, **how: str
) -> Callable[[onnx.ModelProto], None]:
    """A defect that is one more node behind a value; it is called ``seeded``."""

    def seed(model: onnx.ModelProto) -> None:
        insert(model, value, helper.make_node(op, [], [], name="seeded", **how), *constants)
        if "domain" in how:
            model.opset_import.append(helper.make_opsetid(how["domain"], 1))

    return seed


SQUARE = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) / 8


def _rank_one(array: np.ndarray) -> np.ndarray:
    flat = array.reshape(len(array), -1)
    return np.outer(np.linspace(0.5, 1.5, len(flat)), flat[0]).reshape(array.shape)


def _nearly_rank_one(array: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(array.shape)
    return np.asarray(_rank_one(array) + 0.05 * np.std(array) * noise)


def one_nan(array: np.ndarray) -> np.ndarray:
    """One NaN among good numbers."""
    array.flat[0] = np.nan
    return array


def _half_zero(array: np.ndarray) -> np.ndarray:
    array[: len(array) // 2] = 0
    return array


def _explode(factor: float) -> Callable[[onnx.ModelProto], None]:
    def seed(model: onnx.ModelProto) -> None:
        for tensor in list(model.graph.initializer):
            if len(tensor.dims) == 4:
                change(model, tensor.name, lambda a: a * factor)

    return seed


def _scaled_pair(model: onnx.ModelProto) -> None:
    """The network computes the same, but the numbers between two layers are 1e6 times as large."""
    for name in ("blocks.1.conv1.weight", "blocks.1.conv1.weight_bias"):
        change(model, name, lambda a: a * 1e6)
    change(model, "blocks.1.conv2.weight", lambda a: a / 1e6)


def _through_integers(model: onnx.ModelProto) -> None:
    for kind in (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT):
        value = "getitem_15" if kind == onnx.TensorProto.INT64 else "getitem_15_cast"
        insert(model, value, helper.make_node("Cast", [], [], to=kind))


def _add_noise(model: onnx.ModelProto) -> None:
    insert(model, "image", helper.make_node("Add", [], []))
    adder = next(n for n in model.graph.node if n.op_type == "Add" and "image" in n.input)
    adder.input.append("noise")
    model.graph.node.insert(0, helper.make_node("RandomNormalLike", ["image"], ["noise"], name="seeded"))


def _train_batch_norm(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "BatchNormalization")
    node.attribute.append(helper.make_attribute("training_mode", 1))
    node.name = "seeded"


def _old_opset(model: onnx.ModelProto) -> None:
    """Opset 6 as a Caffe2 exporter wrote it, with what that opset has."""
    for node in model.graph.node:
        if node.op_type == "ReduceMean":
            node.input[:] = node.input[:1]
            del node.attribute[:]
            node.attribute.extend(
                [helper.make_attribute("axes", [2, 3]), helper.make_attribute("keepdims", 0)]
            )
        elif node.op_type == "Gemm":
            node.attribute.append(helper.make_attribute("broadcast", 1))
    model.opset_import[0].version = 6


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def seed(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return seed


RESNET, KEPT, JAX, KERAS, ENCODER = (
    "pytorch_resnet_dynamo",
    "pytorch_resnet_training",
    "jax_cnn",
    "keras_mobile",
    "pytorch_encoder_dynamo",
)

DEFECTS = (
    Defect("layer zeroed", RESNET, weights("blocks.1.conv1.weight", np.zeros_like), "weights-zero", "node_Conv_139"),
    Defect("rank-1 weights", RESNET, weights("blocks.1.conv2.weight", _rank_one), "weights-rank", "node_Conv_141"),
    Defect("constant weights", KEPT, weights("stem.0.weight", np.ones_like), "weights-rank", "node_Conv_132"),
    Defect(
        "weights close to rank 1", RESNET, weights("blocks.1.conv2.weight", _nearly_rank_one), "low-participation",
        "node_Conv_141",
    ),
    Defect("one NaN weight", RESNET, weights("head.weight", one_nan), "weights-not-finite", "head.weight"),
    Defect(
        "NaN in BatchNorm statistics", KEPT, weights("blocks.0.bn1.running_var", one_nan), "weights-not-finite",
        "blocks.0.bn1.running_var",
    ),
    Defect("exploding initial weights", RESNET, _explode(1e3), "activation-range", "node_Conv_137"),
    Defect("float32 overflow", RESNET, _explode(1e12), "not-finite", "node_Conv_139"),
    Defect("Dropout left on", RESNET, through("mean", "Dropout", np.float32(0.5), np.bool_(True)), "training-mode", "seeded"),
    Defect("BatchNorm in training mode", KEPT, _train_batch_norm, "training-mode", "seeded"),
    Defect(
        "branch closed by a zero gate", RESNET, through("getitem_15", "Mul", np.float32(0)), "dead-layers",
        "node_Conv_143",
    ),
    Defect("branch cut off by rounding", RESNET, through("getitem_15", "Round"), "dead-layers", "node_Conv_143"),
    Defect("branch cut off by integers", RESNET, _through_integers, "unreached-layers", "node_Conv_143"),
    Defect("branch scaled down to nothing", RESNET, through("getitem_15", "Mul", np.float32(1e-14)), "gradient-vanishing", "node_Conv_143"),
    Defect("weights beyond float16", RESNET, weights("blocks.1.conv1.weight", lambda a: a * 1e7), "float16-range", "blocks.1.conv1.weight", HALF),
    Defect("activations beyond float16", RESNET, _scaled_pair, "float16-range", "node_Conv_139", HALF),
    Defect("dead ReLU layer", RESNET, weights("blocks.1.conv1.weight_bias", lambda a: a - 100), "dead-layers", "node_Conv_139"),
    Defect("half of the filters zero", RESNET, weights("blocks.1.conv1.weight", _half_zero), "zero-channels", "node_Conv_139"),
    Defect("opset too old", RESNET, _old_opset, "opset-range", None),
    Defect("opset too new", RESNET, _opset(27), "opset-range", None),
    Defect("custom operator", RESNET, through("mean", "Magic", domain="com.acme"), "custom-ops", "seeded"),
    Defect("product of three", RESNET, through("mean", "Einsum", SQUARE, SQUARE, equation="ni,ij,jk->nk"), "weights-not-recognised", "seeded"),
    Defect("noise left in", JAX, _add_noise, "random-nodes", "seeded"),
    Defect("too many parameters", KERAS, lambda model: None, "parameter-count", None, "[checks.parameter-count]\nmax = 10_000"),
    Defect("too many operations", ENCODER, lambda model: None, "macs", None, "[checks.macs]\nmax = 10_000"),
    Defect("newer than the runtime", RESNET, lambda model: None, "opset-support", "node_mean", "[checks.opset-support]\nmax_opset = 17"),
    Defect("too much memory", RESNET, lambda model: None, "memory", "node_relu_1", "[checks.memory]\nmax_mb = 1\nwhole_batch = true"),
    Defect("no licence", RESNET, lambda model: None, "provenance", None, '[checks.provenance]\nrequire = ["licence"]'),
    Defect("too slow", RESNET, lambda model: None, "latency", None, "[checks.latency]\nmax_ms = 0.001\nruns = 5"),
    Defect("provider that is not there", RESNET, lambda model: None, "provider-fallback", None, '[run]\nproviders = ["NoSuchProvider"]'),
    Defect("file too large", ENCODER, lambda model: None, "file-size", None, "[checks.file-size]\nmax_mb = 0.1"),
)  # fmt: skip
