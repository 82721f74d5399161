"""What is left out where it would change nothing: a copy, an inference, a sort. The result is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from builders import model

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import Source, load
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.network.subgraphs import every_graph, every_node
from intrain_onnx.rewrites import network as networks
from intrain_onnx.rewrites import normalise as normalising
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol import sequence
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork, for_protocol

SAMPLES = Path(__file__).parents[2] / "samples"
FILES = sorted(path.stem for path in SAMPLES.glob("*.onnx"))


CONFIG = ScoreConfig.for_protocol(batch=4)
WEIGHTS = {"w": np.eye(3, 4, dtype=np.float32)}


def of(source: Source) -> Network:
    return Network.of(load(source), CONFIG, runs_on(torch.device("cpu")))


def probed(network: Network) -> ProtocolNetwork:
    return for_protocol(network, CONFIG)


def text(made: ir.Model) -> str:
    """Nodes, and the type and shape of every value."""
    values = (v for node in every_node(made.graph) for v in (*node.inputs, *node.outputs) if v is not None)
    return f"{[*made.graph]}\n{[(v.name, v.type, v.shape) for v in values]}"


def never(*_: object) -> bool:
    return False


@pytest.mark.parametrize("name", FILES)
def test_the_graphs_are_those_of_copies_sorted_and_inferred_again(name: str, monkeypatch: pytest.MonkeyPatch):
    ours = of(SAMPLES / f"{name}.onnx")
    our_text, our_probed = text(ours.model), probed(ours)
    monkeypatch.setattr(networks, "_is_float_form", never)
    monkeypatch.setattr(networks, "are_inferred", never)
    monkeypatch.setattr(normalising, "_is_in_order", never)
    monkeypatch.setattr(sequence, "are_inferred", never)
    theirs = of(SAMPLES / f"{name}.onnx")
    assert theirs.model is not theirs.exact
    assert our_text == text(theirs.model)
    assert ours.constants == theirs.constants
    assert ours.layers == theirs.layers
    their_probed = probed(theirs)
    assert text(our_probed.model) == text(their_probed.model)
    assert our_probed.layers == their_probed.layers
    assert our_text == text(ours.model), "a protocol leaves the network as it is"


@pytest.mark.parametrize(
    ("body", "copied"),
    [
        ("y = MatMul(x, w)", False),
        ("h = Sub(x, x) y = MatMul(h, w)", False),
        ("p = Transpose<perm=[1,0]>(x) h = Relu(p) y = MatMul(h, w)", False),
        ("p = Transpose<perm=[1,0]>(x) r = Relu(p) h = Transpose<perm=[1,0]>(r) y = MatMul(h, w)", True),
        (
            "e = Exp(x) a = Constant<value_ints=[-1]>() s = ReduceSum(e, a) h = Div(e, s) y = MatMul(h, w)",
            True,
        ),
        ("c = Concat<axis=0>(x, x) d = Concat<axis=0>(c, x) y = MatMul(d, w)", True),
        ("c = Concat<axis=0>(x) d = Concat<axis=0>(c, x) y = MatMul(d, w)", False),
        ("n = Neg(w) y = MatMul(x, n)", True),
    ],
)
def test_the_graph_is_copied_where_something_is_to_be_rewritten(body: str, copied: bool):
    network = of(model(f"(float[3,3] x) => (float[N,4] y) {{ {body} }}", WEIGHTS))
    assert (network.model is not network.exact) == copied


def test_shapes_are_inferred_again_only_after_changes(monkeypatch: pytest.MonkeyPatch):
    network = of(SAMPLES / "pytorch_resnet_torchscript.onnx")
    inferred = []
    monkeypatch.setattr(sequence, "infer_shapes", lambda made, single: inferred.append(made))
    config = ScoreConfig.for_protocol("checkpoint", batch=4)
    for_protocol(network, config)
    assert inferred == []
    for_protocol(network, CONFIG)  # gives each layer a bias
    assert len(inferred) == 1


def test_what_is_not_in_order_is_sorted():
    proto = model("(float[3,3] x) => (float[3,4] y) { h = Relu(x) y = MatMul(h, w) }", WEIGHTS)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    assert [node.op_type for node in of(proto).exact.graph] == ["Relu", "MatMul"]


def test_subgraphs_are_found():
    made = ir.from_proto(
        model(
            "(bool c, float[3] x) => (float[3] y) { y = If(c) <"
            "then_branch = a () => (float[3] z) { z = If(c) <"
            "then_branch = p () => (float[3] u) { u = Abs(x) }, "
            "else_branch = q () => (float[3] v) { v = Neg(x) }> }, "
            "else_branch = b () => (float[3] t) { t = Relu(x) }> }"
        )
    )
    assert [*every_graph(made.graph)] == [*made.graphs()]
    assert [*every_node(made.graph)] == [*made.graph.all_nodes()]
