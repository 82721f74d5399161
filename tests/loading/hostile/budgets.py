"""Files each part of which is small and whose sum is not: rounds of nested loops, memory, lengths, names."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from intrain_onnx.errors import LimitError

from .builders import linear, model, value, write
from .cases import harmful_when_run, refused

node = helper.make_node
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL


def held(**arrays: Any) -> list[onnx.TensorProto]:
    made = {
        name: np.asarray(a, None if isinstance(a, np.ndarray | np.generic) else np.int64)
        for name, a in arrays.items()
    }
    return [numpy_helper.from_array(array, name) for name, array in made.items()]


ONE, GO = np.float32(1), np.array(True)
ENDS = [node("Add", ["x", "m"], ["y"])]


def looped(kind: str, level: int, inner: list[onnx.NodeProto], made: str) -> onnx.NodeProto:
    """A Loop or Scan over a state of the input's shape, around nodes that make ``made`` from ``s<level>``."""
    state = value(f"s{level}", [1, 4])
    if kind == "Loop":
        body = helper.make_graph(
            [node("Identity", [f"c{level}"], [f"d{level}"]), *inner],
            f"b{level}",
            [value(f"i{level}", [], INT64), value(f"c{level}", [], BOOL), state],
            [value(f"d{level}", [], BOOL), value(made, [1, 4])],
        )
        return node("Loop", ["trips", "", f"s{level + 1}"], [f"o{level}"], body=body)
    body = helper.make_graph(inner, f"b{level}", [state, value(f"e{level}", [])], [value(made, [1, 4])])
    return node("Scan", [f"s{level + 1}", "many"], [f"o{level}"], body=body, num_scan_inputs=1)


def nested(folder: Path, kinds: list[str], trips: int) -> Path:
    inner, made = [node("Mul", ["s0", "one"], ["o"])], "o"
    for level, kind in enumerate(kinds):
        inner, made = [looped(kind, level, inner, made)], f"o{level}"
    nodes = [node("Identity", ["x"], [f"s{len(kinds)}"]), *inner, node("Identity", [made], ["y"])]
    many = {"many": np.zeros(trips, np.float32)} if "Scan" in kinds else {}
    return write(folder, model(nodes, held(trips=trips, one=ONE, **many)))


@harmful_when_run
def loops_in_loops_in_loops(folder: Path) -> Path:
    return nested(folder, ["Loop"] * 3, 100_000)


@harmful_when_run
def scans_in_loops(folder: Path) -> Path:
    return nested(folder, ["Scan", "Loop", "Scan"], 10_000)


@harmful_when_run
def loops_over_layers_in_a_loop(folder: Path) -> Path:
    """The weights of the inner loop change with its counter, so it is a candidate for unrolling."""
    inner = [node("Gather", ["w", "i0"], ["v"]), node("MatMul", ["s0", "v"], ["o"])]
    nodes = [node("Identity", ["x"], ["s2"]), looped("Loop", 1, [looped("Loop", 0, inner, "o")], "o0")]
    layers = np.zeros((100_000, 4, 4), np.float32)
    return write(folder, model([*nodes, node("Identity", ["o1"], ["y"])], held(trips=100_000, w=layers)))


def grown(
    folder: Path, inner: list[onnx.NodeProto], shape: list[int | str], *, scanned: bool = False, **more: Any
) -> Path:
    """A Loop of 10,000 rounds whose state ``s``, or scan output, nodes make as ``o``; y = x + its mean."""
    state = [value("s", shape)]
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), *inner, *([node("Identity", ["s"], ["t"])] if scanned else [])],
        "body",
        [value("i", [], INT64), value("c", [], BOOL), *state],
        [value("d", [], BOOL), *([value("t", shape)] if scanned else []), value("o", shape)],
    )
    outputs = ["t_end", "all"] if scanned else ["all"]
    nodes = [
        node("Loop", ["trips", "", "x"], outputs, body=body),
        node("ReduceMean", ["all"], ["m"], keepdims=0),
        *ENDS,
    ]
    return write(folder, model(nodes, held(trips=10_000, **more), outputs=[value("y", ["a", 4])]))


@harmful_when_run
def a_state_that_doubles(folder: Path) -> Path:
    return grown(folder, [node("Concat", ["s", "s"], ["o"], axis=0)], ["n", "k"])


@harmful_when_run
def scan_outputs_without_end(folder: Path) -> Path:
    wide = [node("Tile", ["s", "repeats"], ["o"])]
    return grown(folder, wide, ["n", "k"], scanned=True, repeats=[2000, 1000])


