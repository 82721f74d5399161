"""Functions that call themselves, are defined twice, or expand to more than a machine holds."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from intrain_onnx.errors import LimitError, ModelFileError

from .builders import model, write
from .cases import refused


def _function(name: str, calls: list[str]) -> onnx.FunctionProto:
    nodes, last = [], "a"
    for index, callee in enumerate(calls):
        out = "r" if index == len(calls) - 1 else f"t{index}"
        nodes.append(helper.make_node(callee, [last], [out], domain="" if callee == "Relu" else "d"))
        last = out
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("d", 1)]
    return helper.make_function("d", name, ["a"], ["r"], nodes, opsets)


def _calling(top: str, functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    return model([helper.make_node(top, ["x"], ["y"], domain="d")], functions=functions, domains=("d",))


@refused(ModelFileError, "a function calls itself: 'd::F' calls 'd::F'")
def recursion(folder: Path) -> Path:
    return write(folder, _calling("F", [_function("F", ["F"])]))


@refused(ModelFileError, "a function calls itself")
def mutual_recursion(folder: Path) -> Path:
    return write(folder, _calling("F", [_function("F", ["G"]), _function("G", ["F"])]))


def doubling(levels: int) -> onnx.ModelProto:
    """A model of a few lines that expands to ``2 ** levels`` nodes."""
    functions = [_function("F0", ["Relu"])]
    functions += [_function(f"F{i}", [f"F{i - 1}"] * 2) for i in range(1, levels + 1)]
    return _calling(f"F{levels}", functions)


@refused(LimitError, "536,870,912 nodes once its functions are expanded")
def functions_that_double(folder: Path) -> Path:
    return write(folder, doubling(29))


@refused(LimitError, "over the limit function_depth=100")
def functions_in_a_chain(folder: Path) -> Path:
    functions = [_function("F0", ["Relu"]), *(_function(f"F{i}", [f"F{i - 1}"]) for i in range(1, 5000))]
    return write(folder, _calling("F4999", functions))


@refused(ModelFileError, "is defined twice")
def function_twice(folder: Path) -> Path:
    return write(folder, _calling("F", [_function("F", ["Relu"]), _function("F", ["Relu"])]))


@refused(ModelFileError, "2 inputs and 1 outputs for a function of 1 and 1")
def too_many_arguments(folder: Path) -> Path:
    proto = _calling("F", [_function("F", ["Relu"])])
    proto.graph.node[0].input.append("x")
    return write(folder, proto)
