"""The command: exit codes, outputs, baselines, and what it explains."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from audit.conftest import ROOT
from audit.defects import DEFECTS
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.cli import main
from intrain_onnx.loading import load
from intrain_onnx.rewrites import network

SAMPLE = str(ROOT / "samples" / "jax_cnn.onnx")
OTHER = str(ROOT / "samples" / "pytorch_resnet_dynamo.onnx")
QUICK = "[run]\nseeds = 1\nbatch = 8\nthreads = 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "quick.toml").write_text(QUICK)
    (tmp_path / "strict.toml").write_text(f"{QUICK}[checks.parameter-count]\nmax = 10\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audit(*arguments: str, policy: str | None = "quick.toml") -> Result:
    return CliRunner().invoke(main, ["audit", *arguments, *(("--policy", policy) if policy else ())])


def score(model: str, *arguments: str) -> None:
    done = CliRunner().invoke(
        main, ["score", model, "--seeds", "3", "--batch", "8", "--no-parity", *arguments]
    )
    assert done.exit_code == 0, done.output


def test_a_model_that_passes(folder: Path):
    done = audit(SAMPLE)
    assert done.exit_code == 0, done.output
    assert "passed" in done.output


@pytest.mark.parametrize("given", [(), ("--input", "{name}=0.5"), ("--input", "{name}=@given.npy")])
def test_a_file_is_loaded_and_normalised_once(folder: Path, given: tuple[str, ...]):
    """For two protocols, the ranges and the static checks, with what is given too."""
    (image,) = onnx.load(SAMPLE).graph.input
    shape = [d.dim_value or 2 for d in image.type.tensor_type.shape.dim]
    np.save(folder / "given.npy", np.random.default_rng(0).random(shape, np.float32))
    options = [option.format(name=image.name) for option in given]
    with (
        mock.patch.object(load, "_load", wraps=load._load) as loads,
        mock.patch.object(network, "normalise", wraps=network.normalise) as normalised,
    ):
        done = audit(SAMPLE, *options)
    assert "Traceback" not in done.output
    assert (loads.call_count, normalised.call_count) == (1, 1), done.output


def test_a_policy_that_is_violated(folder: Path):
    done = audit(SAMPLE, policy="strict.toml")
    assert done.exit_code == 1
    assert "parameter-count" in done.output


def test_the_first_that_fails_gives_the_code(folder: Path):
    (folder / "empty.onnx").write_bytes(b"")
    assert audit("empty.onnx", SAMPLE, policy="strict.toml").exit_code == 3
    assert audit(SAMPLE, "empty.onnx", policy="strict.toml").exit_code == 1
    assert audit(SAMPLE, "empty.onnx").exit_code == 3


def test_a_waiver_of_one_model_and_the_counts_of_several(folder: Path):
    """Each model is judged in a process of its own, and the run where all results are."""
    (folder / "unused.toml").write_text(
        f'fail_on = "note"\n{QUICK}[checks.batch-norm-folded]\nseverity = "off"\n'
        '[[waivers]]\ncheck = "macs"\nmodel = "*resnet*"\nreason = "x"\n'
    )
    alone = audit(SAMPLE, "--no-parity", policy="unused.toml")
    assert (alone.exit_code, alone.output.splitlines()[-1]) == (
        0,
        "1 of 1 passed: 0 errors, 0 warnings, 0 notes, 0 waived",
    )
    done = audit(SAMPLE, OTHER, "--no-parity", "-o", "json=a.json", policy="unused.toml")
    assert done.exit_code == 1
    assert done.output.splitlines()[-3:] == [
        f"passed  {SAMPLE}",
        f"passed  {OTHER}",
        "2 of 2 passed, waivers failed: 0 errors, 0 warnings, 1 note, 0 waived",
    ]
    document = json.loads(Path("a.json").read_text())
    assert [f["place"] for f in document["findings"]] == ["waiver of macs at * in *resnet*"]
    assert (document["passed"], [a["passed"] for a in document["audits"]]) == (False, [True, True])


def test_a_file_that_cannot_be_loaded_is_in_every_output(folder: Path):
    done = audit(
        "missing.onnx", "-o", "sarif=a.sarif", "-o", "junit=a.xml", "-o", "json=a.json", "-o", "html=a.html"
    )
    assert done.exit_code == 3
    assert "error: missing.onnx" in done.stderr
    [result] = json.loads(Path("a.sarif").read_text())["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("not-loaded", "error")
    assert "<error" in Path("a.xml").read_text()
    assert json.loads(Path("a.json").read_text())["audits"][0]["error"].startswith("missing.onnx")
    assert "not-loaded" in Path("a.html").read_text()


def test_a_model_that_fails_to_run_is_a_finding(folder: Path):
    onnx.save(next(d for d in DEFECTS if d.check == "custom-ops").model(), "custom.onnx")
    done = audit("custom.onnx")
    assert done.exit_code == 1
    assert "custom-ops" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--policy", "missing.toml"),
        ("--baseline", "missing.json", "--policy", "quick.toml"),
        ("-o", "pdf=x"),
        ("-o", "sarif"),
        ("-o", "sarif=no/such/folder/a"),
        ("--format", "pdf"),
        ("--explain", "no-such"),
        ("--input-shape", "x"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], folder: Path):
    done = audit(SAMPLE, *arguments, policy=None)
    assert done.exit_code == (3 if "missing.json" in arguments else 2), done.output


def test_a_model_is_needed():
    assert CliRunner().invoke(main, ["audit"]).exit_code == 2


def test_an_input_shape_that_does_not_fit_is_a_setting(folder: Path):
    assert audit(SAMPLE, "--input-shape", "no-such:1x2").exit_code == 2


def test_an_error_inside_has_a_code_of_its_own(folder: Path):
    with mock.patch("intrain_onnx.audit.run.judge", side_effect=RuntimeError("boom")):
        done = audit(SAMPLE, "-o", "sarif=a.sarif")
    assert done.exit_code == 70
    assert "internal error: RuntimeError: boom" in done.output
    assert "internal error" in Path("a.sarif").read_text()
    with mock.patch("intrain_onnx.audit.run.judge", side_effect=RuntimeError("boom")):
        assert "Traceback" in audit(SAMPLE, "--debug").output
    with mock.patch("intrain_onnx.audit.formats.terminal.draw", side_effect=RuntimeError("boom")):
        assert audit(SAMPLE).exit_code == 70


@pytest.mark.parametrize("name", ["json", "sarif", "junit", "github", "html"])
def test_formats_on_standard_output(name: str, folder: Path):
    done = audit(SAMPLE, "--format", name)
    assert done.exit_code == 0
    assert done.stdout.startswith(
        {"json": "{", "sarif": "{", "junit": "<?xml", "github": "intrain", "html": "<!"}[name]
    )


def test_explain():
    listed = CliRunner().invoke(main, ["audit", "--explain", "list"]).output
    assert all(name in listed for name in CHECKS)
    assert len(listed.splitlines()) == len(CHECKS)
    everything = CliRunner().invoke(main, ["audit", "--explain", "all"]).output
    assert all(check.title in everything for check in CHECKS.values())
    one = CliRunner().invoke(main, ["audit", "--explain", "opset-range"])
    assert one.exit_code == 0
    assert "min = 7" in one.output
    assert "What to do" in one.output


@pytest.mark.parametrize("protocol", ["checkpoint", "architecture"])
def test_the_same_model_does_not_regress(protocol: str, folder: Path):
    score(SAMPLE, "--protocol", protocol, "-o", "baseline.json")
    done = audit(SAMPLE, "--baseline", "baseline.json", "--format", "json")
    assert done.exit_code == 0, done.output
    outcomes = {c["id"]: c["outcome"] for c in json.loads(done.stdout)["audits"][0]["checks"]}
    assert [outcomes[n] for n in ("baseline-settings", "architecture-changed", "score-regression")] == [
        "passed"
    ] * 3


def test_a_score_that_fell_is_a_regression(folder: Path):
    score(OTHER, "--protocol", "checkpoint", "-o", "baseline.json")
    onnx.save(next(d for d in DEFECTS if d.check == "low-participation").model(), "worse.onnx")
    done = audit("worse.onnx", "--baseline", "baseline.json")
    assert done.exit_code == 1
    assert "score-regression" in done.output
    assert "architecture-changed" not in done.output


def test_another_architecture_than_the_baseline(folder: Path):
    score(OTHER, "--protocol", "checkpoint", "-o", "baseline.json")
    done = audit(SAMPLE, "--baseline", "baseline.json")
    assert done.exit_code == 1
    assert "architecture-changed" in done.output


def test_a_folder_of_baselines(folder: Path):
    score(SAMPLE, "--protocol", "checkpoint", "-o", str(folder))
    assert audit(SAMPLE, "--baseline", ".").exit_code == 0
    assert audit(SAMPLE, OTHER, "--baseline", ".").exit_code == 2
    assert audit(SAMPLE, OTHER, "--baseline", "jax_cnn.intrain.json").exit_code == 2


def test_a_baseline_of_another_protocol_is_not_compared(folder: Path):
    score(SAMPLE, "--protocol", "paper", "-o", "baseline.json")
    done = audit(SAMPLE, "--baseline", "baseline.json")
    assert done.exit_code == 0
    assert "baseline-settings" in done.output


@pytest.mark.parametrize("how", [("-o", "cyclonedx=bom.json"), ("--format", "cyclonedx")])
def test_a_bill_of_materials_needs_its_extra(how: tuple[str, str], folder: Path):
    """It is said before a model is measured, with the command that installs it."""
    with (
        mock.patch("importlib.util.find_spec", return_value=None),
        mock.patch("intrain_onnx.audit.run.gather", side_effect=AssertionError),
    ):
        done = audit(SAMPLE, *how)
    assert done.exit_code == 2
    assert "pip install 'intrain-onnx[bom]'" in done.stderr
    assert not (folder / "bom.json").exists()