@harmful_when_run
def a_sequence_that_grows(folder: Path) -> Path:
    body = helper.make_graph(
        [
            node("Identity", ["c"], ["d"]),
            node("Tile", ["x", "repeats"], ["wide"]),
            node("SequenceInsert", ["q", "wide"], ["r"]),
        ],
        "body",
        [
            value("i", [], INT64),
            value("c", [], BOOL),
            helper.make_tensor_sequence_value_info("q", TensorProto.FLOAT, None),
        ],
        [value("d", [], BOOL), helper.make_tensor_sequence_value_info("r", TensorProto.FLOAT, None)],
    )
    nodes = [
        node("SequenceEmpty", [], ["empty"]),
        node("Loop", ["trips", "", "empty"], ["all"], body=body),
        node("SequenceLength", ["all"], ["length"]),
        node("Cast", ["length"], ["m"], to=TensorProto.FLOAT),
        *ENDS,
    ]
    return write(folder, model(nodes, held(trips=10_000, repeats=[2000, 1000])))


@harmful_when_run
def sums_of_a_huge_constant(folder: Path) -> Path:
    nodes = [
        node("Expand", ["one", "shape"], ["e"]),
        node("CumSum", ["e", "axis"], ["c"]),
        node("ReduceMean", ["c"], ["m"], keepdims=0),
        *ENDS,
    ]
    return write(folder, model(nodes, held(one=ONE, shape=[300_000_000], axis=0)))


def alive(folder: Path, count: int, wide: int) -> Path:
    """Large values that depend on the input and are all read in the end."""
    names = ["e", *(f"v{i}" for i in range(count))]
    nodes = [node("Tile", ["x", "repeats"], ["e"])]
    nodes += [node("CumSum", [a, "axis"], [b]) for a, b in pairwise(names)]
    nodes += [node("Sum", names, ["sum"]), node("ReduceMean", ["sum"], ["m"], keepdims=0), *ENDS]
    return write(folder, model(nodes, held(repeats=[1, wide], axis=1)))


@harmful_when_run
def sums_that_are_all_alive(folder: Path) -> Path:
    return alive(folder, 400, 10_000_000)


@harmful_when_run
def a_sequence_of_a_hundred_million(folder: Path) -> Path:
    nodes = [
        node("Tile", ["x", "repeats"], ["e"]),
        node("SplitToSequence", ["e"], ["all"], axis=1),
        node("SequenceLength", ["all"], ["length"]),
        node("Cast", ["length"], ["m"], to=TensorProto.FLOAT),
        *ENDS,
    ]
    return write(folder, model(nodes, held(repeats=[1, 25_000_000])))


@harmful_when_run
def many_filled_weights(folder: Path) -> Path:
    """Each of 400 tensors is moderate; folded, they take 54 GB."""
    nodes = [node("ConstantOfShape", ["shape"], [f"w{i}"]) for i in range(400)]
    names = ["x", *(f"v{i}" for i in range(399)), "y"]
    nodes += [node("Gemm", [a, f"w{i}"], [b]) for i, (a, b) in enumerate(pairwise(names))]
    return write(folder, model(nodes, held(shape=[5800, 5800]), outputs=[value("y", ["a", "b"])]))


def sized_by(folder: Path, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]) -> Path:
    """x is expanded to the length of the integer vector ``v``: onnx looks for its values."""
    more = [node("Cast", ["v"], ["f"], to=TensorProto.FLOAT), node("ReduceSum", ["f"], ["m"], keepdims=0)]
    reshaped = [
        node("Size", ["v"], ["n"]),
        node("Unsqueeze", ["n", "zero"], ["k"]),
        node("Expand", ["x", "k"], ["z"]),
    ]
    return write(folder, model([*nodes, *more, *ENDS, *reshaped], [*tensors, *held(zero=[0])]))


@harmful_when_run
def sizes_that_double(folder: Path) -> Path:
    names = [*(f"v{i}" for i in range(45)), "v"]
    return sized_by(folder, [node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)], held(v0=[1]))


@harmful_when_run
def sizes_gathered_over_and_over(folder: Path) -> Path:
    nodes = [node("Concat", ["i"] * 2000, ["j"], axis=0), node("Concat", ["j"] * 2000, ["k0"], axis=0)]
    nodes += [node("Gather", ["i", "k0"], [f"g{i}"]) for i in range(50)]
    return sized_by(
        folder, [*nodes, node("Concat", [f"g{i}" for i in range(50)], ["v"], axis=0)], held(i=[0])
    )


@harmful_when_run
def sizes_of_a_range(folder: Path) -> Path:
    return sized_by(
        folder, [node("Range", ["zero0", "end", "step"], ["v"])], held(zero0=0, end=10**12, step=1)
    )


@harmful_when_run
def sizes_of_a_computed_range(folder: Path) -> Path:
    nodes = [node("Mul", ["million", "million"], ["end"]), node("Range", ["zero0", "end", "step"], ["v"])]
    return sized_by(folder, nodes, held(zero0=0, million=10**6, step=1))


