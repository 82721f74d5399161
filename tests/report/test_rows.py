"""The rows of a report, its schema, and the schemas as they were first published: one and the same."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from intrain_onnx import Report
from intrain_onnx.errors import ModelFileError
from intrain_onnx.report import rows, schema_versions
from intrain_onnx.report.decode import decode
from intrain_onnx.report.document import schema
from report import mutations

PUBLISHED: dict[str, dict[str, Any]] = {
    version: json.loads((Path(__file__).parent / f"report-{version}.schema.json").read_text(encoding="utf-8"))
    for version in ("1.1", "1.2", "1.3")
}
"""Reports of these versions stay valid, and what was no report of them does not become one."""


def as_of(version: str, document: Any) -> Any:
    """A report with synthetic inputs as an earlier version wrote it."""
    old = copy.deepcopy(document) | {"schema_version": version}
    if version != "1.3":
        del old["standing"], old["settings"]["projections"]
        for row in old["layers"]:
            del row["module"], row["log_participation_ratio_error"]
        for row in old["points"]:
            del row["log_participation_ratio_standardised_error"]
    if version == "1.1":
        for name in ("baselines", "kind", "gradient"):
            del old[name]
        for row in old["points"]:
            del row["log_sensitivity"], row["states"]
        for row in old["parameters"]:
            del row["expected_health"]
        for row in old["scores"].values():
            del row["static"]
        for name in ("inputs", "batch_axes", "max_macs", "free_sizes", "max_memory", "recomputed"):
            del old["settings"][name]
        for row in old["settings"]["inputs_fed"]:
            del row["source"], row["sha256"]
    return old


def is_read(document: Any) -> bool:
    try:
        decode(document)
    except ModelFileError:
        return False
    return True


def texts(schema: dict[str, Any]) -> dict[str, str]:
    """The description of every place of a document that has one, references followed."""
    found: dict[str, str] = {}

    def look(node: dict[str, Any]) -> dict[str, Any]:
        name = node.get("$ref", "").rpartition("/")[2]
        return schema["$defs"][name] | node if name else node

    def walk(node: dict[str, Any], path: str) -> None:
        node = look(node)
        if "description" in node:
            found.setdefault(path, " ".join(node["description"].split()))
        for name, child in node.get("properties", {}).items():
            walk(child, f"{path}.{name}")
        for key in ("items", "additionalProperties"):
            if isinstance(node.get(key), dict):
                walk(node[key], f"{path}[]")
        for child in (*node.get("oneOf", ()), *node.get("anyOf", ())):
            walk(child, path)

    walk(schema, "")
    return found


@pytest.mark.parametrize("version", PUBLISHED)
def test_every_text_of_the_published_schema_is_still_there(version: str):
    before, now = texts(PUBLISHED[version]), texts(schema())
    assert len(before) > 90
    assert {k: now.get(k) for k, v in before.items() if now.get(k) != v} == {}


@pytest.mark.parametrize("version", PUBLISHED)
def test_documents_that_differ_in_one_place_are_judged_alike(version: str, reports: list[Report]):
    """By the published schema, by the rows, and, of the current version, by the schema of the package."""
    published = jsonschema.Draft202012Validator(PUBLISHED[version])
    current = version == schema_versions.SCHEMA_VERSION
    packaged = jsonschema.Draft202012Validator(schema()) if current else published
    chance = random.Random(11)
    seen: set[mutations.Path] = set()
    valid, different = [], []
    for report in reports:
        document = as_of(version, mutations.shortened(report.data))
        assert published.is_valid(document)
        assert packaged.is_valid(document)
        assert decode(document).score.intrain == report.intrain
        for path in mutations.places(document):
            options = list(mutations.variants(mutations.at(document, path)))
            for new in chance.sample(options, 12 if mutations.kind(path) not in seen else 1):
                mutant = mutations.replaced(document, path, new)
                valid.append(published.is_valid(mutant))
                if not valid[-1] == packaged.is_valid(mutant) == is_read(mutant):
                    different.append((path, new))
        seen |= {mutations.kind(path) for path in mutations.places(document)}
    assert len(valid) > 3000
    assert 0.05 < sum(valid) / len(valid) < 0.5
    # What is read may be of an older version, and beyond the range of a double there is no number to read.
    assert [(p, n) for p, n in different if p != ("schema_version",) and n != 10**400] == []


def test_a_report_is_the_same_typed_and_as_json(reports: list[Report]):
    for report in reports:
        data = json.loads(report.to_json())
        assert report.data == data
        assert Report.of(report.document).to_json() == report.to_json()
        assert Report.of(decode(data)).data == data


def test_reports_of_1_0_are_read(reports: list[Report], tmp_path: Path):
    """They are as 1.1 without ``coverage``."""
    old = as_of("1.1", reports[0].data)
    data = {k: v for k, v in old.items() if k != "coverage"} | {"schema_version": "1.0"}
    saved = Report(data).save(tmp_path / "old.json")
    loaded = Report.load(saved)
    assert loaded.data == data
    assert loaded.document.schema_version == schema_versions.SCHEMA_VERSION
    assert loaded.document.coverage == rows.Coverage(1.0, None, 0, {}, ())
    assert loaded.document.layers == reports[0].document.layers


def test_reports_of_1_1_are_read(reports: list[Report], tmp_path: Path):
    """All of their inputs were synthetic."""
    for report in reports:
        data = as_of("1.1", report.data)
        loaded = Report.load(Report(data).save(tmp_path / "old.json"))
        assert loaded.data == data
        without = {
            "settings": report.data["settings"] | {"free_sizes": []},
            "standing": None,
            "baselines": {},
            "kind": None,
            "gradient": None,
            "scores": {k: v | {"static": None} for k, v in report.data["scores"].items()},
            "points": [p | {"log_sensitivity": None, "states": False} for p in report.data["points"]],
            "parameters": [p | {"expected_health": None} for p in report.data["parameters"]],
            "layers": [x | {"module": None} for x in report.data["layers"]],
        }
        assert loaded.document == decode(report.data | without)
        assert loaded.document.settings.inputs == {}
        assert {x.source for x in loaded.document.settings.inputs_fed} == {"synthetic"}


def test_reports_of_1_2_are_read(reports: list[Report], tmp_path: Path):
    """They do not say where they stand among reference networks, nor the modules of layers."""
    for report in reports:
        data = as_of("1.2", report.data)
        loaded = Report.load(Report(data).save(tmp_path / "old.json"))
        assert loaded.data == data
        without = {"standing": None, "layers": [x | {"module": None} for x in report.data["layers"]]}
        assert loaded.document == decode(report.data | without)


def test_every_version_that_is_read_leads_to_the_current_one():
    for version in schema_versions.READ:
        assert schema_versions.to_current({"schema_version": version})["schema_version"] == (
            schema_versions.SCHEMA_VERSION
        )
    assert schema()["$id"].endswith(f":{schema_versions.SCHEMA_VERSION}")


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        (("layers", 1, "depth"), 0, "`int` >= 1 - at `$.layers[1].depth`"),
        (("layers", 0, "status"), "asleep", "'asleep' - at `$.layers[0].status`"),
        (("score",), {}, "missing required field `intrain` - at `$.score`"),
        (("model", "more"), 1, "unknown field `more` - at `$.model`"),
        (("scores",), {}, "missing required field `intrain` - at `$.scores`"),
        (("parameters", 2, "health"), float("nan"), "NaN is not a finite number"),
    ],
)
def test_a_malformed_report_is_refused_with_the_place(
    path: mutations.Path, new: Any, said: str, reports: list[Report], tmp_path: Path
):
    data = copy.deepcopy(dict(reports[0].data))
    mutations.at(data, path[:-1])[path[-1]] = new
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ModelFileError) as caught:
        Report.load(file)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["[1]", '"x"', "{}", '{"schema_version": ["1.1"]}', '{"schema_version": "2.0"}']
)
def test_other_documents_are_refused(text: str, tmp_path: Path):
    file = tmp_path / "other.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(
        ModelFileError,
        match=r"not a report of schema version 1\.0 or 1\.1 or 1\.2 or 1\.3.*intrain-onnx score",
    ):
        Report.load(file)
