"""The page of a series, without a browser: whole, safe, the same each time, and of bounded size."""

from __future__ import annotations

import re

import html5lib
import pytest

from checkpoints.conftest import row
from intrain_onnx.checkpoints import heat, page, results
from intrain_onnx.checkpoints.heat import BINS, Grid
from intrain_onnx.checkpoints.rows import Document, Error, LayerStep, Step
from intrain_onnx.checkpoints.run import settings

HOSTILE = "<script>alert(1)</script>\x1b[2J"


def document(steps: list[Step]) -> Document:
    return results.document(steps, settings(), {**results_thresholds()})


def results_thresholds() -> dict[str, float]:
    from intrain_onnx.checkpoints.alarms import thresholds

    return thresholds({})


def bad() -> Document:
    steps = [row(i) for i in range(8)]
    steps.append(row(8, {"participation_ratio": 1.1, "dead_channels": 30}, intrain=2.0))
    steps.append(row(9, path=f"{HOSTILE}9.onnx", status="failed", layers=(), error=Error("X", HOSTILE, 3)))
    return document(steps)


def test_the_page_is_valid_html_and_says_what_the_document_says():
    text = page.page(bad())
    html5lib.HTMLParser(strict=True).parse(text)
    assert "9 of 10 checkpoints have a score; 3 alarms." in text
    for alarm in bad().alarms:
        assert alarm.message in text
    assert text == page.page(bad())


def test_names_cannot_break_out_of_it():
    text = page.page(bad())
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_every_mark_of_a_heat_map_has_its_text():
    text = page.page(bad())
    boxes = re.findall(r'<rect class="(?:q\d|none)" x="[\d.]+" width="[\d.]+" height="\d+">(.)', text)
    assert len(boxes) == 4 * 9
    assert set(boxes) == {"<"}
    assert "step 8\nconv: 1.1 of 32\nAlarm: participation ratio fell to 1.1, from 12" in text


def test_alarms_are_lines_in_the_charts_and_frames_in_the_maps():
    found = bad()
    charts = page.charts(found.steps, [8])
    assert [c.title for c in charts] == [
        "InTrain", "Volume", "Gradient norm", "Distance of the weights", "Dead channels",
    ]  # fmt: skip
    for chart in charts:
        assert [m.path for m in chart.marks if m.kind == "alarm"] != [""]
        assert ("alarm", "alarm") in chart.legend
    assert page.page(document([row(i) for i in range(8)])).count('class="alarm"') == 0


def test_an_empty_series_has_a_page():
    assert "No checkpoint" in page.page(document([]))
    only = [row(0, status="failed", layers=(), error=Error("X", "no", 3), **dict.fromkeys(SCORES))]
    assert "0 of 1 checkpoints have a score; no alarm." in page.page(document(only))


SCORES = ("intrain", "volume", "gradient_norm", "distance_to_first", "distance_to_previous")


@pytest.mark.parametrize(
    ("value", "layer", "share"),
    [
        (heat.ratio, {"participation_ratio": 1.0}, 0.0),
        (heat.ratio, {"participation_ratio": 32.0}, 1.0),
        (heat.ratio, {"participation_ratio": 32.0**0.5}, 0.5),
        (heat.ratio, {"participation_ratio": 1.0, "largest_ratio": 1}, 1.0),
        (heat.health, {"health": 0.25}, 0.5),
        (heat.dead, {"dead_channels": 8}, 0.25),
        (heat.distance, {"distance_to_previous": 0.001}, 0.0),
        (heat.distance, {"distance_to_previous": 1.0}, 1.0),
        (heat.distance, {"distance_to_previous": 0.0}, 0.0),
    ],
)
def test_where_a_value_is_on_its_scale(value, layer: dict[str, float], share: float):
    found = value(row(0, layer).layers[0])
    assert found[0] == pytest.approx(share)


@pytest.mark.parametrize("value", [heat.ratio, heat.health, heat.dead, heat.distance])
def test_what_was_not_measured_has_no_colour(value):
    layer = LayerStep(name="a", kind="linear", depth=1, channels=4)
    assert value(layer) is None


def test_values_beyond_the_scale_take_its_ends():
    steps = [row(0, {"distance_to_previous": 1e-9}), row(1, {"distance_to_previous": 50.0})]
    drawn = heat.heat("x", Grid.of(steps, []), heat.distance, ("", ""), {})
    assert drawn is not None
    assert [box.colour for box in drawn.bands[0].boxes] == [0, BINS - 1]


def test_of_many_steps_and_layers_those_with_an_alarm_are_drawn():
    steps = [
        row(i, layers=tuple(LayerStep(name=f"n{n}", kind="linear", depth=1, channels=4) for n in range(300)))
        for i in range(500)
    ]
    grid = Grid.of(steps, [(137, "n211"), (3, None)])
    assert len(grid.steps) == len(grid.names) == 60
    assert {3, 137, 499} <= {s.step for s in grid.steps}
    assert "n211" in grid.names
    assert grid.left_out(steps).startswith("Of 500 checkpoints and 300 layers, 60 and 60 are drawn")


def test_a_series_of_thousands_has_a_page_that_opens():
    many = document([row(i) for i in range(3000)])
    assert len(page.page(many)) < 3e6