MAKERS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "conv_of_huge_padding": (
        [node("Conv", ["p", "w"], ["h"], pads=[10**6] * 4)],
        {"w": np.ones((1, 1, 1, 1), np.float32)},
    ),
    "transposed_conv_of_huge_stride": (
        [node("ConvTranspose", ["p", "w"], ["h"], strides=[10**6, 10**6])],
        {"w": np.ones((1, 1, 2, 2), np.float32)},
    ),
    "pool_of_huge_padding": (
        [
            node(
                "AveragePool",
                ["p"],
                ["h"],
                kernel_shape=[2 * 10**6] * 2,
                pads=[10**6] * 4,
                count_include_pad=1,
            )
        ],
        {},
    ),
    "dft_of_a_trillion": (
        [node("Unsqueeze", ["x", "two"], ["z"]), node("DFT", ["z", "n"], ["h"], axis=1)],
        {"two": [2], "n": 10**12},
    ),
    "window_of_a_trillion": ([node("HannWindow", ["n"], ["h"])], {"n": 10**12}),
    "mel_matrix_of_a_trillion": (
        [node("MelWeightMatrix", ["n", "n", "n", "low", "high"], ["h"])],
        {"n": 10**6, "low": np.float32(0), "high": np.float32(100)},
    ),
    "random_numbers_of_terabytes": ([node("RandomNormal", [], ["h"], shape=[10**6, 10**6])], {}),
    "eye_of_terabytes": (
        [node("Tile", ["x", "n"], ["z"]), node("EyeLike", ["z"], ["h"], dtype=1)],
        {"n": [10**6, 10**6]},
    ),
    "upsampled_a_millionfold": (
        [node("Resize", ["p", "", "scales"], ["h"], mode="linear")],
        {"scales": np.array([1, 1, 1e6, 1e6], np.float32)},
    ),
    "blocks_back_to_terabytes": (
        [node("MaxUnpool", ["p", "i", "n"], ["h"], kernel_shape=[2, 2])],
        {"i": np.zeros((1, 1, 2, 2), np.int64), "n": [1, 1, 10**6, 10**6]},
    ),
    "outer_products": (
        [
            node("Tile", ["x", "n"], ["z"]),
            node("Transpose", ["z"], ["t"], perm=[1, 0]),
            node("MatMul", ["t", "z"], ["h"]),
        ],
        {"n": [1, 10**6]},
    ),
    "broadcast_both_ways": (
        [
            node("Tile", ["x", "n"], ["z"]),
            node("Transpose", ["z"], ["t"], perm=[1, 0]),
            node("Add", ["t", "z"], ["h"]),
        ],
        {"n": [1, 10**6]},
    ),
    "every_pair_of_letters": (
        [node("Tile", ["x", "n"], ["z"]), node("Einsum", ["z", "z"], ["h"], equation="ab,cd->abcd")],
        {"n": [1, 10**6]},
    ),
    "joined_over_and_over": (
        [node("Concat", [a] * 1000, [b], axis=0) for a, b in pairwise(["x", "j0", "j1", "j2", "h"])],
        {},
    ),
    "gathered_over_and_over": (
        [
            node("Gather", ["x", "i"], ["g"]),
            *(node("Gather", [a, "i"], [b]) for a, b in pairwise(["g", "g1", "g2", "h"])),
        ],
        {"i": np.zeros((1000, 10), np.int64)},
    ),
}
"""Nodes that make a huge h out of the input x [1, 4], or p, which is x as an image of 2 x 2."""


def _making(name: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        nodes, arrays = MAKERS[name]
        image = node("Reshape", ["x", "image"], ["p"])
        mean = node("ReduceMean", ["h"], ["m"], keepdims=0)
        tensors = held(image=[1, 1, 2, 2], **arrays)
        return write(folder, model([image, *nodes, mean, *ENDS], tensors))

    build.__name__ = name
    return build


for _name in MAKERS:
    harmful_when_run(_making(_name))


@harmful_when_run
def names_that_meet(folder: Path) -> Path:
    names = [
        "a.b",
        "a/b",
        "a.b.c",
        *(f"a{'_' * i}" for i in range(1000)),
        *(f"a{'!' * i}" for i in range(1, 1000)),
    ]
    steps = [node("Add", [f"s{i}", name], [f"s{i + 1}"]) for i, name in enumerate(names)]
    nodes = [node("Identity", ["x"], ["s0"]), *steps, node("Identity", [f"s{len(names)}"], ["y"])]
    return write(
        folder,
        model(nodes, [numpy_helper.from_array(np.array(i, np.float32), n) for i, n in enumerate(names)]),
    )


@refused(LimitError, "1,000,000,000,000 bytes of external data, over the limit hashed_bytes")
def a_sparse_file_of_a_terabyte(folder: Path) -> Path:
    return sparse(folder, 10**12)


def sparse(folder: Path, size: int) -> Path:
    tensor = TensorProto(name="w", dims=[4, 4], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (folder / "w.bin").touch()
    os.truncate(folder / "w.bin", size)
    return write(folder, linear(tensor))
