"""Modules that compile when they are called: the same function, code and pickle as torch's own class."""

from __future__ import annotations

import copy
import io
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx import parser
from torch import fx

import intrain_onnx
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.runtime.convert import convert
from intrain_onnx.runtime.fuse import fuse
from intrain_onnx.runtime.lazy_module import LazyModule, plain

HEAD = '<ir_version: 9, opset_import: ["": 17]>'
STRAIGHT = f"{HEAD} g (float[2] x) => (float[2] y) <float[2] w = {{3, 4}}> {{ y = Mul (x, w) }}"
BRANCHES = f"""{HEAD} g (float[2] x, bool c) => (float[2] y) <float[2] w = {{3, 4}}> {{
  h = Mul (x, w)
  y = If (c) <
    then_branch = a () => (float[2] p) {{ p = Neg (h) }},
    else_branch = b () => (float[2] q) {{ q = Abs (h) }}
  >
}}"""
X, YES = torch.tensor([1.0, -1.0]), torch.tensor(True)


def proto(text: str) -> onnx.ModelProto:
    return parser.parse_model(text)


def converted(text: str) -> fx.GraphModule:
    model = ir.from_proto(proto(text))
    normalise(model)
    return convert(model, ["w"])


def branched(module: Any) -> list[float]:
    found: list[float] = module(X, YES).tolist()
    return found


def classes(module: fx.GraphModule) -> set[type]:
    return {type(m).__mro__[1] for m in module.modules() if isinstance(m, fx.GraphModule)}


def test_it_compiles_when_it_is_called_and_again_when_its_graph_changes():
    module = converted(BRANCHES)
    assert not hasattr(module, "_code")
    assert branched(module) == [-3, 4]
    assert hasattr(module, "_code")
    for node in module.graph.nodes:
        if node.meta.get("onnx_op") == "Mul":
            node.target = torch.sub
    module.recompile()
    assert branched(module) == [2, 5]
    assert branched(module) == [2, 5]


def test_it_has_code_before_it_is_called():
    assert "return" in converted(STRAIGHT).code


def test_copies_and_pickles_compute_the_same():
    assert branched(copy.deepcopy(converted(BRANCHES))) == [-3, 4]
    file = io.BytesIO()
    torch.save(converted(STRAIGHT), file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert again(X).tolist() == [3, -4]
    assert LazyModule not in type(again).__mro__


def test_a_plain_module_is_torchs_own_with_the_same_tensors():
    module = converted(BRANCHES)
    made = plain(module)
    assert classes(module) == {LazyModule}
    assert classes(made) == {fx.GraphModule}
    assert branched(made) == branched(module)
    assert dict(made.named_parameters())["w"] is dict(module.named_parameters())["w"]
    assert made.meta == module.meta


def test_to_torch_gives_a_plain_module_that_can_be_copied():
    module = copy.deepcopy(intrain_onnx.to_torch(proto(BRANCHES)))
    assert classes(module) == {fx.GraphModule}
    assert branched(module) == [-3, 4]


def test_what_has_nothing_to_fuse_is_not_copied():
    module = converted(STRAIGHT)
    assert fuse(module, ()) is module
    foldable = converted(STRAIGHT.replace("Mul (x, w)", "Mul (x, w2)").replace("{ y", "{ w2 = Neg (w) y"))
    assert fuse(foldable, ()) is foldable  # it is trained
    identity = converted(STRAIGHT.replace("Mul (x, w)", "Mul (z, w)").replace("{ y", "{ z = Identity (x) y"))
    assert fuse(identity, ()) is not identity
    assert fuse(identity, ("z",)) is identity
