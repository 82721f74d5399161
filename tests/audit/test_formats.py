"""What the audit writes follows the schemas of its formats, also with hostile names, and is deterministic."""

from __future__ import annotations

import datetime
import io
import json
import random
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
import xmlschema
from report import mutations

from audit.conftest import ROOT, TODAY, quick
from intrain_onnx.audit.evidence import Evidence, Failure
from intrain_onnx.audit.facts import NodeFacts
from intrain_onnx.audit.fields import fields_of
from intrain_onnx.audit.formats import FORMATS, json_document, terminal
from intrain_onnx.audit.run import MOST_FINDINGS, Audits, Result, audit, judge
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import printable
from intrain_onnx.report.document import write_atomically

SCHEMAS = Path(__file__).parent / "schemas"
HOSTILE = (
    "a\nb::error file=x::y%0A%",
    "\x1b[2J\x07]0;title",
    "<script>alert(1)</script>&amp;]]>",
    "\u202egnp.exe",
    "\ud800 lone, : comma",
    "[bold]x[/bold] :smile:",
    "n" * 5000,
    "\x00\ufffe",
)
WAIVED = '[[waivers]]\ncheck = "custom-ops"\nreason = "<b>&\\n::error::"\nexpires = 2027-01-01\n'


@pytest.fixture(scope="module")
def results(healthy: Evidence, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """A model that passes, one full of hostile names, the same one waived, and one that cannot be loaded."""
    file = replace(healthy.file, foreign=tuple(NodeFacts(n, "Op", f"com.{n}") for n in HOSTILE))
    failure = Failure("UnsupportedError", HOSTILE[0], HOSTILE[1], HOSTILE[2])
    hostile = replace(
        healthy, path=HOSTILE[0] + HOSTILE[2] + HOSTILE[1], file=file, failures={"ranges": failure}
    )
    broken = tmp_path_factory.mktemp("broken") / "no model.onnx"
    broken.write_bytes(b"PK\x03\x04")
    return [
        judge(healthy, quick(), TODAY),
        judge(hostile, quick(), TODAY),
        judge(hostile, quick(WAIVED), TODAY),
        audit(broken, quick(), today=TODAY),
    ]


def test_json_follows_its_schema(results: list[Result]):
    schema = json_document.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads(FORMATS["json"](Audits.of(results)))
    jsonschema.Draft202012Validator(schema).validate(data)
    assert [a["passed"] for a in data["audits"]] == [True, False, False, False]
    assert data["audits"][3]["exit_code"] == 3
    assert [c["id"] for c in data["audits"][0]["checks"]] == list(CHECKS)


SINCE_1_1 = ("deployment", "reference", "precision")
"""Fields of an audit that came with 1.2."""


def _of_1_1(document: Any) -> Any:
    """A document as the version before would have it."""
    audits = [{n: v for n, v in row.items() if n not in SINCE_1_1} for row in document["audits"]]
    return document | {"schema_version": "1.1", "audits": audits}


def _of_1_2(document: Any) -> Any:
    """The same in this version, with nothing in what is new; it may be broken in one place."""
    if not isinstance(document, dict):
        return document
    now = dict(document)
    if "schema_version" in now:
        now["schema_version"] = "1.2" if now["schema_version"] == "1.1" else None
    if isinstance(now.get("audits"), list):
        now["audits"] = [
            row | dict.fromkeys(SINCE_1_1) if isinstance(row, dict) else row for row in now["audits"]
        ]
    return now


def test_documents_that_differ_in_one_place_are_judged_as_by_the_published_schema(results: list[Result]):
    """That of 1.1 as it was written by hand: with what 1.2 added, what was valid is so, and nothing else."""
    text = (SCHEMAS / "audit-1.1.schema.json").read_text(encoding="utf-8")
    published, packaged = map(jsonschema.Draft202012Validator, (json.loads(text), json_document.schema()))
    chance, seen, judged = random.Random(7), set[mutations.Path](), []
    for result in results:
        document = json.loads(FORMATS["json"](Audits.of([result])))
        document["audits"][0]["checks"] = document["audits"][0]["checks"][:2]
        added = {name: document.pop(name) for name in ("counts", "checks", "findings")}
        document = _of_1_1(mutations.shortened(document))
        for path in mutations.places(document):
            options = list(mutations.variants(mutations.at(document, path)))
            for new in options if mutations.kind(path) not in seen else chance.sample(options, 3):
                mutant = mutations.replaced(document, path, new)
                judged.append(published.is_valid(mutant))
                raised = mutant
                if isinstance(mutant, dict) and not added.keys() & mutant.keys():
                    raised = _of_1_2(mutant) | added
                assert judged[-1] == packaged.is_valid(raised), (path, new)
            seen.add(mutations.kind(path))
    assert len(judged) > 3000
    assert 0.05 < sum(judged) / len(judged) < 0.5


def test_json_shows_which_checks_could_not_look(results: list[Result]):
    outcomes = {c["id"]: c["outcome"] for c in results[1].data()["checks"]}
    assert outcomes["dead-channels"] == outcomes["score-regression"] == "not_checked"
    assert outcomes["custom-ops"] == "found"
    assert {c["id"]: c["outcome"] for c in results[2].data()["checks"]}["custom-ops"] == "waived"
    unloaded = {c["outcome"] for c in results[3].data()["checks"]}
    assert unloaded == {"found", "not_checked", "passed"}


def test_sarif_follows_the_oasis_schema(results: list[Result]):
    schema = json.loads((SCHEMAS / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))
    log = json.loads(FORMATS["sarif"](Audits.of(results)))
    jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).validate(log)
    [run] = log["runs"]
    rules = [r["id"] for r in run["tool"]["driver"]["rules"]]
    assert all(rules[r["ruleIndex"]] == r["ruleId"] for r in run["results"])
    assert [i["executionSuccessful"] for i in run["invocations"]] == [True, True, True, False]
    assert [r["ruleId"] for r in run["results"]][-1] == "not-loaded"
    waived = [r for r in run["results"] if "suppressions" in r]
    assert {r["ruleId"] for r in waived} == {"custom-ops"}
    for row in run["results"]:
        assert re.fullmatch(
            r"[\w.~/%:-]+", row["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        )
        assert row["message"]["text"].isprintable()


def test_sarif_rules_bring_the_whole_help(results: list[Result]):
    """GitHub shows a rule's help and takes descriptions up to 1024 characters; it knows no `helpUri`."""
    rules = json.loads(FORMATS["sarif"](Audits.of(results)))["runs"][0]["tool"]["driver"]["rules"]
    for rule, check in zip(rules, CHECKS.values(), strict=True):
        assert "helpUri" not in rule
        assert all(len(rule[name]["text"]) <= 1024 for name in ("shortDescription", "fullDescription"))
        assert check.explanation in rule["help"]["markdown"]
        assert check.remedy in rule["help"]["markdown"]
        assert all(f"`{o.name} = " in rule["help"]["markdown"] for o in fields_of(check.options).values())
        assert rule["help"]["text"] == rule["help"]["markdown"].replace("`", "").replace("**", "")


def test_sarif_findings_of_one_line_are_told_apart(results: list[Result]):
    """GitHub reads one fingerprint alone, and makes it of the line's text where it is not given."""
    rows = json.loads(FORMATS["sarif"](Audits.of(results[:2])))["runs"][0]["results"]
    hashes = [row["partialFingerprints"]["primaryLocationLineHash"] for row in rows]
    assert len(set(hashes)) == len(hashes) > len(HOSTILE)


def test_sarif_names_the_layer_and_keeps_its_fingerprint(healthy: Evidence):
    changed = replace(
        healthy, file=replace(healthy.file, foreign=(NodeFacts("block/conv", "Magic", "com.acme"),))
    )
    rows = [
        json.loads(FORMATS["sarif"](Audits.of([judge(changed, quick(text), TODAY)])))["runs"][0]["results"][0]
        for text in ("", '[checks.custom-ops]\nseverity = "warning"')
    ]
    assert rows[0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "block/conv"
    assert [r["level"] for r in rows] == ["error", "warning"]
    assert rows[0]["partialFingerprints"] == rows[1]["partialFingerprints"]


def test_junit_follows_the_schema_of_jenkins_but_for_the_file_of_a_case(
    results: list[Result], tmp_path: Path
):
    """GitLab links to `file`, which the xUnit plugin's schema has for suites alone; `junit` steps take it."""
    file = tmp_path / "audit.xml"
    file.write_text(FORMATS["junit"](Audits.of(results)), encoding="utf-8")
    schema = xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")
    tree = ET.parse(file)
    cases = tree.findall("testsuite/testcase")
    refused = [str(error.reason) for error in schema.iter_errors(file)]
    assert refused == ["'file' attribute not allowed for element"] * len(cases)
    for case in cases:
        assert case.attrib.pop("file")
    schema.validate(tree)
    suites = schema.to_dict(tree)["testsuite"]
    assert [(s["@failures"], s["@errors"]) for s in suites] == [
        ("0", "0"),
        ("2", "0"),
        ("1", "0"),
        ("0", "1"),
    ]
    assert all(int(s["@tests"]) == len(s["testcase"]) for s in suites)
    case = next(c for c in suites[2]["testcase"] if c["@name"] == "custom-ops")
    assert "waived" in case["skipped"][0]["@message"]
    assert case["skipped"][0]["$"] == case["skipped"][0]["@message"]  # GitLab shows the text, Jenkins this


PATHS = [f"models/v1.{i}/net.onnx" for i in range(4)] + ["net.onnx", "net.onnx", "a b.onnx", *HOSTILE[:3]]


def test_junit_cases_of_ten_models_are_told_apart(results: list[Result]):
    """GitLab keeps the first of cases with one class name and name; Jenkins splits at the last dot."""
    ten = [replace(results[i % 2], path=path, seconds=1000 + i) for i, path in enumerate(PATHS)]
    root = ET.fromstring(FORMATS["junit"](Audits.of(ten)))
    cases = root.findall("testsuite/testcase")
    keys = {(case.get("classname"), case.get("name")) for case in cases}
    assert len(keys) == len(cases) > 300
    packages = [suite[0].get("classname", "").rpartition(".")[0] for suite in root]
    assert len(set(packages)) == len(ten)
    assert packages[:7] == [*PATHS[:5], "net.onnx (2)", "a b.onnx"]
    assert [suite[0].get("file") for suite in root][:7] == PATHS[:7]


def test_the_time_of_a_model_is_shared_out_over_its_cases(results: list[Result]):
    root = ET.fromstring(FORMATS["junit"](Audits.of([replace(r, seconds=1234.5) for r in results])))
    assert root.get("time") == f"{1234.5 * len(results):.3f}"
    for suite in root:
        assert suite.get("time") == "1234.500"
        assert sum(float(case.get("time", "")) for case in suite) == pytest.approx(1234.5, abs=1e-3)


def test_github_commands_stay_on_their_lines(results: list[Result]):
    text = FORMATS["github"](Audits.of(results))
    lines = text.splitlines()
    expected = sum(1 for r in results for f in r.findings if f.waiver is None) + len(results) + 1
    assert len(lines) == expected
    command = re.compile(r"::(error|warning|notice) file=[^:,]*,title=[^:,]*::[^\n]*")
    assert all(command.fullmatch(line) or line.startswith("intrain-onnx audit: ") for line in lines)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert not any("%0A%" in line for line in lines)  # the name's own per cent signs are escaped


def test_what_does_not_fail_is_no_error_annotation(healthy: Evidence):
    changed = replace(healthy, file=replace(healthy.file, opset=6))
    assert "::error " in FORMATS["github"](Audits.of([judge(changed, quick(), TODAY)]))
    assert "::error " not in FORMATS["github"](Audits.of([judge(changed, quick('fail_on = "never"'), TODAY)]))


def test_terminal_shows_names_without_control_characters(results: list[Result]):
    stream = io.StringIO()
    terminal.draw(Audits.of(results), stream)
    text = stream.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\ud800]", text)
    assert "[bold]x[/bold] :smile:" in text
    assert max(len(line) for line in text.splitlines()) < 1000


WRITTEN = [
    pytest.param(name, marks=[pytest.mark.skipif(find_spec("cyclonedx") is None, reason="the extra `bom`")])
    if name == "cyclonedx"
    else name
    for name in FORMATS
]


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_evidence_gives_the_same_text(name: str, results: list[Result]):
    write = FORMATS[name]
    audits = Audits.of(results)
    assert write(audits) == write(audits)
    alone = write(Audits.of(results[:1]))
    text = alone if isinstance(alone, str) else alone.decode("utf-8", "replace")
    assert str(ROOT) not in text or str(ROOT) in results[0].path


def test_two_audits_give_the_same_document_but_for_seconds():
    def document() -> str:
        result = audit(ROOT / "samples" / "jax_cnn.onnx", quick(), today=datetime.date(2026, 1, 1))
        return json.dumps(result.data() | {"seconds": 0})

    assert document() == document()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_path_that_is_no_text_can_be_written(name: str, healthy: Evidence, tmp_path: Path):
    result = judge(replace(healthy, path="models/\udcff.onnx"), quick(), TODAY)
    text = FORMATS[name](Audits.of([result]))
    write_atomically(tmp_path / "out", text)
    if name in ("json", "sarif", "cyclonedx"):
        json.loads(text)


def test_a_million_places_are_counted_and_not_listed(healthy: Evidence):
    many = tuple(NodeFacts(f"n{i}", "Magic", "com.acme") for i in range(1000))
    result = judge(replace(healthy, file=replace(healthy.file, foreign=many)), quick(), TODAY)
    told = [f.found.message for f in result.findings if f.check == "custom-ops"]
    assert len(told) == MOST_FINDINGS + 1
    assert told[-1] == f"and {1000 - MOST_FINDINGS} more places"


def test_tables_have_a_row_for_each_finding(results: list[Result]):
    audits = Audits.of(results)
    document = json.loads(FORMATS["json"](audits))
    wanted = [(a["model"]["path"], f) for a in document["audits"] for f in a["findings"]]
    frame = audits.to_frame()
    assert len(wanted) > 10
    of_run = [f["check"] for f in document["findings"]]
    assert frame["check"].tolist() == [f["check"] for _, f in wanted] + of_run
    assert frame["message"].tolist()[: len(wanted)] == [printable(f["message"], 4096) for _, f in wanted]
    assert all(str(m).isprintable() for m in frame["model"])
    read = pd.read_csv(io.BytesIO(FORMATS["csv"](audits)))
    assert read["severity"].tolist() == frame["severity"].tolist()
    assert pd.read_parquet(io.BytesIO(FORMATS["parquet"](audits))).equals(frame)


def test_audits_show_themselves_in_a_line_and_in_notebooks(results: list[Result]):
    for shown in (*results, Audits.of(results)):
        assert len(repr(shown)) < 400
        assert repr(shown).isprintable()
        assert "<script>" not in shown._repr_html_()
