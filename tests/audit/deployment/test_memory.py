"""Peak memory: against brute force over the order of the nodes, closed forms, and what onnxruntime takes."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from builders import model, weight
from models import require

from audit.conftest import ROOT
from intrain_onnx.audit.deployment.memory import memory_facts, peak
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.network.footprint import size_of
from intrain_onnx.pipeline import network_of
from intrain_onnx.rewrites.network import Network


def stored(value: ir.Value) -> int:
    return size_of(value, stored=True)


def network(source: onnx.ModelProto | Path) -> Network:
    return network_of(load(source), ScoreConfig.for_protocol("checkpoint"), keyed=True)


def brute_force(proto: onnx.ModelProto, bytes_of: dict[str, int]) -> tuple[int, list[str]]:
    """For each node, everything that was made by then and is read then or later; the worst nodes.

    On protobuf and names alone: nothing of the liveness pass is used.
    """
    nodes = list(proto.graph.node)
    memory: dict[str, str] = {}
    for node in nodes:
        shares = node.op_type in ("Reshape", "Identity", "Flatten", "Squeeze", "Unsqueeze")
        for name in node.output:
            memory[name] = memory.get(node.input[0], node.input[0]) if shares else name
    given = [v.name for v in proto.graph.input]
    results = [memory.get(v.name, v.name) for v in proto.graph.output]
    sizes = []
    for now in range(len(nodes)):
        made = {memory[name] for node in nodes[: now + 1] for name in node.output} - set(given)
        read = {memory.get(n, n) for node in nodes[now:] for n in node.input}
        fresh = {memory[name] for name in nodes[now].output}
        alive = {*given, *(made & {*read, *results, *fresh})}
        sizes.append(sum(bytes_of[name] for name in alive))
    return max(sizes), [nodes[i].name for i, size in enumerate(sizes) if size == max(sizes)]


def random_graph(seed: int) -> onnx.ModelProto:
    """Unary and binary operators, reshapes, values that are read late, often or never, several outputs."""
    chance = random.Random(seed)
    values, lines = {"x": 4}, []
    for number in range(chance.randint(2, 14)):
        name, (read, width) = f"v{number}", chance.choice(list(values.items()))
        kind = chance.randrange(6)
        if kind == 0:
            lines.append(f"[n{number}] {name} = Identity({read})")
        elif kind == 1:
            lines.append(f"[n{number}] {name} = Reshape({read}, flat)")
        elif kind == 2:
            lines.append(f"[n{number}] {name} = Concat<axis = 0>({read}, {read})")
            width *= 2
        elif kind == 3:
            equal = chance.choice([n for n, w in values.items() if w == width])
            lines.append(f"[n{number}] {name} = Add({read}, {equal})")
        else:
            lines.append(f"[n{number}] {name} = Relu({read})")
        values[name] = width
    ends = [n for n in values if n != "x"]
    outputs = sorted(chance.sample(ends, min(len(ends), chance.randint(1, 2))))
    told = ", ".join(f"float[{values[n]}] {n}" for n in outputs)
    proto = model(f"(float[4] x) => ({told}) {{ {' '.join(lines)} }}", {"flat": np.array([-1])})
    sizes = {n: w * 4 for n, w in values.items()} | {"flat": 0}
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [w])
        for n, w in values.items()
        if n not in (*outputs, "x")
    )
    assert set(sizes) >= {n for node in proto.graph.node for n in node.output}
    return proto


@pytest.mark.parametrize("seed", range(300))
def test_the_peak_is_that_of_brute_force(seed: int):
    proto = random_graph(seed)
    graph = ir.from_proto(proto).graph
    values = [*graph.inputs, *(v for node in graph for v in node.outputs)]
    sizes = {v.name or "": stored(v) for v in values} | {"flat": 0}
    found = peak(graph, stored)
    most, nodes = brute_force(proto, sizes)
    assert found.bytes == most
    assert found.node == nodes[0]


def test_a_residual_is_held_until_it_is_added():
    proto = model(
        """(float[1,64] x) => (float[1,64] y) { a = Relu(x) [wide] b = MatMul(a, w) c = Relu(b)
        d = MatMul(c, v) y = Add(a, d) }""",
        {"w": weight(64, 256), "v": weight(256, 64)},
    )
    found = memory_facts(network(proto), 3)
    assert found.sample.bytes == 4 * (64 + 64 + 256 + 256)  # x, a, b and c
    assert found.weights == 2 * 4 * 64 * 256
    assert (found.single, found.samples, found.unknown) == (1, 1, 0)  # the file fixes one sample
    assert found.sample == found.batch


def test_a_batch_takes_as_much_more():
    proto = model("(float[N,64] x) => (float[N,8] y) { a = Relu(x) y = MatMul(a, w) }", {"w": weight(64, 8)})
    found = memory_facts(network(proto), 5)
    assert found.sample.bytes == 4 * (64 + 64 + 8)
    assert found.batch.bytes == 5 * found.sample.bytes
    assert found.samples == 5


def test_halves_take_half():
    text = "({0}[N,64] x) => ({0}[N,64] y) {{ a = Relu(x) y = Tanh(a) }}"
    wide, half = (memory_facts(network(model(text.format(t))), 1) for t in ("float", "float16"))
    assert half.sample.bytes * 2 == wide.sample.bytes == 4 * 64 * 3


def test_what_a_branch_holds_comes_on_top_of_what_is_around():
    proto = model(
        """(float[1,64] x, bool[1] c) => (float[1,64] y) { a = Relu(x) s = Squeeze(c) z = If(s) <
        then_branch = th () => (float[1,64] p) {
        e = Tanh(a) g = MatMul(e, w) [deep] h = Relu(g) p = MatMul(h, v) },
        else_branch = el () => (float[1,64] q) { q = Relu(a) }> y = Add(z, a) }""",
        {"w": weight(64, 256), "v": weight(256, 64)},
    )
    model_ = ir.from_proto(proto)
    sizes = {
        "x": 256,
        "c": 1,
        "a": 256,
        "z": 256,
        "y": 256,
        "e": 256,
        "g": 1024,
        "h": 1024,
        "p": 256,
        "q": 256,
    }
    found = peak(model_.graph, lambda v: sizes.get(v.name or "", 0))
    assert found.bytes == 256 + 1 + 256 + 256 + 1024 + 1024  # x, c, a, z; g and h
    assert found.node == "deep"


MEASURE = """
import re, sys
import numpy as np
import onnxruntime as rt
file, shape, optimised = sys.argv[1], [int(d) for d in sys.argv[2].split("x")], sys.argv[3] == "1"
options = rt.SessionOptions()
options.intra_op_num_threads = 1
options.enable_cpu_mem_arena = options.enable_mem_pattern = False
if not optimised:
    options.graph_optimization_level = rt.GraphOptimizationLevel.ORT_DISABLE_ALL
