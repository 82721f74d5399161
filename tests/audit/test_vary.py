"""Variation of the inputs: when it is done, what it changes, and that it repeats."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import onnx
import pytest

from audit import sound
from audit.conftest import ROOT, TODAY, quick
from intrain_onnx.audit import vary
from intrain_onnx.audit.gather import gather
from intrain_onnx.audit.policy import Policy
from intrain_onnx.audit.rows import VariedRow
from intrain_onnx.audit.run import Result, audit


def audited(proto: onnx.ModelProto, folder: Path, policy: Policy | None = None) -> Result:
    onnx.save(proto, folder / "model.onnx")
    return audit(folder / "model.onnx", policy or quick(), today=TODAY)


def test_a_healthy_network_is_not_run_again():
    with mock.patch.object(vary, "vary", wraps=vary.vary) as varied:
        evidence = gather(ROOT / "samples" / "jax_cnn.onnx", quick())
    assert not varied.called
    assert evidence.ranges is not None
    assert evidence.ranges.varied == ()


def test_the_document_says_what_was_varied_and_what_woke(tmp_path: Path):
    row = audited(sound.hidden_positions(), tmp_path).row()
    assert row.varied == (
        VariedRow("other noise and ids", ("x",), ()),
        VariedRow("masks inverted", ("mask",), ("e",)),
    )


def test_it_ends_after_a_few_runs_and_repeats(tmp_path: Path):
    proto = sound.mask_embedding("g = Mul(has_mask_input, zero)")
    first, second = (audited(proto, tmp_path).data() for _ in range(2))
    assert 1 < len(first["varied"]) <= 6
    assert all(run["woke"] == [] for run in first["varied"])
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_what_is_given_is_not_varied(tmp_path: Path):
    """With a mask that is given as True everywhere, no other mask is tried."""
    policy = quick("[run.inputs]\nhas_mask_input = 1.0")
    result = audited(sound.mask_embedding(), tmp_path, policy)
    assert {name for run in result.row().varied for name in run.inputs} == {"x"}
    assert "dead-layers" in [f.check for f in result.findings]


@pytest.mark.parametrize("closed", ["q = Mul(e, zero)", "b = Greater(e, zero) q = Where(b, zero, zero)"])
def test_only_what_is_selected_away_is_unread(closed: str, tmp_path: Path):
    """NaN in place of the layer tells a selection from a product; large numbers tell it from a comparison."""
    checks = {f.check for f in audited(sound.unread_points(closed), tmp_path).findings}
    assert "unread-layers" not in checks


def test_a_variation_that_cannot_be_run_wakes_nothing(tmp_path: Path):
    """A control of zero makes the axis empty that a product needs."""
    proto = sound.net(
        """(float[N,6] x, float[1] keep) => (float[N,4] y) {
        h = MatMul(x, w) k = Mul(keep, six) i = Cast<to = 7>(k) s = Concat<axis = 0>(free, i)
        z = Reshape(x, s) g = MatMul(z, w) c = Mul(g, zero) e = MatMul(c, r) f = Mul(e, zero) a = Add(h, f)
        t = Tanh(a) y = MatMul(t, v) }""",
        six=sound.np.float32(6), free=sound.np.array([-1]),
    )  # fmt: skip
    row = audited(proto, tmp_path).row()
    assert [run.woke for run in row.varied] == [()] * len(row.varied)
    assert not row.passed
