"""The fetcher without a network: counting, looking up, and what tests do when a model is missing."""

from collections import Counter
from pathlib import Path

import onnx
import pytest

from . import MissingModel, fetch, require


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INTRAIN_ONNX_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("file", sorted((fetch.ROOT / "samples").glob("*.onnx")), ids=lambda file: file.stem)
def test_operators_are_those_that_onnx_reads(file: Path):
    graph = onnx.load(file).graph
    assert fetch.operators(file) == Counter(node.op_type for node in graph.node)


def test_light_models_come_from_the_onnx_package():
    assert len(fetch.light()) == 9
    assert require("light_resnet50") == fetch.models()["light_resnet50"]


def test_a_fetched_model_is_found(cache):
    file = fetch.target("nudenet")
    assert file.parent == cache
    assert "nudenet" not in fetch.models()
    file.touch()
    assert fetch.path("nudenet") == file == fetch.models()["nudenet"]


def test_a_changed_recipe_is_another_file(cache, monkeypatch):
    before = fetch.target("nudenet")
    monkeypatch.setitem(
        fetch.MODELS, "nudenet", fetch.Packaged("nudenet==3.4.2", "nudenet/320n.onnx", "0" * 64)
    )
    assert fetch.target("nudenet") != before


def test_a_missing_model_fails_in_ci_and_skips_elsewhere(cache, monkeypatch):
    with pytest.raises(MissingModel, match="--only nudenet"):
        fetch.path("nudenet")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="--only nudenet"):
        require("nudenet")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="--only nudenet"):
        require("nudenet")


def test_an_unknown_model_is_refused():
    with pytest.raises(MissingModel, match="no_such_model"):
        fetch.path("no_such_model")


def test_a_file_with_another_hash_is_refused(cache, monkeypatch):
    wheels = cache / "wheels" / "nudenet==3.4.2"
    wheels.mkdir(parents=True)
    with fetch.zipfile.ZipFile(wheels / "nudenet.whl", "w") as archive:
        archive.writestr("nudenet/320n.onnx", b"something else")
    with pytest.raises(MissingModel, match="has the SHA-256"):
        fetch.fetch("nudenet")
    assert "nudenet" not in fetch.models()
