"""What publications say of their spaces: parameters, operations, networks, and which were left out."""

from __future__ import annotations

import contextlib
import itertools
import json
import math

import onnx
import pytest

from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.errors import SettingsError

from .examples import EXAMPLES
from .graphs import parameters

INCEPTION = (
    "0111010" "0000001" "0000001" "0000100" "0000001" "0000001" "0000000"
    " input,conv1x1-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,maxpool3x3,output"
)  # fmt: skip
PUBLISHED = [
    # The example cell of NAS-Bench-101; an answer of the interface of NATS-Bench; MobileNetV2; DeiT-Ti.
    ("nasbench101", INCEPTION, 32, 10, 2_694_282),
    ("nats_size", "8:8:8:16:40", 32, 10, 67_378),
    (
        "mobilenet_v2",
        "32 k3e1c16n1s1 k3e6c24n2s2 k3e6c32n3s2 k3e6c64n4s2 k3e6c96n3s1 k3e6c160n3s2 k3e6c320n1s1 1280",
        224,
        1000,
        3_504_872,
    ),
    (
        "autoformer",
        json.dumps({"embed_dim": 192, "depth": 12, "mlp_ratio": [4] * 12, "num_heads": [3] * 12}),
        224,
        1000,
        5_717_416,
    ),
]
PUBLISHED_OPERATIONS = [
    # With their parameters, in as many digits as they are published.
    (
        "nds_resnet",
        '{"block_type":"res_basic_block","bot_muls":[],"ds":[1,5,3,3,20],"num_gs":[],'
        '"ss":[4,1,2,2,2],"ws":[32,64,48,48,64]}',
        224,
        "2159560",
        "1381240936",
    ),
    (
        "nds_resnet",
        '{"block_type":"res_bottleneck_block","bot_muls":[1.0,0.5,0.25,0.5],"ds":[1,1,16,4],'
        '"num_gs":[1,2,4,4],"ss":[8,1,2,2],"ws":[64,32,16,256]}',
        224,
        "709992",
        "125981592",
    ),
    ("transnas_macro", "64-111114-basic", 256, "1.29302e6", "3666.36e6"),
    ("transnas_macro", "64-44331-basic", 256, "9.87709e6", "1400.60e6"),
]


@pytest.mark.parametrize(("name", "description", "size", "classes", "count"), PUBLISHED)
def test_published_networks_have_their_number_of_parameters(
    name: str, description: str, size: int, classes: int, count: int
):
    assert parameters(SPACES[name].build(description, fold=False, size=size, classes=classes)) == count


def operations(model: onnx.ModelProto) -> dict[str, int]:
    """Per operator: multiply-accumulate operations of layers, elements that others put out; for one image."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.value_info, *inferred.output)
    }
    weights = {w.name: list(w.dims) for w in model.graph.initializer}
    found: dict[str, int] = {}
    for node in model.graph.node:
        layer = node.op_type in ("Conv", "Gemm")
        size = math.prod(shapes[node.output[0]][0 if node.op_type != "Gemm" else 1 :])
        found[node.op_type] = found.get(node.op_type, 0) + size * (
            math.prod(weights[node.input[1]][1:]) if layer else 1
        )
        if node.op_type == "GlobalAveragePool":
            found["pooled"] = math.prod(n + 1 for n in shapes[node.input[0]][2:]) * size
    return found


@pytest.mark.parametrize(("name", "description", "size", "count", "wanted"), PUBLISHED_OPERATIONS)
def test_published_networks_have_their_number_of_operations(
    name: str, description: str, size: int, count: str, wanted: str
):
    """NDS counts biases and five operations a normalised element; TransNAS-Bench-101 counts as thop does."""
    model = SPACES[name].build(description, fold=False, size=size)
    found = operations(model)
    norms = found["BatchNormalization"]
    extra = {
        "nds_resnet": 5 * norms + SPACES[name].classes,
        "transnas_macro": 2 * norms + found["Relu"] + found["pooled"],
    }[name]
    got = parameters(model), found["Conv"] + found["Gemm"] + extra
    digits = (6 if "e" in count else 12) - 1
    assert [f"{n:.{digits}e}" for n in got] == [f"{float(n):.{digits}e}" for n in (count, wanted)]


def test_transnas_macro_has_as_many_networks_as_published():
    space, count = SPACES["transnas_macro"], 0
    for length in range(3, 8):
        for digits in itertools.product("1234", repeat=length):
            with contextlib.suppress(SettingsError):
                count += bool(space.describe({"arch_str": f"64-{''.join(digits)}-basic"}))
    assert count == 3256


@pytest.mark.parametrize(
    ("rate", "decay", "kept"),
    [
        ("0.05", "5e-05", True),
        ("0.0064", "0.0005", True),
        ("0.158", "1e-5", True),
        ("0.0062", "5e-05", False),
        ("0.16", "5e-05", False),
        ("0.05", "0.00051", False),
    ],
)
def test_nds_leaves_out_what_was_trained_at_extreme_rates(rate: str, decay: str, kept: bool):
    keep = SPACES["nds_resnet"].keep
    assert keep is not None
    assert keep({"base_lr": rate, "wd": decay}) is kept
    with pytest.raises(SettingsError, match="no value in column 'wd'"):
        keep({"base_lr": rate})
    with pytest.raises(SettingsError, match="hold numbers"):
        keep({"base_lr": rate, "wd": "none"})


def test_nds_has_two_families():
    family = SPACES["nds_resnet"].family
    assert family is not None
    assert [family(d) for d in EXAMPLES["nds_resnet"].degenerate] == ["ResNet", "ResNet", "ResNeXt"]
    assert {family(d) for d in EXAMPLES["nds_resnet"].architectures(SPACES["nds_resnet"], 20)} == {
        "ResNet",
        "ResNeXt",
    }


@pytest.mark.parametrize("name", ["autoformer", "pit"])
def test_a_transformer_needs_one_patch(name: str):
    description = EXAMPLES[name].degenerate[0]
    with pytest.raises(SettingsError, match="hold no patch"):
        SPACES[name].build(description, fold=False, size=15)
    SPACES[name].build(description, fold=False, size=16)


def test_gpt2_has_positions_and_clusters():
    description = EXAMPLES["gpt2"].degenerate[0]
    for bad in ({"size": 193}, {"classes": 2}):
        with pytest.raises(SettingsError, match=r"positions|clusters"):
            SPACES["gpt2"].build(description, fold=False, **bad)
    SPACES["gpt2"].build(description, fold=False, size=192, classes=3)
