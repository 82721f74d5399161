"""The lists of reports as tables, against the JSON that they come from."""

from __future__ import annotations

import math

import pytest

import intrain_onnx
from intrain_onnx import Report
from intrain_onnx.errors import SettingsError
from intrain_onnx.report.frames import parts


@pytest.mark.parametrize("name", parts.PARTS)
def test_a_table_has_a_row_for_each_entry_and_a_column_for_each_field(
    name: parts.Part, reports: list[Report]
):
    for report in reports:
        frame, rows = report.to_frame(name), report.data[name]
        assert len(frame) == len(rows)
        assert set(rows[0]) - set(frame.columns) in (set(), {"inputs"})
        for field in rows[0]:
            for have, want in zip(frame[field], (row[field] for row in rows), strict=True):
                if isinstance(want, float):
                    assert have == want
                elif want is None:
                    assert have is None or math.isnan(have)


def test_layers_have_the_health_of_their_weights(reports: list[Report]):
    for report in reports:
        healths = {p["name"]: p["health"] for p in report.data["parameters"]}
        for row, layer in zip(report.to_frame().itertuples(), report.data["layers"], strict=True):
            known = [healths[w] for w in layer["weights"] if healths.get(w) is not None]
            if known:
                assert row.gradient_health == pytest.approx(sum(known) / len(known))
            assert row.weight_shape == "x".join(map(str, layer["weight_shape"]))


def test_tables_of_several_reports_say_whose_each_row_is(reports: list[Report]):
    documents = [r.document for r in reports]
    frame = parts.parts(documents, "layers").frame()
    assert len(frame) == sum(len(d.layers) for d in documents)
    assert frame.columns[0] == "model"
    assert parts.parts([], "layers").columns == {"model": []}


def test_a_list_that_a_report_has_not_is_refused_with_those_that_it_has(reports: list[Report]):
    with pytest.raises(SettingsError, match="layers, parameters, points, depth_profile"):
        reports[0].to_frame("layer")  # type: ignore[arg-type]


def test_an_inspection_has_the_same_layers(reports: list[Report]):
    found = intrain_onnx.inspect("samples/jax_cnn.onnx")
    frame = found.to_frame()
    assert frame["weight_shapes"].tolist() == ["16x3x3x3", "32x16x3x3", "64x32x3x3", "10x64"]
    assert frame["macs"].sum() == sum(x["macs"] for x in found.data["layers"])
