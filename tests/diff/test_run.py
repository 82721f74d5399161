"""Two files of one network: what is the same passes, and what is ruined is found, where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import model, run_onnxruntime, weight
from conversions import conversions, noise
from onnx import helper, numpy_helper
from rewriting.tools import OPTIMISERS

from diff.conftest import SAMPLES, Compare
from diff.ruins import RUINS, change, layers
from intrain_onnx.diff.rows import Document
from intrain_onnx.errors import IntrainError, SettingsError
from intrain_onnx.loading.limits import parsed

CORPUS = Path(__file__).parents[1] / "fuzzing" / "corpus"
TRAINING = SAMPLES / "pytorch_resnet_training.onnx"
PAIRS = [
    ("pytorch_resnet_training", "pytorch_resnet_torchscript"),
    ("pytorch_resnet_torchscript", "pytorch_resnet_dynamo"),
    ("pytorch_encoder_torchscript", "pytorch_encoder_dynamo"),
]
"""Exports of one network: BatchNorm kept and folded, by both exporters."""

CNN = """(float[N,3,8,8] x) => (float[N,4] y) {
    h = Conv<pads = [1,1,1,1]>(x, w, b)
    r = Relu(h)
    i = Conv<pads = [1,1,1,1]>(r, v, c)
    s = Relu(i)
    p = GlobalAveragePool(s)
    f = Flatten(p)
    y = Gemm<transB = 1>(f, u, d)
}"""


def cnn(seed: int = 0, noise: float = 0.0) -> onnx.ModelProto:
    shapes = {"w": (6, 3, 3, 3), "b": (6,), "v": (8, 6, 3, 3), "c": (8,), "u": (4, 8), "d": (4,)}
    held = {n: weight(*s, seed=seed) + noise * weight(*s, seed=seed + 1) for n, s in shapes.items()}
    return model(CNN, {n: a.astype(np.float32) for n, a in held.items()})


@pytest.mark.parametrize(("first", "second"), [*PAIRS, *((b, a) for a, b in PAIRS)])
def test_two_exports_of_one_network_are_the_same(compared: Compare, first: str, second: str):
    found = compared(SAMPLES / f"{first}.onnx", SAMPLES / f"{second}.onnx")
    assert found.passed, found.findings
    assert found.same_structure
    assert all(layer.activation is not None for layer in found.layers)
    assert all(row.difference is not None and row.agreement == 1 for row in found.outputs)


@pytest.mark.parametrize("sample", ["pytorch_resnet_training", "pytorch_encoder_dynamo", "jax_mixer"])
def test_healthy_conversions_pass(compared: Compare, sample: str):
    """Whatever a converter makes of a sample: each layer is seen in it, and all are within the thresholds."""
    file, made = SAMPLES / f"{sample}.onnx", []
    for how, converted in conversions(file, lambda: noise(file, 2)):
        if isinstance(converted, str):
            continue
        found = compared(file, converted)
        made.append(how)
        assert found.passed, (how, found.findings)
        assert [x.unseen for x in found.layers] == [None] * len(found.layers), how
        expected = next((p for p in ("float16", "int8") if how.startswith(p)), "float32")
        assert found.second.precision == expected, how
    assert {"float16", "int8 QDQ", "int8 operators", "onnxruntime_all"} <= set(made)
    assert len(made) >= 8 + len(OPTIMISERS) - 3  # a tool may be missing, or refuse a sample


@pytest.mark.parametrize("how", RUINS)
@pytest.mark.parametrize("sample", ["pytorch_resnet_training", "keras_mobile", "pytorch_encoder_torchscript"])
def test_ruined_files_fail(compared: Compare, sample: str, how: str):
    ruined = onnx.load(SAMPLES / f"{sample}.onnx")
    if not RUINS[how](ruined, np.random.default_rng(0)):
        pytest.skip("the sample has no such part")
    found = compared(SAMPLES / f"{sample}.onnx", ruined)
    assert not found.passed


@pytest.mark.parametrize("place", range(10))
def test_the_layer_that_is_ruined_is_the_one_where_they_part(compared: Compare, place: int):
    ruined = onnx.load(TRAINING)
    _, held = layers(ruined)[place]
    assert change(held, lambda x: -x)
    found = compared(TRAINING, ruined)
    changed = [
        x.first for x in found.layers if any(w.difference and not w.difference.equal for w in x.weights)
    ]
    assert changed == [found.parts_at]


def test_activations_are_those_of_onnxruntime(compared: Compare):
    """Relative error and correlation behind each ReLU, and of the outputs."""
    first, second = cnn(), cnn(noise=0.05)
    found = compared(first, second, batch=3)
    x = next(iter(noise_of(found)))
    values = ["r", "s", "y"]
    ours, theirs = (run_onnxruntime(proto, {"x": x}, values) for proto in (first, second))
    for row, a, b in zip(found.layers, ours, theirs, strict=True):
        assert row.activation is not None
        error = np.linalg.norm(a - b) / np.linalg.norm(a)
        assert row.activation.relative_error == pytest.approx(error, rel=1e-4)
        assert row.activation.correlation == pytest.approx(
            np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1], abs=1e-6
        )
    (output,) = found.outputs
    assert output.difference is not None
    assert output.difference.max_abs_error == pytest.approx(np.abs(ours[2] - theirs[2]).max(), rel=1e-4)
    assert output.agreement == (ours[2].argmax(1) == theirs[2].argmax(1)).mean()


def noise_of(found: Document) -> list[np.ndarray]:
    """The inputs that a comparison drew: its document says how many, and of what seed."""
    import torch

    from intrain_onnx.runtime.random_streams import generator_for

    assert found.inputs is not None
    shape = found.inputs.shapes["x"]
    return [torch.randn(shape, generator=generator_for(found.inputs.seed, "input 0")).numpy()]


def test_given_inputs_are_fed_to_both(compared: Compare):
    x = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    first, second = cnn(), cnn(noise=0.05)
    found = compared(first, second, inputs={"x": x})
    assert found.inputs is not None
    assert (found.inputs.samples, found.inputs.given) == (8, ("x",))  # in calls of four, samples repeat
    a, b = (run_onnxruntime(proto, {"x": np.concatenate([x, x[:3]])})[0] for proto in (first, second))
    assert found.outputs[0].difference is not None
    assert found.outputs[0].difference.relative_error == pytest.approx(
        np.linalg.norm(a - b) / np.linalg.norm(a), rel=1e-4
    )


def test_another_layout_of_the_input_is_the_same_network(compared: Compare):
    """Channels last behind a Transpose, under another name."""
    other = cnn()
    node = helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2])
    other.graph.node.insert(0, node)
    other.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", 1, ["N", 8, 8, 3]))
    found = compared(cnn(), other)
    assert found.passed, found.findings
    assert found.outputs[0].difference is not None
    assert (found.outputs[0].difference.relative_error or 0) < 1e-5


def test_a_fixed_batch_beside_a_free_one(compared: Compare):
    fixed = cnn()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    for pair in ((cnn(), fixed), (fixed, cnn())):
        found = compared(*pair, batch=3)
        assert found.passed
        assert found.inputs is not None
        assert found.inputs.samples == 3


def test_inputs_of_other_sizes_are_refused(compared: Compare):
    other = cnn()
    other.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 9
    with pytest.raises(SettingsError, match=r"'x' is .*8x8, and 'x' of the second file .*8x9") as error:
        compared(cnn(), other)
    assert "--input-shape" in (error.value.hint or "")


def test_overflow_in_float16_is_seen(compared: Compare):
    """Weights and inputs are finite in half precision, and their product is not."""
    large = cnn()
    held = next(t for t in large.graph.initializer if t.name == "v")
    change(held, lambda x: 3e4 * np.sign(x))
    half = onnx.ModelProto()
    half.CopyFrom(large)
    for tensor in half.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    del half.graph.value_info[:]
    found = compared(large, half)
    assert found.second.precision == "float16"
    lost = [f for f in found.findings if f.rule == "not-finite"]
    assert lost
    assert found.parts_at == found.layers[1].first


@pytest.mark.parametrize("drift", [0.05, 0.3])
def test_a_later_checkpoint_may_have_other_weights(compared: Compare, drift: float):
    step = cnn(noise=drift)
    assert not compared(cnn(), step).passed
    found = compared(cnn(), step, expected="checkpoint")
    assert found.passed, found.findings


def test_a_later_checkpoint_has_no_shuffled_layer(compared: Compare):
    step = cnn(noise=0.05)
    change(next(t for t in step.graph.initializer if t.name == "v"), lambda x: x[::-1])
    found = compared(cnn(), step, expected="checkpoint")
    assert {f.rule for f in found.findings} >= {"weights"}


def test_layers_that_are_gone_or_new_are_named(compared: Compare):
    longer = onnx.load(SAMPLES / "keras_mobile.onnx")
    found = compared(TRAINING, longer, expected="checkpoint")
    assert not found.same_structure
    assert {"changed", "added"} <= {x.status for x in found.layers}
    assert {f.rule for f in found.findings} >= {"structure"}


BRANCHES = """(float[N,4] x, bool flag) => (float[N,3] y) {
    h = MatMul(x, u)
    y = If(flag) <
        then_branch = one () => (float[N,3] t) { t = MatMul(h, w) },
        else_branch = two () => (float[N,3] e) { r = Relu(h)\n e = MatMul(r, v) }
    >
}"""


def test_a_branch_that_is_not_taken_may_be_gone(compared: Compare):
    """As an optimiser leaves it out that is told the flag; the layer that runs may not."""
    held = {"u": weight(4, 5), "w": weight(5, 3), "v": weight(5, 3, seed=1)}
    kept = model("(float[N,4] x, bool flag) => (float[N,3] y) { h = MatMul(x, u)\n y = MatMul(h, w) }", held)
    found = compared(model(BRANCHES, held), kept)
    assert [x.unseen for x in found.layers if x.status == "gone"] == ["it was not run"]
    assert found.passed, found.findings
    other = model(
        "(float[N,4] x, bool flag) => (float[N,3] y) { h = MatMul(x, u)\n r = Relu(h)\n y = MatMul(r, v) }",
        held,
    )
    assert not compared(model(BRANCHES, held), other).passed


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "BFLOAT16", "FLOAT16", "INT8"])
def test_inputs_of_any_type_reach_both_files(compared: Compare, kind: str):
    """numpy has no float8 and no bfloat16 of its own."""
    proto = model("(float[5] x) => (float[5] y) { y = Cast<to = 1>(x) }", {})
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(kind)
    proto.opset_import[0].version = max(proto.opset_import[0].version, 19)
    (output,) = compared(proto, proto).outputs
    assert output.difference is not None
    assert output.difference.equal


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.onnx")), ids=lambda p: p.stem)
def test_hostile_files_end_with_a_document_or_one_clear_error(compared: Compare, path: Path):
    """Beside themselves, and beside a sound file, in both places."""
    sound, codes = SAMPLES / "jax_cnn.onnx", []
    for pair in ((path, path), (sound, path), (path, sound)):
        try:
            found = compared(*pair, batch=2, limits=parsed(["seconds=20"]))
            codes.append(0 if found.passed else 7)
        except IntrainError as error:  # any other is a failure
            codes.append(error.exit_code)
    assert set(codes) <= {0, 2, 3, 4, 5, 6, 7}


TWINS = """(float[N,4] x) => (float[N,3] y) {
    a = MatMul(x, u)
    b = MatMul(x, v)
    p = MatMul(a, w)
    q = MatMul(b, z)
    y = Add(p, q)
}"""


@pytest.mark.parametrize("spoilt", [None, np.nan, np.inf])
def test_layers_that_structure_does_not_tell_apart_go_by_their_weights(
    compared: Compare, spoilt: float | None
):
    """The nodes of a symmetric network in another order; one weight may not be finite."""
    held = {"u": weight(4, 5), "v": weight(4, 5, seed=1), "w": weight(5, 3), "z": weight(5, 3, seed=1)}
    other = model(TWINS, held)
    nodes = [other.graph.node[i] for i in (1, 0, 3, 2, 4)]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del other.graph.node[:]
    other.graph.node.extend(kept)
    if spoilt is not None:
        change(
            next(t for t in other.graph.initializer if t.name == "v"),
            lambda x: np.where(x == x.max(), spoilt, x),
        )
    found = compared(model(TWINS, held), other)
    pairs = {(w.first, w.second) for x in found.layers for w in x.weights if w.role == "weight"}
    assert pairs == {(name, name) for name in held}
    rules = {f.rule for f in found.findings}
    assert rules == set() if spoilt is None else "not-finite" in rules


def test_what_noise_cannot_tell_is_said(compared: Compare):
    """Calibrated ranges cut noise off; given samples are no noise."""
    file = SAMPLES / "jax_mixer.onnx"
    made = dict(conversions(file, lambda: noise(file, 2)))
    found = compared(file, made["int8 QDQ"])
    assert any("cut noise off" in note for note in found.notes)
    name, array = next(iter(noise(file, 1)[0].items()))
    given = compared(file, made["int8 QDQ"], inputs={name: array})
    assert given.notes == ()
    assert given.thresholds["output_snr"] > found.thresholds["output_snr"]


def test_thresholds_may_be_set(compared: Compare):
    loose = {"weight_snr": 0.0, "weight_correlation": 0.0, "output_snr": 0.0, "activation_correlation": 0.0}
    found = compared(cnn(), cnn(noise=0.05), thresholds=loose)
    assert found.passed, found.findings
    assert found.thresholds["output_snr"] == 0
    with pytest.raises(SettingsError, match="no threshold is called 'snr'"):
        compared(cnn(), cnn(), thresholds={"snr": 1.0})


def test_scores_of_each_layer_stand_beside_each_other(compared: Compare, tmp_path: Path):
    found = compared(TRAINING, SAMPLES / "pytorch_resnet_dynamo.onnx", scored=True)
    assert found.first.intrain == pytest.approx(found.second.intrain, rel=2e-3)
    for row in found.layers:
        a, b = row.log_participation_ratio
        assert a is not None
        assert b == pytest.approx(a, rel=1e-2)
        assert None not in row.health


def test_a_score_of_batch_statistics_is_told(compared: Compare, tmp_path: Path):
    """A BatchNorm that has seen no data is scored by the batch; a file in which it was folded can't be."""
    untrained = onnx.load(TRAINING)
    assert RUINS["BatchNorm's statistics lost"](untrained, np.random.default_rng(0))
    onnx.save(untrained, tmp_path / "untrained.onnx")
    folded = OPTIMISERS["onnxruntime_basic"][1](untrained)
    found = compared(tmp_path / "untrained.onnx", folded, scored=True)
    assert found.passed
    assert found.first.intrain != pytest.approx(found.second.intrain, rel=1e-2)
    (note,) = (n for n in found.notes if "statistics" in n)
    assert "the score of" in note
    assert "untrained.onnx is not that of its file" in note


def test_the_same_comparison_gives_the_same_document(compared: Compare):
    from msgspec import structs

    one, other = (structs.replace(compared(TRAINING, cnn_file), seconds=0.0) for cnn_file in [TRAINING] * 2)
    assert one == other
