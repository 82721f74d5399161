"""The bill of materials: valid by the library's own validator, complete, and the same each time."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from builders import model, weight
from click.testing import CliRunner
from onnx import helper

from audit.conftest import ROOT, TODAY, quick
from audit.test_formats import HOSTILE
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.formats import bom
from intrain_onnx.audit.run import Audits, Result, audit, judge
from intrain_onnx.cli import main
from intrain_onnx.errors import SettingsError

cyclonedx = pytest.importorskip("cyclonedx", reason="the extra `bom` is not installed")

PROPS = {
    "model_license": "MIT",
    "model_author": "A. One, B. Two",
    "version": "1.2",
    "datasets": "imagenet, coco",
}


def valid(text: str) -> Any:
    """The document, which the validator of the library takes."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return json.loads(text)


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {p["name"]: p["value"] for p in component.get("properties", ())}


@pytest.fixture
def described(tmp_path: Path) -> Result:
    """A model with metadata and external data."""
    proto = model("(float[N,8] x) => (float[N,4] y) { a = MatMul(x, w) y = Relu(a) }", {"w": weight(8, 4)})
    helper.set_model_props(proto, PROPS)
    proto.producer_name, proto.producer_version = "maker", "3.1"
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    return audit(tmp_path / "net.onnx", quick(), today=TODAY)


def test_a_model_with_metadata_and_external_data(described: Result, tmp_path: Path):
    document = valid(bom.write(Audits.of([described])))
    (component,) = (c for c in document["components"] if c["type"] == "machine-learning-model")
    assert component["name"] == "net.onnx"
    assert component["version"] == "1.2"
    assert [a["name"] for a in component["authors"]] == ["A. One", "B. Two"]
    assert component["licenses"][0]["license"]["id"] == "MIT"

    def digest(file: str) -> list[dict[str, str]]:
        return [{"alg": "SHA-256", "content": hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()}]

    assert component["hashes"] == digest("net.onnx")
    (weights,) = component["components"]
    assert (weights["name"], weights["type"], weights["hashes"]) == ("net.bin", "file", digest("net.bin"))
    told = properties(component)
    assert told["intrain-onnx:producer"] == "maker 3.1"
    assert told["intrain-onnx:opset:ai.onnx"] == "20"
    assert told["intrain-onnx:parameters"] == "32"
    assert described.evidence is not None
    score = described.evidence.reports["checkpoint"].intrain
    assert float(told["intrain-onnx:score:checkpoint"]) == pytest.approx(score, rel=1e-5)
    data = {c["bom-ref"]: c["name"] for c in document["components"] if c["type"] == "data"}
    assert sorted(data.values()) == ["coco", "imagenet"]
    (depends,) = (d for d in document["dependencies"] if d["ref"] == component["bom-ref"])
    assert sorted(depends["dependsOn"]) == sorted(data)


def test_findings_are_properties(healthy: Evidence):
    strict = quick("[checks.parameter-count]\nmax = 10")
    (component,) = valid(bom.write(Audits.of([judge(healthy, strict, TODAY)])))["components"]
    told = properties(component)
    assert told["intrain-onnx:passed"] == "false"
    assert told["intrain-onnx:finding:parameter-count"].startswith("error: 77,")


@pytest.mark.parametrize("licence", ["AGPL-3.0 License (https://example.org)", "MIT OR Apache-2.0", *HOSTILE])
def test_any_text_of_a_file_gives_a_valid_document(licence: str, healthy: Evidence):
    props = {"license": licence, "author": licence, "datasets": licence, "description": licence, licence: "x"}
    changed = replace(healthy, path=licence, deployment=replace(healthy.deployment, metadata=props))
    valid(bom.write(Audits.of([judge(changed, quick(), TODAY)] * 2)))


def test_one_document_for_several_models(described: Result, healthy: Evidence, tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"PK\x03\x04")
    broken = audit(tmp_path / "broken.onnx", quick(), today=TODAY)
    again = judge(replace(healthy, path="copy.onnx"), quick(), TODAY)
    document = valid(bom.write(Audits.of([judge(healthy, quick(), TODAY), again, described, broken])))
    models = [c for c in document["components"] if c["type"] == "machine-learning-model"]
    assert sorted(c["name"] for c in models) == [
        "broken.onnx", "copy.onnx", "net.onnx", "pytorch_resnet_dynamo.onnx"
    ]  # fmt: skip
    assert len({c["bom-ref"] for c in models}) == 4
    (lost,) = (c for c in models if c["name"] == "broken.onnx")
    assert "hashes" not in lost
    assert "intrain-onnx:error" in properties(lost)


def test_the_document_depends_on_what_it_says_alone(
    described: Result, healthy: Evidence, monkeypatch: pytest.MonkeyPatch
):
    results = [described, judge(healthy, quick(), TODAY)]
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    plain = bom.write(Audits.of(results))
    assert bom.write(Audits.of([replace(r, seconds=9.0) for r in results])) == plain
    assert "timestamp" not in json.loads(plain)["metadata"]
    other = json.loads(bom.write(Audits.of(results[:1])))["serialNumber"]
    assert other != json.loads(plain)["serialNumber"]
    assert uuid.UUID(other.removeprefix("urn:uuid:")).version == 5
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    dated = valid(bom.write(Audits.of(results)))
    assert dated["metadata"].pop("timestamp") == "2023-11-14T22:13:20+00:00"
    assert dated == json.loads(plain)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(SettingsError, match="SOURCE_DATE_EPOCH is soon"):
        bom.write(Audits.of(results))


def test_the_command_writes_it(tmp_path: Path):
    arguments = ["audit", str(ROOT / "samples" / "jax_cnn.onnx"), "--seeds", "1", "--batch", "8"]
    done = CliRunner().invoke(main, [*arguments, "-o", f"cyclonedx={tmp_path / 'bom.json'}"])
    assert done.exit_code == 0, done.output
    assert valid((tmp_path / "bom.json").read_text(encoding="utf-8"))["bomFormat"] == "CycloneDX"