session = rt.InferenceSession(file, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
status = lambda key: int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
session.run(None, {name: np.zeros([1, *shape[1:]], np.float32)})
fed = np.random.default_rng(0).random(shape, np.float32)
open("/proc/self/clear_refs", "w").write("5")  # from here on the peak counts
before = status("VmRSS")
session.run(None, {name: fed})
print("PEAK", status("VmHWM") - before + fed.nbytes)
"""


APART = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}
"""Every value has pages of its own, which go back when it is freed: what is held is what is alive."""

PLACES = {file.stem: file for file in (ROOT / "samples").glob("*.onnx")}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel counts no peaks")
@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize(
    "name", ["pytorch_resnet_dynamo", "keras_mobile", "resnet18_dynamo", "rapidocr_det", "keras_mobilenetv2"]
)
def test_onnxruntime_takes_about_as_much(name: str, optimised: bool):
    """From 0.6, where it computes in place, to 1.3, for what convolutions unfold."""
    file = PLACES[name] if name in PLACES else require(name)
    net = network(file)
    (spec,) = net.single.inputs
    shape = [64 if axis == spec.batch_axis else size for axis, size in enumerate(spec.shape)]
    command = [sys.executable, "-c", MEASURE, str(file), "x".join(map(str, shape)), str(int(optimised))]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300, env={**os.environ, **APART}
    ).stdout
    match = re.search(r"PEAK (\d+)", told)
    assert match
    expected = memory_facts(net, 64).batch.bytes
    assert 0.6 < int(match[1]) / expected < 1.3
