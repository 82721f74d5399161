"""`diff`, and `audit --reference`: exit codes, documents, errors that name what to do."""

from __future__ import annotations

import html
import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from diff.conftest import SAMPLES
from diff.ruins import RUINS
from diff.test_run import cnn
from intrain_onnx.cli import main
from intrain_onnx.diff import formats

FIRST, SECOND = (str(SAMPLES / f"pytorch_resnet_{name}.onnx") for name in ("training", "torchscript"))
QUICK = "[run]\nseeds = 1\nbatch = 8\nthreads = 1\nparity = false\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments], catch_exceptions=False)


@pytest.fixture
def ruined(tmp_path: Path) -> Path:
    proto = onnx.load(FIRST)
    assert RUINS["middle layer shuffled"](proto, np.random.default_rng(0))
    onnx.save(proto, tmp_path / "ruined.onnx")
    return tmp_path / "ruined.onnx"


def test_the_same_network_ends_with_0():
    done = run("diff", FIRST, SECOND, "--threads", "1")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("the same network, within the thresholds\n")
    assert "InTrain 36.7" in done.output


def test_a_file_beside_itself_is_the_same():
    done = run("diff", FIRST, FIRST, "--no-score", "--threads", "1")
    assert done.exit_code == 0
    assert done.output.splitlines()[0] == "the same network"


def test_a_ruined_file_ends_with_7_and_names_the_layer(ruined: Path):
    done = run("diff", FIRST, str(ruined), "--no-score", "--threads", "1")
    assert done.exit_code == 7
    assert done.output.startswith("not the same network: ")
    assert "they part at layer node_Conv_137" in done.output


def test_documents_follow_the_schema(ruined: Path, tmp_path: Path):
    file = tmp_path / "diff.json"
    done = run("diff", FIRST, str(ruined), "--threads", "1", "--format", "json", "-o", f"json={file}")
    assert done.exit_code == 7
    data = json.loads(file.read_text())
    assert json.loads(done.stdout) == data
    jsonschema.Draft202012Validator(formats.schema()).validate(data)
    assert not data["passed"]
    assert data["parts_at"] == "node_Conv_137"
    assert {"order", "activations", "outputs"} <= {f["rule"] for f in data["findings"]}


def test_the_page_holds_what_the_document_says(ruined: Path, tmp_path: Path):
    """Names of a file cannot break out of it; every finding is on it, with the profile along depth."""
    proto = onnx.load(ruined)
    for node in proto.graph.node:
        node.name = node.name.replace("node_linear", "<script>alert(1)</script>")
    onnx.save(proto, tmp_path / "hostile.onnx")
    page, data = tmp_path / "diff.html", tmp_path / "diff.json"
    outputs = ("-o", f"html={page}", "-o", f"json={data}")
    assert run("diff", FIRST, str(tmp_path / "hostile.onnx"), "--threads", "1", *outputs).exit_code == 7
    text = page.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Not the same network" in text
    assert "They part</b> at layer node_Conv_137" in text
    assert text.count("<figure") == 2
    for row in json.loads(data.read_text())["findings"]:
        assert html.escape(row["message"]).replace("&#x27;", "&#39;") in text


def test_a_later_checkpoint_is_told(tmp_path: Path):
    for name, proto in (("a", cnn()), ("b", cnn(noise=0.1))):
        onnx.save(proto, tmp_path / f"{name}.onnx")
    files = str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")
    assert run("diff", *files, "--no-score").exit_code == 7
    assert run("diff", *files, "--no-score", "--expect", "checkpoint").exit_code == 0
    assert (
        run(
            "diff", *files, "--no-score", "--expect", "checkpoint", "--threshold", "weight_correlation=0.9999"
        ).exit_code
        == 7
    )


def test_real_samples_are_fed(tmp_path: Path):
    onnx.save(cnn(), tmp_path / "a.onnx")
    np.savez(tmp_path / "given.npz", x=np.ones((4, 3, 8, 8), np.float32))
    file = str(tmp_path / "a.onnx")
    done = run("diff", file, file, "--inputs", str(tmp_path / "given.npz"), "--no-score")
    assert "4 samples (x given)" in done.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing.onnx", FIRST), 3, "nothing.onnx"),
        ((FIRST, "nothing.onnx"), 3, "nothing.onnx"),
        ((FIRST, SECOND, "--threshold", "snr=3"), 2, "no threshold is called 'snr'"),
        ((FIRST, SECOND, "--threshold", "output_snr"), 2, "is not NAME=NUMBER"),
        ((FIRST, SECOND, "-o", "xml=x"), 2, "FORMAT is one of json, html"),
        ((FIRST, SECOND, "-o", f"json={FIRST}"), 2, "is the model"),
        ((FIRST, SECOND, "--input", "nothing=1"), 2, "nothing"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: tuple[str, ...], code: int, said: str):
    done = run("diff", *arguments)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert "Traceback" not in done.output


