"""Where models come from: folders, globs, manifests, stores; each is listed once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from intrain_onnx.errors import SettingsError
from intrain_onnx.rank.sources import Candidate, candidates


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.onnx", "a.onnx", "deep/er/c.onnx", "deep/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(found: list[Candidate], folder: Path) -> list[str]:
    return [os.path.relpath(c.model, folder) for c in found]


def test_a_folder_is_searched_in_depth(folder: Path):
    assert names(candidates([str(folder)]), folder) == ["a.onnx", "b.onnx", "deep/er/c.onnx"]


def test_globs_and_files_and_folders_name_a_model_once(folder: Path):
    (folder / "link.onnx").symlink_to(folder / "a.onnx")
    found = candidates(
        [str(folder / "b.onnx"), str(folder / "*.onnx"), str(folder / "**/*.onnx"), str(folder)]
    )
    assert names(found, folder) == ["b.onnx", "a.onnx", "deep/er/c.onnx"]


def test_a_name_of_brackets_is_a_file_before_it_is_a_glob(folder: Path):
    (folder / "a[1].onnx").touch()
    assert names(candidates([str(folder / "a[1].onnx")]), folder) == ["a[1].onnx"]


def test_a_file_that_is_no_text_is_listed(folder: Path):
    name = os.fsdecode(b"\xff.onnx")
    (folder / name).touch()
    assert name in names(candidates([str(folder)]), folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", '\ufeffmodel,accuracy,note\nb.onnx,0.5,"x, y"\ndeep/er/c.onnx,0.25,\n'),
        (
            "list.jsonl",
            '{"model": "b.onnx", "accuracy": 0.5, "note": "x, y"}\n\n'
            '{"model": "deep/er/c.onnx", "accuracy": 0.25, "note": ""}\n',
        ),
    ],
)
def test_a_manifest_is_relative_to_its_folder_and_keeps_its_columns(folder: Path, name: str, text: str):
    (folder / name).write_text(text, encoding="utf-8")
    found = candidates([str(folder / name)])
    assert names(found, folder) == ["b.onnx", "deep/er/c.onnx"]
    assert [dict(c.given) for c in found] == [
        {"accuracy": "0.5", "note": "x, y"},
        {"accuracy": "0.25", "note": ""},
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none", "", "does not exist"),
        ("no*thing", "", "holds no model"),
        ("bad.csv", "path\na.onnx\n", "row 1 has no 'model'"),
        ("bad.csv", b"\xff\xfe", "cannot be read"),
        ("bad.csv", "model\n" + "x" * 200_000, "cannot be read"),
        ("bad.jsonl", "[1]\n", "is not an object"),
        ("bad.jsonl", "[" * 200_000, "cannot be read"),
        ("bad.jsonl", '{"model": 1e999}\n', ""),
        ("empty.csv", "", "holds no model"),
    ],
)
def test_what_is_no_source_is_told(tmp_path: Path, name: str, text: str | bytes, says: str):
    if text:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    elif name.endswith(".csv"):
        (tmp_path / name).touch()
    if says:
        with pytest.raises(SettingsError, match=says):
            candidates([str(tmp_path / name)])
    else:
        assert len(candidates([str(tmp_path / name)])) == 1


def test_a_store_is_listed(folder: Path):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe({"/models/a.onnx": b"a", "/models/deep/b.onnx": b"b", "/models/c.txt": b"c"})
    assert [c.model for c in candidates(["memory://models/"])] == [
        "memory:///models/a.onnx",
        "memory:///models/deep/b.onnx",
    ]
    assert [c.model for c in candidates(["memory://models/*.onnx"])] == ["memory:///models/a.onnx"]
    assert [c.model for c in candidates(["memory://models/a.onnx"])] == ["memory://models/a.onnx"]
    with pytest.raises(SettingsError, match="holds no model"):
        candidates(["memory://nothing/"])
    with pytest.raises(SettingsError, match="nosuchstore"):
        candidates(["nosuchstore://bucket/"])
