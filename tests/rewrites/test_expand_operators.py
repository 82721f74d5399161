"""Operators without a handler are expanded by their function body, with the same results."""

from __future__ import annotations

import numpy as np
import onnx.defs
import onnx_ir as ir
import pytest
import torch
from builders import model, weight
from conformance.suite import load_cases

import intrain_onnx
from intrain_onnx.errors import LimitError, MissingOpsError
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits
from intrain_onnx.opset import support
from intrain_onnx.rewrites import contrib_bodies, expand_operators

SETTINGS = intrain_onnx.ScoreConfig.for_protocol(seeds=1, threads=1, parity=False, device="cpu")
TABLE = support.table()
CASES = {case.name: case for case in load_cases()}


@pytest.fixture
def without(monkeypatch):
    """Take the handlers of operators away."""

    def take(*names: str) -> None:
        left = {d: {o: v for o, v in t.items() if o not in names} for d, t in TABLE.items()}
        monkeypatch.setattr(support, "table", lambda: left)

    return take


def has_body(domain: str, op_type: str) -> bool:
    return any(
        support.has_body(s)
        for s in onnx.defs.get_all_schemas_with_history()
        if (s.domain, s.name) == (domain, op_type)
    )


WITH_BODY = {o for d, t in TABLE.items() for o in t if has_body("" if d == "ai.onnx" else d, o)}


@pytest.mark.parametrize(
    ("op_type", "name"),
    [
        ("AffineGrid", "affine_grid_2d_align_corners"),
        ("Attention", "attention_4d_with_qk_matmul"),  # skips outputs
        ("Attention", "attention_3d_gqa_with_past_and_present"),
        ("CausalConvWithState", "causal_conv_with_state_silu"),
        ("Celu", "celu"),
        ("CenterCropPad", "center_crop_pad_crop_and_pad"),
        ("Clip", "clip_default_min"),
        ("Elu", "elu_default"),
        ("FlexAttention", "flexattention_causal_mask"),
        ("Gelu", "gelu_tanh_1"),
        ("GroupNormalization", "group_normalization_epsilon"),
        ("HardSwish", "hardswish"),
        ("LayerNormalization", "layer_normalization_3d_axis1_epsilon"),
        ("LeakyRelu", "leakyrelu"),
        ("LinearAttention", "linear_attention_gated_delta"),
        ("MeanVarianceNormalization", "mvn"),
        ("Mish", "mish"),
        ("NegativeLogLikelihoodLoss", "nllloss_NCd1d2_with_weight"),
        ("PRelu", "prelu_broadcast"),
        ("RMSNormalization", "rms_normalization_default_axis"),
        ("ReduceL2", "reduce_l2_keep_dims_random"),
        ("RotaryEmbedding", "rotary_embedding_interleaved"),
        ("SequenceMap", "sequence_map_add_2_sequences"),
        ("SoftmaxCrossEntropyLoss", "sce_NCd1_mean_weight_negative_ii"),
        ("SoftmaxCrossEntropyLoss", "sce_NCd1_mean_weight_negative_ii_log_prob"),
        ("Swish", "swish"),
    ],
)
def test_body_passes_the_suite(without, monkeypatch, op_type, name):
    without(*WITH_BODY)
    monkeypatch.setattr(contrib_bodies, "BODIES", {})
    expanded = []

    def record(network: ir.Model) -> int:
        assert op_type in {node.op_type for node in network.graph.all_nodes()}
        expanded.append(expand_operators.expand_missing(network))
        assert op_type not in {node.op_type for node in network.graph.all_nodes()}
        return expanded[-1]

    monkeypatch.setattr("intrain_onnx.rewrites.normalise.expand_missing", record)
    assert CASES[f"test_{name}_cpu"].run() is None
    assert expanded[0] > 0


def values(text: str, *inputs: np.ndarray, weights=None, **settings) -> torch.Tensor:
    module = intrain_onnx.to_torch(model(text, weights, **settings))
    return module(*map(torch.from_numpy, inputs))


X = weight(3, 4)


@pytest.mark.parametrize("attribute", ["", "<alpha = 0.3>"])
def test_attributes_and_their_defaults_reach_the_body(without, attribute):
    text = f"(float[3,4] x) => (float[3,4] y) {{ y = Elu {attribute} (x) }}"
    expected = values(text, X)
    without("Elu")
    torch.testing.assert_close(values(text, X), expected)


def test_nodes_in_subgraphs_and_several_of_one_kind(without):
    text = """(float[3,4] x, bool c) => (float[3,4] y) {
        a = Mish(x) b = Mish(a)
        y = If (c) <then_branch = t () => (float[3,4] u) { u = Mish(b) },
                    else_branch = e () => (float[3,4] v) { w = Mish(b) v = Neg(w) }>
    }"""
    for condition in (True, False):
        expected = values(text, X, np.array(condition))
        with pytest.MonkeyPatch.context() as patch:
            left = {"ai.onnx": {o: v for o, v in TABLE["ai.onnx"].items() if o not in ("Mish", "Softplus")}}
            patch.setattr(support, "table", lambda left=left: left)
            torch.testing.assert_close(values(text, X, np.array(condition)), expected)


def test_score_stays(without):
    proto = model(
        "(float[N,8] x) => (float[N,4] y) { h = MatMul(x, w) g = Gelu(h) y = MatMul(g, v) }",
        {"w": weight(8, 16), "v": weight(16, 4)},
    )
    before = intrain_onnx.score(proto, SETTINGS)
    without("Gelu")
    after = intrain_onnx.score(proto, SETTINGS)
    assert after.intrain == pytest.approx(before.intrain, rel=1e-5)
    assert intrain_onnx.inspect(proto).data["unsupported_ops"] == {}


def test_what_has_no_body_in_this_opset_stays_missing(without, monkeypatch):
    without("Elu")
    monkeypatch.setattr("intrain_onnx.ops.resolve", lambda *_: None)
    text = "(float[3,4] x) => (float[3,4] y) { y = Elu(x) }"
    assert intrain_onnx.inspect(model(text, opset=12)).data["unsupported_ops"] == {"ai.onnx::Elu-6": 1}
    with pytest.raises(MissingOpsError, match="Elu-6"):
        values(text, X, opset=12)


def test_nothing_is_expanded_that_has_a_handler():
    network = ir.from_proto(model("(float[3,4] x) => (float[3,4] y) { g = Gelu(x) y = Mish(g) }"))
    assert expand_operators.expand_missing(network) == 0
    assert [node.op_type for node in network.graph] == ["Gelu", "Mish"]


def test_expanded_size_is_bounded(without):
    without("Mish", "Softplus")
    network = ir.from_proto(model("(float[3,4] x) => (float[3,4] y) { g = Mish(x) y = Mish(g) }"))
    with allowance.held(Limits(expanded_nodes=5), None), pytest.raises(LimitError, match="expanded_nodes"):
        expand_operators.expand_missing(network)


@pytest.mark.parametrize(
    ("op_type", "old", "new", "same"),
    [
        ("Add", 13, 14, True),  # more element types
        ("CastLike", 15, 25, True),
        ("ReduceSum", 11, 13, False),  # axes became an input
        ("Upsample", 9, 10, False),  # deprecated
        ("Softmax", 11, 13, False),  # another default
        ("Dropout", 10, 12, False),  # ratio became an input
    ],
)
def test_which_versions_take_the_same(op_type, old, new, same):
    schemas = (onnx.defs.get_schema(op_type, version) for version in (old, new))
    assert expand_operators._takes_the_same(*schemas) is same