@pytest.fixture
def policy(tmp_path: Path) -> str:
    (tmp_path / "quick.toml").write_text(QUICK)
    return str(tmp_path / "quick.toml")


def test_an_audit_with_a_reference_fails_a_ruined_file(ruined: Path, policy: str):
    """Without one it passes: its statistics are as sound as before."""
    assert run("audit", str(ruined), "--policy", policy).exit_code == 0
    done = run("audit", str(ruined), "--policy", policy, "--reference", FIRST, "--format", "json")
    assert done.exit_code == 1
    (audit,) = json.loads(done.stdout)["audits"]
    found = {f["check"] for f in audit["findings"] if f["severity"] == "error"}
    assert found == {"reference-weights", "reference-activations", "reference-outputs"}


def test_another_structure_is_named(policy: str):
    longer = onnx.load(FIRST)
    (last,) = [n for n in longer.graph.node if n.op_type == "Gemm"]
    last.output[0] = "before"
    weights = numpy_helper.from_array(np.eye(10, dtype=np.float32), "identity")
    longer.graph.initializer.append(weights)
    longer.graph.node.append(helper.make_node("MatMul", ["before", "identity"], ["logits"], name="more"))
    file = Path(policy).with_name("longer.onnx")
    onnx.save(longer, file)
    done = run("audit", str(file), "--policy", policy, "--reference", FIRST, "--format", "json")
    (audit,) = json.loads(done.stdout)["audits"]
    structure = [(f["place"], f["message"]) for f in audit["findings"] if f["check"] == "reference-structure"]
    assert structure == [("more", "the reference has no such layer")]


def test_an_audit_with_a_reference_passes_another_export(policy: str):
    done = run("audit", SECOND, "--policy", policy, "--reference", FIRST, "--format", "json")
    assert done.exit_code == 0, done.output
    checks = {c["id"]: c["outcome"] for c in json.loads(done.stdout)["audits"][0]["checks"]}
    assert {v for k, v in checks.items() if k.startswith("reference-")} == {"passed"}


def test_without_a_reference_its_checks_are_not_passed(policy: str):
    done = run("audit", SECOND, "--policy", policy, "--format", "json")
    checks = {c["id"]: c["outcome"] for c in json.loads(done.stdout)["audits"][0]["checks"]}
    assert {v for k, v in checks.items() if k.startswith("reference-")} == {"not_checked"}


def test_thresholds_of_a_policy_hold(ruined: Path, tmp_path: Path):
    """The order of the values is no number; it is waived."""
    accepted = '[[waivers]]\ncheck = "reference-weights"\nlayer = "node_Conv_137"\nreason = "it is a test"\n'
    (tmp_path / "loose.toml").write_text(
        f"{QUICK}{accepted}[checks.reference-weights]\nweight_snr = -100\nweight_correlation = -1\n"
        "[checks.reference-activations]\nactivation_correlation = -1\n"
        "[checks.reference-outputs]\noutput_snr = -100\nagreement = 0\n"
    )
    done = run("audit", str(ruined), "--policy", str(tmp_path / "loose.toml"), "--reference", FIRST)
    assert done.exit_code == 0, done.output


def test_a_folder_of_references(ruined: Path, policy: str, tmp_path: Path):
    folder = tmp_path / "references"
    folder.mkdir()
    missing = run("audit", str(ruined), "--policy", policy, "--reference", str(folder))
    assert missing.exit_code == 2
    assert "has no ruined.onnx" in missing.output
    (folder / "ruined.onnx").write_bytes(Path(FIRST).read_bytes())
    assert run("audit", str(ruined), "--policy", policy, "--reference", str(folder)).exit_code == 1


def test_a_reference_that_cannot_be_read_fails_the_audit(tmp_path: Path, policy: str):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"\x00" * 100)
    done = run("audit", SECOND, "--policy", policy, "--reference", str(bad))
    assert done.exit_code == 1
    assert "reference not measured" in done.output
    assert run("audit", SECOND, "--policy", policy, "--reference", "nothing.onnx").exit_code == 2


def test_a_reference_of_another_size_fails_the_audit(tmp_path: Path, policy: str):
    other = cnn()
    onnx.save(other, tmp_path / "other.onnx")
    done = run("audit", SECOND, "--policy", policy, "--reference", str(tmp_path / "other.onnx"))
    assert done.exit_code == 1
    assert "reference not measured" in done.output
