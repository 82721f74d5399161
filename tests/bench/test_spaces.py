"""Every search space: its networks are those of its twin, folded or not, and all its descriptions build."""

from __future__ import annotations

import csv
import io
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
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.errors import SettingsError

from .examples import EXAMPLES
from .graphs import parameters
from .twins.weights import load, randomise

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
        "digits",
        {"arch": '{"depth": 8, "width": 8, "residual": true, "norm": false, "gain": 1}'},
        '{"depth":8,"width":8,"gain":1.0,"residual":true,"norm":false}',
    ),
    (
        "pit",
        {"arch": '{"base_dim": [8, 8, 8], "mlp_ratio": [2], "num_heads": [1, 2, 4], "layer_num": [1, 1, 1]}'},
        '{"base_dim":8,"mlp_ratio":2.0,"num_heads":[1,2,4],"depth":[1,1,1]}',
    ),
]
EACH = pytest.mark.parametrize("name", SPACES)
WRITTEN = pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if example.twin])
"""Those that a generator writes; torchvision's are exported, see test_torchvision_export.py."""


def test_every_space_is_tested():
    assert set(EXAMPLES) == set(SPACES)


@pytest.mark.parametrize("fold", [False, True], ids=["kept", "folded"])
@WRITTEN
def test_networks_are_those_of_the_papers(name: str, fold: bool):
    space, example = SPACES[name], EXAMPLES[name]
    for index, description in enumerate(example.architectures(space, 4)):
        torch.manual_seed(index)
        size, classes = example.size, 7
        twin = example.twin(description, size, classes).eval()
        randomise(twin)
        images = example.samples(3, size, classes)
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


@EACH
def test_every_sample_builds_and_its_description_is_canonical(name: str):
    space, example = SPACES[name], EXAMPLES[name]
    count = 12 if example.twin else 3  # an export takes seconds
    for description in example.architectures(space, count):
        for fold in (False, True):
            model = space.build(description, fold=fold)
            onnx.checker.check_model(model)
            given, output = (v[0].type.tensor_type.shape.dim for v in (model.graph.input, model.graph.output))
            assert [d.dim_value for d in given] == [0, *example.samples(1, space.size, 2).shape[1:]]
            assert output[-1].dim_value == space.classes + example.others


@EACH
def test_samples_repeat_and_differ(name: str):
    space = SPACES[name]
    first, second = random.Random(1), random.Random(1)
    drawn = [space.draw(first) for _ in range(20)]
    assert drawn == [space.draw(second) for _ in range(20)]
    assert len(set(drawn)) > 10


@WRITTEN
def test_folding_leaves_the_layers(name: str):
    """What is left of BatchNorm follows a sum, as the last one of NAS-Bench-201 does."""
    space = SPACES[name]
    for description in EXAMPLES[name].architectures(space, 2):
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
def test_rows_of_a_table_are_described(name: str):
    space, example = SPACES[name], EXAMPLES[name]
    wanted = example.architectures(space, 4)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow([*example.columns, "accuracy"])
    writer.writerows([*example.row(description), 50 + i] for i, description in enumerate(wanted))
    table.seek(0)
    rows = list(csv.DictReader(table))
    assert [space.describe(row) for row in rows] == wanted
    for column in example.columns:
        with pytest.raises(SettingsError, match=f"column '{column}'"):
            space.describe({**rows[0], column: " "})
        with pytest.raises(SettingsError, match="is no architecture of"):
            space.describe({**rows[0], column: "nonsense"})


@pytest.mark.parametrize(("name", "row", "wanted"), SPELLINGS)
def test_other_spellings_are_understood(name: str, row: dict[str, str], wanted: str):
    assert SPACES[name].describe(row) == wanted


@EACH
def test_bad_descriptions_are_refused(name: str):
    for description in EXAMPLES[name].bad:
        with pytest.raises(SettingsError, match="is no architecture of"):
            SPACES[name].build(description, fold=False)


@WRITTEN
def test_the_protocols_score_it(name: str):
    """With weights of a twin: onnxruntime would agree about all-zero ones in any case."""
    space, example = SPACES[name], EXAMPLES[name]
    description, size = example.architectures(space, 1)[-1], example.size
    layers = set()
    for protocol, fold in (("paper", False), ("architecture", False), ("architecture", True)):
        model = space.build(description, fold=fold, size=size)
        twin = example.twin(description, size, space.classes).eval()
        with torch.no_grad():
            load(model, twin, example.samples(2, size, space.classes), fold=fold)
        config = ScoreConfig.for_protocol(
            protocol, seeds=1, batch=2, threads=1, parity=True, size=size, device="cpu"
        )
        data = intrain_onnx.score(model, config).data
        assert data["parity"]["ok"]
        assert data["score"]["intrain"] > 0
        if protocol == "architecture":
            layers.add((data["score"]["layers"], data["model"]["canonical_layers"]))
    assert len(layers) == 1


def test_no_space_needs_torch():
    code = "import sys, intrain_onnx.bench.spaces; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
