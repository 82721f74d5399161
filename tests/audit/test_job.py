"""``audit_model``: an audit as a call."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import intrain_onnx
from audit.conftest import ROOT
from intrain_onnx.errors import SettingsError

QUICK = "[run]\nseeds = 1\nbatch = 4\nparity = false\n"


def test_a_call_is_the_command(tmp_path: Path):
    policy = tmp_path / "policy.toml"
    policy.write_text(f'{QUICK}\n[checks.parameter-count]\nseverity = "error"\nmax = 100\n', encoding="utf-8")
    result = intrain_onnx.audit_model(str(ROOT / "samples" / "jax_cnn.onnx"), policy)
    assert not result.passed
    assert "parameter-count" in result.to_frame()["check"].tolist()
    assert repr(result).startswith("<Audit of ")


def test_a_file_that_is_no_model_is_a_result(tmp_path: Path):
    file = tmp_path / "a.onnx"
    file.write_bytes(b"PK\x03\x04")
    result = intrain_onnx.audit_model(file)
    assert result.exit_code == 3
    assert result.to_frame()["check"].tolist() == ["not-loaded"]


def test_a_policy_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nothing\.toml"):
        intrain_onnx.audit_model(ROOT / "samples" / "jax_cnn.onnx", tmp_path / "nothing.toml")


def test_a_finding_at_a_layer_names_its_module_where_its_node_does_not(tmp_path: Path):
    """A Keras engineer knows mobile_1/conv2d_9_1; tf2onnx called the node Conv__169."""
    proto = onnx.load(ROOT / "samples" / "keras_mobile.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("mobile_1/conv2d_9_1/"):
            tensor.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(proto, tmp_path / "dead.onnx")
    policy = tmp_path / "policy.toml"
    policy.write_text(QUICK, encoding="utf-8")
    result = intrain_onnx.audit_model(tmp_path / "dead.onnx", policy)
    told = {f.found.place: f.found.message for f in result.findings if f.check == "collapsed"}
    assert set(told) == {"Conv__169", "Conv__179"}
    assert told["Conv__169"].endswith("(module mobile_1/conv2d_9_1)")
