"""Generated documents and tables are those that ``scripts/generate`` makes today."""

from __future__ import annotations

import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).parents[2]
SPEC = spec_from_loader("generate", SourceFileLoader("generate", str(ROOT / "scripts" / "generate")))
assert SPEC is not None
assert SPEC.loader is not None
generate = sys.modules["generate"] = module_from_spec(SPEC)  # its dataclass looks itself up there
SPEC.loader.exec_module(generate)


@pytest.mark.parametrize("file", generate.GENERATED, ids=lambda f: f.path)
def test_a_generated_file_is_not_stale(file: generate.Generated):
    elsewhere = file.elsewhere(generate.stored(file, ROOT))
    if elsewhere:
        pytest.skip(elsewhere)
    assert not generate.is_stale(file), f"run `scripts/generate {file.path}`"


def test_a_file_has_one_row():
    paths = [file.path for file in generate.GENERATED]
    assert sorted(set(paths)) == sorted(paths)


QUICK = [file.path for file in generate.GENERATED if not file.path.endswith(".svg")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what is generated quickly."""
    for path in QUICK:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    return tmp_path


def test_what_is_stale_is_named_with_the_command_and_written_anew(
    clone: Path, capsys: pytest.CaptureFixture[str]
):
    assert generate.main(["--check", *QUICK], clone) == 0
    assert capsys.readouterr().out == ""
    page = clone / "docs" / "audit.md"
    page.write_text(page.read_text(encoding="utf-8").replace("### dead-layers", "### dead"), encoding="utf-8")
    (clone / "docs" / "proxies.md").unlink()
    (clone / "intrain_onnx" / "report.schema.json").write_text("<<<<<<< HEAD")
    assert generate.main(["--check", *QUICK], clone) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{path} is stale: run `scripts/generate {path}`"
        for path in ("docs/proxies.md", "intrain_onnx/report.schema.json", "docs/audit.md")
    ]
    assert generate.main(QUICK, clone) == 0
    for path in QUICK:
        assert (clone / path).read_bytes() == (ROOT / path).read_bytes()


def test_only_what_is_generated_can_be_asked_for(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        generate.main(["README.md"])
    assert "not generated: README.md. These are: intrain_onnx/" in capsys.readouterr().err


def test_a_page_of_another_onnx_is_not_compared():
    [page] = [file for file in generate.GENERATED if file.path == "docs/operators.md"]
    text = generate.stored(page, ROOT)
    assert page.elsewhere(re.sub(r"of onnx \S+ ", f"of onnx {onnx.__version__} ", text)) == ""
    assert page.elsewhere(re.sub(r"of onnx \S+ ", "of onnx 0.1 ", text)) == "written with onnx 0.1"


def test_a_picture_is_compared_by_its_words_and_counts():
    def picture(text: str) -> str:
        return f'<text x="0">{text.replace(" ", "&#160;")}</text>'

    words = generate.pictures.words
    assert words(picture("InTrain 92.7 ± 1.55, 36 checks (share 12.8%)")) == [
        "InTrain", "±", "36", "checks", "(share"
    ]  # fmt: skip
    assert words(picture("InTrain 92.71 ±  1.5")) == words(picture("InTrain 92.7 ± 1.55"))
    assert words(picture("36 checks")) != words(picture("37 checks"))
