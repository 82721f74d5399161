"""Shapes that are inferred node by node are those that onnx infers for the whole model."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from builders import model, normalised, weight

from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.rewrites.infer_shapes import infer
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.rewrites.static_shapes import infer_static

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("samples/*.onnx"), *ROOT.glob("tests/forms/*.onnx")])
RUNS = runs_on(torch.device("cpu"))


def types(graph: ir.Model) -> dict[str | None, object]:
    """Element type and shape of every value."""
    values = [v for node in graph.graph.all_nodes() for v in node.outputs]
    values += [*graph.graph.inputs, *graph.graph.initializers.values()]
    return {v.name: (v.dtype, v.shape and tuple(v.shape.dims)) for v in values if v.name}


def bare(graph: ir.Model) -> ir.Model:
    """A copy without the shapes that inference gives."""
    copy = graph.clone()
    for node in copy.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    return copy


def stages(path: Path) -> list[ir.Model]:
    """The graph of a file in all its forms."""
    config = ScoreConfig.for_protocol()
    network = Network.of(load(path), config, RUNS)
    protocols = (ScoreConfig.for_protocol(name) for name in PROTOCOLS)
    return [network.exact, network.model, *(for_protocol(network, c, RUNS.see).model for c in protocols)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_form_of_every_file_gets_the_shapes_of_the_whole_model(path: Path) -> None:
    for graph in stages(path):
        own, whole = bare(graph), bare(graph)
        if infer_static(own):
            assert infer(whole, data_prop=True)
            assert types(own) == types(whole)
        else:
            assert types(own) == types(whole), "a graph that is left to onnx was changed"


def test_plain_networks_are_inferred_node_by_node() -> None:
    plain = [p for p in FILES if p.parent.name == "samples"]
    assert sum(infer_static(bare(stages(p)[-1])) for p in plain) >= len(plain) // 2


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("s = Shape(x) y = Reshape(x, s)", {}),  # the target is computed
        ("y = Unknown(x)", {}),
        ("y = MatMul(x, w)", {"w": weight(3, 2)}),  # does not fit
        ("h = MatMul(x, w) y = Add(h, b)", {"w": weight(4, 2), "b": weight(3)}),
    ],
)
def test_what_does_not_follow_node_by_node_is_left_to_onnx(text: str, weights: dict) -> None:
    graph = ir.from_proto(model(f"(float[1,4] x) => (float[1,2] y) {{ {text} }}", weights))
    graph = bare(graph)
    before = types(graph)
    assert not infer_static(graph)
    assert types(graph) == before


def test_the_same_node_with_other_data_has_another_shape() -> None:
    """What is kept is kept by the data of shapes too."""
    found = []
    for target in ("{2, 2}", "{4, 1}", "{1, 4}"):
        made = f"s = Constant<value = int64[2] {target}>()"
        text = f"(float[1,4] x) => (float[n,m] y) {{ {made} y = Reshape(x, s) }}"
        graph = normalised(model(text))
        assert infer_static(bare(graph))
        copy = bare(graph)
        infer_static(copy)
        found.append(tuple(copy.graph.outputs[0].shape.dims))
    assert found == [(2, 2), (4, 1), (1, 4)]


def test_a_resize_reads_its_scales() -> None:
    text = (
        "(float[1,2,3,4] x) => (float[1,2,a,b] y) {"
        " s = Constant<value = float[4] {1.0, 1.0, 2.0, 3.0}>() y = Resize(x, , s) }"
    )
    graph = bare(normalised(model(text)))
    assert infer_static(graph)
    assert tuple(graph.graph.outputs[0].shape.dims) == (1, 2, 6, 12)
