"""What is made from the table of checks, the page about audits, and what CI systems are given."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import click
import pytest
import yaml

from audit.conftest import ROOT
from audit.defects import DEFECTS
from intrain_onnx.audit import policy, reference
from intrain_onnx.audit.fields import fields_of
from intrain_onnx.audit.formats import FORMATS, json_document
from intrain_onnx.audit.table import CHECKS, SEVERITIES
from intrain_onnx.cli import main
from intrain_onnx.report import document

PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
PAGES = ["docs/audit.md", "docs/tutorial.md", "docs/how-to-read-the-score.md", "docs/schemas/README.md"]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def test_a_page_without_a_place_for_the_reference_is_refused():
    with pytest.raises(ValueError, match="lacks"):
        reference.with_reference("nothing")


def test_every_check_says_what_it_is():
    for name, check in CHECKS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert name == check.id
        assert check.severity in SEVERITIES
        assert check.title[0].isupper()
        assert all(text.endswith(".") for text in (check.explanation, check.remedy))
        assert all(field.help for field in fields_of(check.options).values())
        assert check.run.__annotations__["options"] == check.options.__name__


def test_advice_leads_to_a_command_that_there_is():
    """With the options that it has; where layers are to be compared, to the one that shows them."""
    told = [
        (name, shlex.split(command)) for name, check in CHECKS.items()
        for command in re.findall(r"`intrain-onnx ([^`]+)`", check.explanation + check.remedy)
    ]  # fmt: skip
    assert len(told) > 5
    for name, (command, *arguments) in told:
        options = {o for p in main.commands[command].params for o in p.opts}
        assert {a for a in arguments if a.startswith("-")} <= options, name
    compared = {n: c for n, c in told if c[0] == "compare"}
    assert all("--reports" in c for c in compared.values())
    assert {"score-regression", "low-participation"} <= compared.keys()


def test_the_examples_of_policies_are_valid():
    blocks = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    whole, *parts = map(policy.parse, blocks)
    assert whole.deploy == "float16"
    assert all(part.run.providers or part.rules["signature"] for part in parts)


def test_options_formats_and_exit_codes_are_on_the_page():
    command = main.commands["audit"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for option in command.params:
        if isinstance(option, click.Option):
            assert any(name in PAGE + readme for name in option.opts)
    assert all(f"| `{name}` |" in PAGE for name in (*FORMATS, "terminal"))
    codes = json_document.schema()["$defs"]["Audit"]["properties"]["exit_code"]["enum"]
    told = {int(n) for row in re.findall(r"^\| ([\d, ]+) \|", PAGE, re.MULTILINE) for n in row.split(",")}
    assert told == set(codes)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", text):
        file = (ROOT / page).parent / target if target else ROOT / page
        if not re.match(r"[a-z]+:", target):
            assert file.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor[1:] in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_schemas_are_packaged_and_say_their_version():
    folder = ROOT / "docs" / "schemas" / "README.md"
    text = folder.read_text(encoding="utf-8")
    packaged = resources.files("intrain_onnx")
    for name, schema in (("report", document.schema()), ("audit/audit", json_document.schema())):
        file = packaged.joinpath(f"{name}.schema.json")
        assert json.loads(file.read_text(encoding="utf-8")) == schema
        assert f"intrain_onnx/{name}.schema.json" in text
        version = schema["properties"]["schema_version"]["const"]
        assert schema["$id"] == f"urn:intrain-onnx:{name.rpartition('/')[2]}:{version}"


def test_the_picture_fetches_nothing_and_shows_what_is_printed():
    picture = (ROOT / "docs" / "audit.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' )]+", picture)) == {"http://www.w3.org/2000/svg"}
    for word in ("dead-layers", "failed", "model.onnx"):
        assert word in picture


def test_the_hook_runs_the_command():
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"].split() == ["intrain-onnx", "audit"]
    assert re.search(hook["files"], "models/a.onnx")
    assert not re.search(hook["files"], "models/a.onnx.json")


def test_the_workflow_on_the_page_uses_inputs_that_the_action_has():
    workflow = yaml.safe_load(
        re.findall(r"^```yaml\n(name: models.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    )
    used = workflow["jobs"]["audit"]["steps"][-1]["with"]
    assert set(used) <= set(ACTION["inputs"])
    assert all(step.get("shell") == "bash" for step in ACTION["runs"]["steps"] if "run" in step)


def test_no_input_is_pasted_into_a_script():
    """An input is a variable of the script: as text it could be code."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("models", "fail", "code"),
    [
        ("samples/jax_*.onnx\n", "true", 0),
        ("samples/jax_cnn.onnx\n  $(touch pwned).onnx  \n", "true", 3),
        ("broken model.onnx", "true", 1),
        ("broken model.onnx", "false", 0),
        ("nothing/*.onnx", "false", 3),
    ],
)
def test_the_script_of_the_action(models: str, fail: str, code: int, tmp_path: Path):
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    shutil.copy(ROOT / "samples" / "jax_cnn.onnx", tmp_path / "broken model.onnx")
    limit = 10 if "broken" in models else 10**9
    policy_text = f"[run]\nseeds = 1\nbatch = 4\nthreads = 1\n[checks.parameter-count]\nmax = {limit}\n"
    (tmp_path / "policy.toml").write_text(policy_text)
    [script] = [s["run"] for s in ACTION["runs"]["steps"] if s.get("id") == "audit"]
    variables = {"MODELS": models, "POLICY": "policy.toml", "BASELINE": "", "FAIL": fail, "JUNIT": "a.xml"}
    variables |= {"SARIF": "a.sarif", "GITHUB_OUTPUT": "outputs"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "pwned").exists()
    assert (tmp_path / "outputs").read_text().startswith("exit-code=")
    runs = json.loads((tmp_path / "a.sarif").read_text())["runs"]
    assert len(runs[0]["invocations"]) == (2 if models.startswith("samples") else 1)
    assert (tmp_path / "a.xml").is_file()


def test_the_library_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.chdir(ROOT)
    [example] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(example, "docs/audit.md", "exec"), {})
    assert capsys.readouterr().out == "True []\n"


def test_every_seeded_defect_is_on_the_page_and_found():
    part = PAGE.split("<!-- figures: begin -->")[1]
    rows: dict[str, str] = {}
    for row in part.splitlines():
        rows.setdefault(row.split(" | ")[0].removeprefix("| "), row)
    for defect in DEFECTS:
        assert f"`{defect.check}`" in rows[defect.name]
        assert "missed" not in rows[defect.name]
    assert f"{len(DEFECTS)} of {len(DEFECTS)} defects are found" in PAGE


def test_the_action_follows_the_schema_of_github():
    asked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-actions"]
    done = subprocess.run([*asked, str(ROOT / "action.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
