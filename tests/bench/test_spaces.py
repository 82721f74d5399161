"""Every search space: its networks are those of the papers, folded or not, and all its descriptions build."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import random
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import intrain_onnx
from intrain_onnx import ScoreConfig
from intrain_onnx.bench.spaces import SPACES, Space
from intrain_onnx.errors import SettingsError

from .token_twins import TOKEN_TWINS
from .twins import TWINS, load, randomise

ALL_TWINS = TWINS | TOKEN_TWINS

DEGENERATE = {
    "nasbench201": [
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
        "|none~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|",
    ],
    "nasbench101": [
        "0100 input,output",
        "011001000 input,maxpool3x3,output",
        # Three vertices share the channels unevenly, and wider ones feed narrower ones.
        "0110100000100100001000000010000000100000010000000 "
        "input,conv1x1-bn-relu,maxpool3x3,conv3x3-bn-relu,conv1x1-bn-relu,maxpool3x3,output",
    ],
    "nats_size": ["8:8:8:8:8", "64:8:64:8:64"],
    "macro": ["00000000", "02000010"],
    "transnas_macro": ["64-1114-basic", "64-241343-basic", "64-311121-basic"],
    "mobilenet_v2": ["8 k3e1c8n1s1 8", "16 k7e1c16n2s1 k5e2c16n3s2 k3e4c24n1s1 64"],
    "nds_resnet": [
        '{"block_type":"res_basic_block","bot_muls":[],"ds":[1,1],"num_gs":[],"ss":[4,1],"ws":[2,2]}',
        '{"block_type":"res_basic_block","bot_muls":[],"ds":[1,2,1],"num_gs":[],"ss":[8,2,1],"ws":[8,5,16]}',
        '{"block_type":"res_bottleneck_block","bot_muls":[1.0,0.5,1.5],"ds":[1,1,2],"num_gs":[1,4,3],'
        '"ss":[4,1,2],"ws":[8,8,8]}',
    ],
    "autoformer": [
        '{"embed_dim":24,"depth":1,"mlp_ratio":[0.5],"num_heads":[1]}',
        '{"hidden_dim":24,"depth":2,"mlp_ratio":[2.0,3.5],"num_heads":[4,1]}',
    ],
    "pit": [
        '{"base_dim":8,"mlp_ratio":2.0,"num_heads":[1,1,1],"depth":[1,1,1]}',
        '{"base_dim":8,"mlp_ratio":0.5,"num_heads":[1,3,6],"depth":[1,2,1]}',
    ],
    "torchvision": ["vit_b_32", "maxvit_t"],
    "gpt2": [
        '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[2],"d_inner":[5]}',
        '{"d_model":12,"d_embed":8,"div_val":1,"n_head":[3,1],"d_inner":[7,5]}',
        '{"d_model":8,"d_embed":16,"div_val":4,"n_head":[8,4],"d_inner":[3,9]}',
    ],
    "openlm": ['{"d":8,"l":1,"h":1}', '{"d":20,"l":2,"h":3}'],
    "nas_bench_nlp": [
        '{"node_0":{"op":"linear","input":["x"]},"h_new_0":{"op":"elementwise_sum","input":["node_0","h_prev_0"]}}',
        # Out of order, a node that nothing reads, a state that nothing reads, an input that is read twice.
        json.dumps(
            {
                "h_new_0": {"op": "blend", "input": ["node_1", "node_0", "h_prev_0"]},
                "node_0": {"op": "activation_tanh", "input": ["node_2"]},
                "node_1": {"op": "activation_sigm", "input": ["node_2"]},
                "node_2": {"op": "linear", "input": ["h_prev_0", "x", "x"]},
                "node_3": {"op": "linear", "input": ["node_2"]},
                "h_new_1": {"op": "elementwise_prod", "input": ["node_0", "node_0"]},
            },
            separators=(",", ":"),
        ),
    ],
}
SIZES = {
    "nasbench201": 16,
    "nasbench101": 8,
    "nats_size": 16,
    "macro": 16,
    "transnas_macro": 32,
    "mobilenet_v2": 32,
    "nds_resnet": 48,
    "autoformer": 48,
    "pit": 40,
    "gpt2": 5,
    "openlm": 5,
    "nas_bench_nlp": 4,
}
"""Images, or sequences, small enough for a test; the networks take any."""
CLUSTERS = {"gpt2": 2}
"""Logits of clusters beside those of words."""
LIGHT = {"openlm": lambda text: json.loads(text)["d"] * json.loads(text)["l"] < 5000}
"""What a test builds; the others take seconds and memory, and differ in size alone."""
BAD = {
    "nasbench201": ["", "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|", "|none~0|+|none~0|none~1|"],
    "nasbench101": [
        "",
        "0100",
        "0100 input,maxpool3x3",
        "0110 input,output",
        "0000 input,output",
        "011001000 input,conv9x9,output",
    ],
    "nats_size": ["", "8:8:8:8", "8:8:8:8:9", "8:8:8:8:72"],
    "macro": ["", "0120120", "01201203"],
    "transnas_macro": [
        "",
        "111114",
        "32-1114-basic",
        "64-111-basic",
        "64-1111114-basic",
        "64-1115-basic",
        "64-1113-basic",
        "64-1112-basic",
        "64-22224-basic",
        "64-333334-basic",
    ],
    "mobilenet_v2": ["", "32 1280", "32 k3e3c16n1s1 1280", "x k3e1c16n1s1 1280", "32 k3e1c16n1s1 0"],
    "nds_resnet": [
        "",
        "{}",
        '{"block_type":"vanilla_block","ds":[1,1],"ss":[4,1],"ws":[8,8]}',
        '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[8,8],"se_r":0.25}',
        '{"block_type":"res_basic_block","ds":1,"ss":4,"ws":8}',
        '{"block_type":"res_basic_block","ds":[],"ss":[],"ws":[]}',
        '{"block_type":"res_basic_block","ds":[1],"ss":[4],"ws":[8]}',
        '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[8]}',
        '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[8,0]}',
        '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,3],"ws":[8,8]}',
        '{"block_type":"res_basic_block","ds":[1,1],"ss":[2,1],"ws":[8,8]}',
        '{"block_type":"res_basic_block","ds":[2,1],"ss":[4,1],"ws":[8,8]}',
        '{"block_type":"res_basic_block","ds":[1,1],"ss":[4,1],"ws":[7,8]}',
        '{"block_type":"res_basic_block","bot_muls":[1,1],"ds":[1,1],"ss":[4,1],"ws":[8,8]}',
        '{"block_type":"res_bottleneck_block","ds":[1,1],"ss":[4,1],"ws":[8,8]}',
        *(
            f'{{"block_type":"res_bottleneck_block","bot_muls":[1,{ratio}],"ds":[1,1],"num_gs":[1,{groups}],'
            '"ss":[4,1],"ws":[8,8]}'
            for ratio, groups in ((0.5, 3), (0, 1), ("null", 1), (0.05, 1))
        ),
    ],
    "autoformer": [
        "",
        "[]",
        "{}",
        '{"embed_dim":192.5,"depth":1,"mlp_ratio":[4],"num_heads":[3]}',
        '{"embed_dim":192,"depth":2,"mlp_ratio":[4],"num_heads":[3,3]}',
        '{"embed_dim":192,"depth":1,"mlp_ratio":[-1],"num_heads":[3]}',
        '{"hidden_dim":192,"depth":1,"mlp_ratio":[4],"num_heads":[5]}',
    ],
    "pit": [
        "",
        '{"base_dim":8,"mlp_ratio":"2","num_heads":[1,1,1],"depth":[1,1,1]}',
        '{"base_dim":8,"mlp_ratio":2,"num_heads":[1,1],"depth":[1,1,1]}',
        '{"base_dim":8,"mlp_ratio":2,"num_heads":[4,2,2],"depth":[1,1,1]}',
        '{"base_dim":8,"mlp_ratio":2,"num_heads":[1,1,1],"depth":[1,1,0]}',
    ],
    "torchvision": ["", "resnet", "resnet18 ", "fasterrcnn_resnet50_fpn"],
    "gpt2": [
        "",
        '{"d_model":8,"d_embed":8,"div_val":0,"n_head":[2],"d_inner":[5]}',
        '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[3],"d_inner":[5]}',
        '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[2],"d_inner":[5,5]}',
        '{"d_model":8,"d_embed":8,"div_val":1,"n_head":[],"d_inner":[]}',
        '{"d_model":8,"d_embed":8,"div_val":4,"n_head":[2],"d_inner":[5]}',
    ],
    "openlm": ["", '{"d":8,"l":1}', '{"d":8,"l":1,"h":8}', '{"d":8,"l":1,"h":9}', '{"d":8,"l":0,"h":1}'],
    "nas_bench_nlp": [
        "",
        "{}",
        '{"node_0":{"op":"linear","input":["x"]}}',
        '{"h_new_0":["x"]}',
        '{"h_new_0":{"op":"linear","input":[]}}',
        '{"h_new_0":{"op":"relu","input":["h_prev_0"]}}',
        '{"h_new_0":{"op":"linear","input":["h_prev_1"]}}',
        '{"h_new_0":{"op":"linear","input":["h_new_0"]}}',
        '{"h_new_0":{"op":"blend","input":["h_prev_0","h_prev_0"]}}',
        '{"h_new_0":{"op":"activation_tanh","input":["x"]}}',
    ],
}
COLUMNS = {
    "nasbench201": ["arch_str"],
    "nasbench101": ["adjacency", "ops"],
    "nats_size": ["channels"],
    "macro": ["arch"],
    "transnas_macro": ["arch_str"],
    "mobilenet_v2": ["arch"],
    "nds_resnet": ["net_json"],
    "autoformer": ["arch"],
    "pit": ["arch"],
    "torchvision": ["model"],
    "gpt2": ["cfg.d_model", "cfg.d_embed", "cfg.div_val", "cfg.n_head", "cfg.d_inner"],
    "openlm": ["d", "l", "h"],
    "nas_bench_nlp": ["recepie"],
}
SPELLINGS = [
    (
        "nasbench101",
        {"adjacency": "0111000000010000", "ops": "input,maxpool3x3,conv1x1-bn-relu,output"},
        "011001000 input,conv1x1-bn-relu,output",
    ),
    (
        "nds_resnet",
        {
            "net_json": '{"block_type": "res_bottleneck_block", "ws": [8, 8], "ss": [8, 1], "ds": [1, 1], '
            '"bot_muls": [1, 1], "num_gs": [1, 2]}'
        },
        '{"block_type":"res_bottleneck_block","bot_muls":[1.0,1.0],"ds":[1,1],"num_gs":[1,2],"ss":[8,1],"ws":[8,8]}',
    ),
    (
        "autoformer",
        {"arch": '{"layer_num": 1, "embed_dim": [64, 64], "mlp_ratio": [4, 3], "num_heads": [3, 3]}'},
        '{"embed_dim":64,"depth":1,"mlp_ratio":[4.0],"num_heads":[3]}',
    ),
    (
        "pit",
        {"arch": '{"base_dim": [8, 8, 8], "mlp_ratio": [2], "num_heads": [1, 2, 4], "layer_num": [1, 1, 1]}'},
        '{"base_dim":8,"mlp_ratio":2.0,"num_heads":[1,2,4],"depth":[1,1,1]}',
    ),
]
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
EACH = pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
WRITTEN = pytest.mark.parametrize("space", [SPACES[name] for name in TWINS], ids=list(TWINS))
"""Those that a generator writes; torchvision's are exported, see test_torchvision_export.py."""


