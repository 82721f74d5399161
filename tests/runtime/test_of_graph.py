"""What is remembered of a graph goes with it, and is made anew for another one."""

from __future__ import annotations

import copy
import gc
import weakref

import torch
from builders import model, weight
from torch import fx

from intrain_onnx import pipeline
from intrain_onnx.runtime import live_memory
from intrain_onnx.runtime.interpreter import run
from intrain_onnx.runtime.of_graph import once


def linear() -> fx.GraphModule:
    return pipeline.to_torch(
        model("(float[2, 3] x) => (float[2, 4] y) { y = MatMul(x, w) }", {"w": weight(3, 4)})
    )


def test_a_module_that_was_run_is_freed():
    module = linear()
    run(module, [torch.zeros(2, 3)])
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None


def test_it_is_made_again_when_nodes_were_added():
    module, made = linear(), []
    count = once(lambda module: made.append(module) or len(module.graph.nodes))
    before = count(module)
    assert count(module) == before
    (end,) = (n for n in module.graph.nodes if n.op == "output")
    with module.graph.inserting_before(end):
        module.graph.call_function(torch.neg, tuple(end.all_input_nodes))
    assert count(module) == before + 1
    assert len(made) == 2


def test_a_copy_has_its_own_plan():
    module = linear()
    run(module, [torch.zeros(2, 3)])
    copied = copy.deepcopy(module)
    assert {n for piece in live_memory.plan(copied).pieces for n in piece} == set(copied.graph.nodes)
    assert torch.equal(run(copied, [torch.ones(2, 3)])[0][0], run(module, [torch.ones(2, 3)])[0][0])


def test_last_uses_are_those_of_torch():
    module = linear()
    theirs = fx.Interpreter(module).user_to_last_uses
    assert {n: set(s) for n, s in live_memory.plan(module).last_uses.items()} == {
        n: set(s) for n, s in theirs.items()
    }
