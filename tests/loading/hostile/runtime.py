"""Sound files that do harm when they are run: they load, and whoever computes must stop them."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .builders import linear, model, value, write
from .cases import harmful_when_run


def _of_shape(folder: Path, dims: list[int], *nodes: onnx.NodeProto) -> Path:
    shape = numpy_helper.from_array(np.array(dims, np.int64), "shape")
    end = helper.make_node("Add", ["x", "big"], ["y"])
    return write(folder, model([*nodes, end], [shape]))


@harmful_when_run
def constant_of_shape_of_terabytes(folder: Path) -> Path:
    return _of_shape(folder, [10**6, 10**6, 4], helper.make_node("ConstantOfShape", ["shape"], ["big"]))


@harmful_when_run
def expand_to_terabytes(folder: Path) -> Path:
    return _of_shape(folder, [10**6, 10**6, 4], helper.make_node("Expand", ["x", "shape"], ["big"]))


@harmful_when_run
def tile_to_terabytes(folder: Path) -> Path:
    return _of_shape(folder, [10**6, 10**6], helper.make_node("Tile", ["x", "shape"], ["big"]))


@harmful_when_run
def range_to_terabytes(folder: Path) -> Path:
    ends = [numpy_helper.from_array(np.array(n, np.float32), s) for n, s in ((0, "a"), (1e12, "b"), (1, "c"))]
    nodes = [
        helper.make_node("Range", ["a", "b", "c"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"]),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    return write(folder, model(nodes, ends))


@harmful_when_run
def resize_a_millionfold(folder: Path) -> Path:
    scales = numpy_helper.from_array(np.array([1, 1, 1e6, 1e6], np.float32), "scales")
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"])
    shape: list[int | str] = [1, 1, 8, 8]
    return write(
        folder, model([node], [scales], inputs=[value("x", shape)], outputs=[value("y", ["a", 1, "b", "c"])])
    )


@harmful_when_run
def pad_to_terabytes(folder: Path) -> Path:
    pads = numpy_helper.from_array(np.array([0, 0, 10**6, 10**6], np.int64), "pads")
    return write(
        folder,
        model([helper.make_node("Pad", ["x", "pads"], ["y"])], [pads], outputs=[value("y", ["a", "b"])]),
    )


@harmful_when_run
def one_hot_to_terabytes(folder: Path) -> Path:
    depth = numpy_helper.from_array(np.array(10**12, np.int64), "depth")
    values = numpy_helper.from_array(np.array([0, 1], np.float32), "values")
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["i", "depth", "values"], ["h"]),
        helper.make_node("ReduceMean", ["h"], ["m"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["x", "m"], ["y"]),
    ]
    return write(folder, model(nodes, [depth, values]))


@harmful_when_run
def outer_product_of_terabytes(folder: Path) -> Path:
    nodes, last = [], "x"
    for i in range(5):
        nodes.append(helper.make_node("Concat", [last] * 100, [f"v{i}"], axis=1))
        last = f"v{i}"
    nodes.append(helper.make_node("Transpose", [last], ["t"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["t", last], ["y"]))
    return write(folder, model(nodes, outputs=[value("y", ["a", "b"])]))


@harmful_when_run
def input_of_terabytes(folder: Path) -> Path:
    inputs = [value("x", [10**6, 10**6])]
    return write(
        folder,
        model([helper.make_node("Relu", ["x"], ["y"])], inputs=inputs, outputs=[value("y", ["a", "b"])]),
    )


def _loop(folder: Path, trips: int, cond: str = "c") -> Path:
    body = helper.make_graph(
        [helper.make_node("Identity", ["ci"], ["co"]), helper.make_node("Mul", ["s", "one"], ["so"])],
        "body",
        [value("i", [], TensorProto.INT64), value("ci", [], TensorProto.BOOL), value("s")],
        [value("co", [], TensorProto.BOOL), value("so")],
    )
    initializers = [
        numpy_helper.from_array(np.array(trips, np.int64), "trips"),
        numpy_helper.from_array(np.array(True), "c"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    count = "trips" if trips else ""
    return write(
        folder, model([helper.make_node("Loop", [count, cond, "x"], ["y"], body=body)], initializers)
    )


@harmful_when_run
def loop_of_a_quadrillion_trips(folder: Path) -> Path:
    return _loop(folder, 10**15)


@harmful_when_run
def loop_without_end(folder: Path) -> Path:
    return _loop(folder, 0)


@harmful_when_run
def gather_chain_of_100_000(folder: Path) -> Path:
    index = numpy_helper.from_array(np.array([0], np.int64), "i")
    names = ["x", *(f"v{i}" for i in range(99_999)), "y"]
    nodes = [helper.make_node("Gather", [a, "i"], [b]) for a, b in pairwise(names)]
    return write(folder, model(nodes, [index]))


@harmful_when_run
def weights_shared_by_many_tensors(folder: Path) -> Path:
    """One sparse file of 1 GB that 2,000 tensors name: 2 TB once each is copied."""
    tensors = []
    for i in range(2000):
        tensor = TensorProto(name=f"w{i}", dims=[4, 2**26], data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        tensors.append(tensor)
    (folder / "w.bin").touch()
    os.truncate(folder / "w.bin", 2**30)
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"v{i}"]) for i in range(2000)]
    nodes.append(helper.make_node("Sum", [f"v{i}" for i in range(2000)], ["y"]))
    return write(folder, model(nodes, tensors, outputs=[value("y", ["a", "b"])]))


@harmful_when_run
def einsum_over_many_letters(folder: Path) -> Path:
    node = helper.make_node(
        "Einsum", ["x"] * 10, ["y"], equation="ab,cd,ef,gh,ij,kl,mn,op,qr,st->abcdefghijklmnopqrst"
    )
    return write(folder, model([node], outputs=[value("y", [1, 4] * 10)]))


@harmful_when_run
def unknown_domain(folder: Path) -> Path:
    return write(
        folder, model([helper.make_node("Magic", ["x"], ["y"], domain="com.acme")], domains=("com.acme",))
    )


@harmful_when_run
def ep_context(folder: Path) -> Path:
    node = helper.make_node(
        "EPContext",
        ["x"],
        ["y"],
        domain="com.microsoft",
        embed_mode=0,
        ep_cache_context="../../etc/passwd",
        source="QNN",
    )
    return write(folder, model([node], domains=("com.microsoft",)))


@harmful_when_run
def tree_ensemble(folder: Path) -> Path:
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_featureids=[0],
        nodes_modes=["LEAF"],
        nodes_nodeids=[0],
        nodes_treeids=[0],
        nodes_values=[0.0],
        nodes_truenodeids=[0],
        nodes_falsenodeids=[0],
        target_ids=[0],
        target_nodeids=[0],
        target_treeids=[0],
        target_weights=[1.0],
    )
    return write(folder, model([node], domains=("ai.onnx.ml",), outputs=[value("y", [1, 1])]))


@harmful_when_run
def string_tensors(folder: Path) -> Path:
    nodes = [helper.make_node("StringNormalizer", ["x"], ["y"])]
    inputs = [value("x", [1], TensorProto.STRING)]
    return write(folder, model(nodes, inputs=inputs, outputs=[value("y", [1], TensorProto.STRING)]))


def _filled(folder: Path, fill: float, dtype: type[np.generic] = np.float32) -> Path:
    proto = linear(numpy_helper.from_array(np.full((4, 4), fill, dtype), "w"))
    if dtype is np.float16:
        for info in (*proto.graph.input, *proto.graph.output):
            info.type.tensor_type.elem_type = TensorProto.FLOAT16
    return write(folder, proto)


@harmful_when_run
def weights_not_a_number(folder: Path) -> Path:
    return _filled(folder, float("nan"))


@harmful_when_run
def weights_infinite(folder: Path) -> Path:
    return _filled(folder, float("inf"))


@harmful_when_run
def weights_zero(folder: Path) -> Path:
    return _filled(folder, 0.0)


@harmful_when_run
def weights_denormal(folder: Path) -> Path:
    return _filled(folder, 1e-42)


@harmful_when_run
def weights_that_overflow_half(folder: Path) -> Path:
    return _filled(folder, 65504.0, np.float16)