def architectures(space: Space, count: int) -> list[str]:
    generator = random.Random(5)
    light = filter(LIGHT.get(space.name), (space.sample(generator) for _ in itertools.count()))
    return [*DEGENERATE[space.name], *itertools.islice(light, count)]


def samples(space: Space, count: int, size: int, classes: int) -> torch.Tensor:
    """Images bright enough to reach the limit of a ReLU6, or words."""
    if space.name in TOKEN_TWINS:
        return torch.randint(classes, (count, size))
    return 10 * torch.randn(count, 3, size, size)


def cells(space: Space, description: str) -> list[str]:
    """The row of a table that has the description."""
    if space.name in ("gpt2", "openlm"):
        return [json.dumps(value) for value in json.loads(description).values()]
    return description.split(" ", len(COLUMNS[space.name]) - 1)


def parameters(model: onnx.ModelProto) -> int:
    """Numbers that training changes: all but the running statistics."""
    fixed = {n for node in model.graph.node if node.op_type == "BatchNormalization" for n in node.input[3:]}
    return sum(int(np.prod(w.dims)) for w in model.graph.initializer if w.name not in fixed)


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@WRITTEN
def test_networks_are_those_of_the_papers(space: Space, fold: bool):
    for index, description in enumerate(architectures(space, 4)):
        torch.manual_seed(index)
        size, classes = SIZES[space.name], 7
        twin = ALL_TWINS[space.name](description, size, classes).eval()
        randomise(twin)
        images = samples(space, 3, size, classes)
        model = space.build(description, fold=fold, size=size, classes=classes)
        if not fold:
            assert parameters(model) == sum(p.numel() for p in twin.parameters())
        with torch.no_grad():
            load(model, twin, images, fold=fold)
            expected = twin(images).numpy()
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {model.graph.input[0].name: images.numpy()})
        assert np.ptp(expected, 0).max() > 0 or "none" in description
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


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
    assert [family(d) for d in DEGENERATE["nds_resnet"]] == ["ResNet", "ResNet", "ResNeXt"]
    assert {family(d) for d in architectures(SPACES["nds_resnet"], 20)} == {"ResNet", "ResNeXt"}


@EACH
def test_every_sample_builds_and_its_description_is_canonical(space: Space):
    for description in architectures(space, 12):
        for fold in (False, True):
            model = space.build(description, fold=fold)
            onnx.checker.check_model(model)
            given, output = (v[0].type.tensor_type.shape.dim for v in (model.graph.input, model.graph.output))
            assert [d.dim_value for d in given] == [0, *samples(space, 1, space.size, 2).shape[1:]]
            assert output[-1].dim_value == space.classes + CLUSTERS.get(space.name, 0)


@EACH
def test_samples_repeat_and_differ(space: Space):
    first, second = random.Random(1), random.Random(1)
    drawn = [space.sample(first) for _ in range(20)]
    assert drawn == [space.sample(second) for _ in range(20)]
    assert len(set(drawn)) > 10


@WRITTEN
def test_folding_leaves_the_layers(space: Space):
    """What is left of BatchNorm follows a sum, as the last one of NAS-Bench-201 does."""
    for description in architectures(space, 2):
        kept, folded = (space.build(description, fold=fold) for fold in (False, True))
        layers = [
            [n.op_type for n in m.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
            for m in (kept, folded)
        ]
        assert layers[0] == layers[1]
        makers = {n.output[0]: n.op_type for n in folded.graph.node}
        left = [makers[n.input[0]] for n in folded.graph.node if n.op_type == "BatchNormalization"]
        assert left in ([], ["Add"])


@EACH
def test_rows_of_a_table_are_described(space: Space):
    names, wanted = COLUMNS[space.name], architectures(space, 4)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([*names, "accuracy"])
    writer.writerows([*cells(space, description), 50 + i] for i, description in enumerate(wanted))
    table.seek(0)
    rows = list(csv.DictReader(table))
    assert [space.describe(row) for row in rows] == wanted
    for name in names:
        with pytest.raises(SettingsError, match=f"column '{name}'"):
            space.describe({**rows[0], name: " "})
        with pytest.raises(SettingsError, match="is no architecture of"):
            space.describe({**rows[0], name: "nonsense"})


@pytest.mark.parametrize(("name", "row", "wanted"), SPELLINGS)
def test_other_spellings_are_understood(name: str, row: dict[str, str], wanted: str):
    assert SPACES[name].describe(row) == wanted


@EACH
def test_bad_descriptions_are_refused(space: Space):
    for description in BAD[space.name]:
        with pytest.raises(SettingsError, match="is no architecture of"):
            space.build(description, fold=False)


@WRITTEN
def test_the_protocols_score_it(space: Space):
    """With weights of a twin: onnxruntime would agree about all-zero ones in any case."""
    description = architectures(space, 1)[-1]
    size = SIZES[space.name]
    layers = set()
    for protocol, fold in (("paper", False), ("architecture", False), ("architecture", True)):
        model = space.build(description, fold=fold, size=size)
        twin = ALL_TWINS[space.name](description, size, space.classes).eval()
        with torch.no_grad():
            load(model, twin, samples(space, 2, size, space.classes), fold=fold)
        config = ScoreConfig.for_protocol(
            protocol, seeds=1, batch=2, threads=1, parity=True, size=size, device="cpu"
        )
        data = intrain_onnx.score(model, config).data
        assert data["parity"]["ok"]
        assert data["score"]["intrain"] > 0
        if protocol == "architecture":
            layers.add((data["score"]["layers"], data["model"]["canonical_layers"]))
    assert len(layers) == 1


@pytest.mark.parametrize("name", ["autoformer", "pit"])
def test_a_transformer_needs_one_patch(name: str):
    description = DEGENERATE[name][0]
    with pytest.raises(SettingsError, match="hold no patch"):
        SPACES[name].build(description, fold=False, size=15)
    SPACES[name].build(description, fold=False, size=16)


def test_gpt2_has_positions_and_clusters():
    description = DEGENERATE["gpt2"][0]
    for bad in ({"size": 193}, {"classes": 2}):
        with pytest.raises(SettingsError, match=r"positions|clusters"):
            SPACES["gpt2"].build(description, fold=False, **bad)
    SPACES["gpt2"].build(description, fold=False, size=192, classes=3)


def test_no_space_needs_torch():
    code = "import sys, intrain_onnx.bench.spaces; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
