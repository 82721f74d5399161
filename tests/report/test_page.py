"""The page of saved reports, without a browser: safe, whole, small, the same each time."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import html5lib
import pages
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from pages import HOSTILE

from intrain_onnx.cli import main
from intrain_onnx.report import numbers, rows
from intrain_onnx.report.document import Report
from intrain_onnx.report.page import analysis, charts, network, page, tables
from intrain_onnx.report.page.findings import findings

NAMESPACE = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(scope="module")
def report() -> Report:
    return pages.real("cnn")


def parsed(text: str):
    """The page as a tree; the parser raises on everything that is not valid HTML."""
    return html5lib.HTMLParser(strict=True).parse(text)


def test_the_page_is_valid_and_whole(report: Report):
    text = page([report])
    tree = parsed(text)
    assert f"{report.intrain:.2f}" in text
    shown = tree.findall(f".//{NAMESPACE}table[@class='data sortable layers']/{NAMESPACE}tbody/{NAMESPACE}tr")
    assert len(shown) == len(report.data["layers"])
    for layer in report.data["layers"]:
        assert layer["name"] in text
    assert len(tree.findall(".//{http://www.w3.org/2000/svg}title[@id]")) == 4
    identities = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(identities) == len(set(identities))
    for link in tree.iter(f"{NAMESPACE}a"):
        assert link.get("href")[1:] in identities
    for element in tree.iter():
        for name in (element.get("aria-labelledby") or "").split():
            assert name in identities


def test_it_is_the_same_for_the_same_report(report: Report):
    assert page([report]) == page([Report(json.loads(report.to_json()))])


def test_nothing_is_fetched_and_only_its_own_script_runs(report: Report):
    text = page([report])
    assert not re.search(
        r"(?:https?:)?//[\w.-]+\.\w", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    )
    tree = parsed(text)
    [policy] = [m.get("content") for m in tree.iter(f"{NAMESPACE}meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        [element] = list(tree.iter(f"{NAMESPACE}{tag}"))
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for element in tree.iter():
        assert not {a for a in element.attrib if a == "style" or a.startswith("on") or a == "src"}


def test_text_from_a_file_stays_text(report: Report):
    hostile = pages.hostile(report)
    text = page([hostile, report])
    tree = parsed(text)
    assert len(list(tree.iter(f"{NAMESPACE}script"))) == 1
    assert not list(tree.iter(f"{NAMESPACE}img"))
    shown = " ".join(tree.itertext())
    assert HOSTILE[0] in shown
    assert "{{ 7 * 7 }}" in shown
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "\\u202e" in shown
    for link in tree.iter(f"{NAMESPACE}a"):
        assert re.fullmatch(r"#[\w-]+", link.get("href"))


def test_five_hundred_layers_take_less_than_two_megabytes(report: Report):
    text = page([pages.synthetic(report)])
    parsed(text)
    assert 500_000 < len(text.encode()) < 2_000_000


def test_several_reports_are_ranked(report: Report):
    other = Report(copy.deepcopy(dict(report.data)))
    other.data["model"]["path"] = "elsewhere/worse.onnx"
    other.data["score"]["intrain"] = 1e3  # it does not decide
    other.data["scores"]["volume"]["value"] = 1.0
    other.data["kind"] = "language"
    other.data["settings"]["samples"] = 99
    text = page([other, report])
    parsed(text)
    assert text.index('href="#r1">keras_mobile.onnx') < text.index('href="#r2">worse.onnx')
    assert "differ in samples" in text
    assert "cannot be compared: here a vision network and a language model" in text
    assert "cannot be compared" not in page([report, report])
    assert page([other, report]) == page([report, other])


def test_the_leading_score_is_on_the_page_with_its_twin(report: Report):
    text = page([report])
    first = re.search(r'<div class="card lead">(.*?)</div>', text, re.DOTALL)[1]
    leading = report.data["scores"]["volume"]
    for words in (
        "volume",
        numbers.decimal(leading["value"]),
        numbers.decimal(leading["static"]),
        "a vision",
    ):
        assert words in first
    assert "The gradient along depth: even" in text
    table = text.partition("<h3>Scores by variant</h3>")[2].partition("</table>")[0]
    assert "static twin" in table
    assert tables.short(report.data["scores"]["intrain"]["static"]) in table


def test_reports_without_the_leading_score_come_last_and_can_be_drawn(report: Report):
    old = Report(copy.deepcopy(dict(report.data)))
    old.data["model"]["path"] = "old.onnx"
    old.data["score"]["intrain"] = 1e9
    old.data.update(kind=None, gradient=None)
    del old.data["scores"]["volume"]
    text = page([old, report])
    parsed(text)
    assert text.index('href="#r1">keras_mobile.onnx') < text.index('href="#r2">old.onnx')
    assert "The gradient along depth" not in page([old])
    assert re.search(r'<div class="card lead">\s*<p class="name">InTrain', page([old]))


@pytest.mark.parametrize(("direction", "kind"), [("explodes", "bad"), ("dies", "bad"), ("even", "good")])
def test_where_the_gradient_is_lost_is_a_finding(report: Report, direction: str, kind: str):
    row = replace(report.document.gradient, direction=direction, value="conv", depth=3, log_sensitivity=14.42)
    far = replace(row, lost_at="late", lost_at_depth=9, layers_behind=9, tolerance=10.0)
    near = replace(row, lost_at="conv", lost_at_depth=3, layers_behind=1)
    told = [dict(map(reversed, findings(replace(report.document, gradient=r)))) for r in (far, near)]
    begin = f"The gradient along depth: {direction}"
    if direction == "even":
        assert told[0][f"{begin} (e^14.4 where it strays most)."] == kind
    else:
        said = f"{begin} by e^14.4 at conv (depth 3 of {max(x.depth for x in report.document.layers)})"
        assert told[0][f"{said}, beyond e^10 from late (depth 9) on: 9 layers lie behind."] == kind
        assert told[1][f"{said}: 1 layer lies behind it."] == kind


def test_what_was_given_is_told_and_compared(report: Report):
    other = Report(copy.deepcopy(dict(report.data)))
    digest = hashlib.sha256(b"other").hexdigest()
    other.data["settings"]["inputs"] = {"image": "@photos.npz"}
    other.data["settings"]["inputs_fed"][0] |= {"kind": "given", "source": "file", "sha256": digest}
    text = page([other, report])
    parsed(text)
    assert "differ in given inputs" in text
    assert f"file, sha256 {digest}" in text
    assert "@photos.npz" in text
    assert "given inputs" not in page([other, other])


def test_scores_and_proxies_are_shown_by_name(report: Report):
    more = Report(copy.deepcopy(dict(report.data)))
    more.data["scores"]["published"] = {"value": 12.5, "standard_error": None, "static": None}
    more.data["proxies"] = {
        "naswot": {"values": {"naswot": 1e-9}, "direction": 1, "error": None},
        "az_nas": {
            "values": {"trainability": 2.0, "progressivity": None},
            "direction": 1,
            "error": "too short",
        },
    }
    text = page([more])
    parsed(text)
    for words in ("Scores by variant", "published", "12.5", "Other zero-cost proxies", "naswot", "1.0e-9"):
        assert words in text
    assert "trainability 2, progressivity none" in text
    assert "too short" in text
    assert "Other zero-cost proxies" not in page([report])


def test_without_intervals_layers_or_gradients(report: Report):
    bare = Report(copy.deepcopy(dict(report.data)))
    bare.data["score"] |= {"std": None, "standard_error": None, "ci95": None}
    bare.data["score"]["runs"] = bare.data["score"]["runs"][:1]
    bare.data["layers"], bare.data["parameters"], bare.data["depth_profile"] = [], [], []
    bare.data["parity"] = {
        "reference": "onnxruntime",
        "samples": 1,
        "max_abs_diff": None,
        "max_rel_diff": None,
    }
    bare.data["parity"] |= {"ok": None, "round_off": None, "reason": "no reason"}
    text = page([bare])
    parsed(text)
    assert "one run, no interval" in text


def test_a_dead_layer_is_named():
    report = pages.real("dead")
    assert [x["status"] for x in report.data["layers"]].count("dead") == 1
    text = page([report])
    assert "1 of 4 layers dead (all-zero gradient)" in text
    assert "Dead, collapsed and unmeasured layers" in text


LAYER = rows.Layer(
    name="", op="MatMul", kind="linear", depth=1, key="", weights=("w",), initializers=("w",),
    weight_shape=(8, 8), shape=None, rows=1000, channels=64, macs=None, participation_ratio=None,
    participation_ratio_corrected=None, log_participation_ratio=None, status="measured", counted=True,
    module=None,
)  # fmt: skip
PARAMETER = rows.Parameter(
    name="w", role="weight", layer=None, depth=1, shape=(8, 8), health=None, expected_health=None,
    grad_std=None, grad_max_abs=None,
    status="measured", counted=True,
)  # fmt: skip


def layer(depth: int, ratio: float | None, name: str = "", **fields: Any) -> rows.Layer:
    return replace(LAYER, name=name or f"l{depth}", depth=depth, participation_ratio=ratio, **fields)


def test_bottlenecks_are_the_largest_falls_from_depth_to_depth():
    layers = [layer(1, 40.0), layer(2, 10.0), layer(3, 9.9), layer(4, None), layer(5, 3.3, channels=16)]
    found = analysis.bottlenecks(layers)
    assert [(f.layer.depth, round(f.factor, 3)) for f in found] == [(2, 4.0), (5, 3.0)]
    assert [f.narrows for f in found] == [False, True]
    assert analysis.bottlenecks(layers, most=1) == found[:1]
    assert analysis.bottlenecks([]) == []


def test_before_parallel_layers_stands_their_geometric_mean():
    [fall] = analysis.bottlenecks([layer(1, 16.0, name="a"), layer(1, 4.0, name="b"), layer(2, 2.0)])
    assert fall.before == pytest.approx(8.0)


def test_where_the_report_names_them_the_layers_that_feed_one_are_compared():
    layers = [layer(1, 40.0, "a", inputs=()), layer(1, 10.0, "b", inputs=())]
    [fall] = analysis.bottlenecks([*layers, layer(2, 8.0, "c", inputs=("b",))])
    assert fall.layer.name == "c"
    assert fall.factor == pytest.approx(1.25)


def node(name: str, depth: int, *inputs: str) -> network.Node:
    return network.Node(f"i{name}", name, depth, inputs)


def test_a_graph_is_drawn_from_left_to_right():
    layers = [node("a", 1), node("b", 2, "a"), node("c", 2, "a"), node("d", 3, "b", "c", "a", "gone")]
    [line] = network.lines(layers)
    places = {x.name: (a, b) for x, a, b in line.nodes}
    assert places["a"][0] < places["b"][0] == places["c"][0] < places["d"][0]
    assert places["b"][1] != places["c"][1]
    assert [(e.begin, e.end) for e in line.edges] == [
        ("ia", "ib"), ("ia", "ic"), ("ib", "id"), ("ic", "id"), ("ia", "id")
    ]  # fmt: skip
    assert all(0 < x < line.width and 0 < y < line.height for x, y in places.values())


def test_a_deep_graph_goes_on_in_the_next_line():
    depth = network.PER_LINE + 2
    first, second = network.lines([node(str(d), d, str(d - 1)) for d in range(1, depth + 1)])
    assert len(first.nodes) == network.PER_LINE
    assert len(second.nodes) == 2
    last = f"i{network.PER_LINE}", f"i{network.PER_LINE + 1}"
    assert [(e.begin, e.end) for e in (first.edges[-1], second.edges[0])] == [last, last]


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [(0.0, "steady"), (0.2, "shrink"), (0.5, "vanish"), (-0.2, "grow"), (-0.5, "explode")],
)
def test_the_trend_of_gradients_is_seen_from_the_output(slope: float, verdict: str):
    parameters = [replace(PARAMETER, depth=d, grad_std=10 ** (slope * d)) for d in range(1, 11)]
    parameters[4] = replace(parameters[4], grad_std=1e9)  # one layer cannot turn it
    trend = analysis.gradient_trend(parameters)
    assert trend is not None
    assert trend.verdict == verdict
    assert math.log10(trend.change) == pytest.approx(-9 * slope, abs=0.3)
    assert analysis.gradient_trend(parameters[:2]) is None


def test_intervals_of_the_parts_are_students(report: Report):
    score = report.document.score
    assert analysis.interval(score, "intrain") == score.ci95
    low, high = analysis.interval(score, "geometric_capacity")
    a, b = (run.geometric_capacity for run in score.runs)
    assert (high - low) / 2 == pytest.approx(12.7062 * abs(a - b) / 2, rel=1e-4)
    assert (low + high) / 2 == pytest.approx(score.geometric_capacity)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 3), (0, 0.004), (1, 500), (17, 23)])
def test_ticks_are_few_round_and_inside(low: float, high: float):
    ticks = charts.nice_ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert all(low <= t <= high for t in ticks)


def test_values_of_any_type_are_put_in_a_few_words():
    assert [tables.short(v) for v in (None, True, 3.0, 1e-5, "a", (1, 2), [], {"k": False})] == [
        "none", "yes", "3", "1.0e-5", "a", "1, 2", "none", "k no"
    ]  # fmt: skip
    assert tables.short(list(range(10))) == "0, 1, 2, 3, 4, 5, 6, 7, and 2 more"


def test_the_command(report: Report, tmp_path: Path):
    saved = report.save(tmp_path / "a.json")
    target = tmp_path / "out.html"
    done = CliRunner().invoke(main, ["report", str(saved), "-o", str(target)])
    assert done.exit_code == 0, done.output
    assert target.read_text(encoding="utf-8") == page([report])
    piped = CliRunner().invoke(main, ["report", str(saved), "-o", "-"])
    assert piped.output == page([report])


@pytest.mark.parametrize(
    "content", ["no json", "{}", '{"schema_version": "1.0"}', '{"schema_version": "1.0", "model": []}']
)
def test_what_is_no_report_is_refused(content: str, tmp_path: Path):
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    done = CliRunner().invoke(main, ["report", str(bad), "-o", str(tmp_path / "out.html")])
    assert done.exit_code == 3
    assert "intrain-onnx score" in done.output or "not a report" in done.output
    assert not (tmp_path / "out.html").exists()


def test_a_report_is_not_overwritten(report: Report, tmp_path: Path):
    saved = report.save(tmp_path / "a.json")
    done = CliRunner().invoke(main, ["report", str(saved), "-o", str(tmp_path / "." / "a.json")])
    assert done.exit_code == 2
    assert Report.load(saved).intrain == report.intrain
    missing = CliRunner().invoke(main, ["report", str(saved), "-o", str(tmp_path / "no" / "out.html")])
    assert missing.exit_code == 2


def test_each_open_size_stands_once_with_its_reason(reports: list[Report]):
    document = reports[0].document
    free = (
        rows.FreeSize("a", 0, "N", 4, "samples", None),
        rows.FreeSize("a", 1, "T", 5, "trial", "Gather node 'g' fails"),
        rows.FreeSize("b", 2, "T", 5, "trial", "Gather node 'g' fails"),
        rows.FreeSize("c", 2, None, 7, "usual", None),
    )
    told = replace(document, settings=replace(document.settings, free_sizes=free))
    shown = dict(tables.facts(told))["Sizes that the file leaves open"]
    assert shown == [("T", "5, trial: Gather node 'g' fails"), ("axis 2 of c", "7, usual")]


def test_a_cloud_has_each_point_where_its_numbers_are_and_a_hit_with_its_text():
    points = [(1e3, 2.0, "a"), (1e3, 4.0, "b"), (1e5, 3.0, "c"), (0.0, 9.0, "no place"), (1e6, 2.5, "d")]
    plot = charts.cloud("t", "d", points, x_label="x", y_label="y")
    assert plot is not None
    (mark,) = plot.marks
    places = [tuple(map(float, p)) for p in re.findall(r"M([\d.]+) ([\d.]+)h0", mark.path)]
    (ax, ay), (bx, by), (cx, cy), (dx, _dy) = places
    assert ax == bx
    assert (cx - ax) / (dx - ax) == pytest.approx(2 / 3, abs=0.01)  # two decades of three
    assert (ay - cy) / (ay - by) == pytest.approx(1 / 2, abs=0.01)
    assert [hit.text for hit in plot.hits] == ["a\nb", "c", "d"]
    for hit, x in zip(plot.hits, (ax, cx, dx), strict=True):
        assert hit.x <= x <= hit.x + hit.width
    assert plot.hits[0].x == charts.LEFT
    assert plot.hits[-1].x + plot.hits[-1].width == pytest.approx(charts.WIDTH - charts.RIGHT, abs=0.1)
    ticks = {label: x for x, label in plot.x_ticks}
    assert ticks["1000"] == ax
    assert ticks["100 k"] == cx
    assert charts.cloud("t", "d", points[:1], x_label="x", y_label="y") is None


def test_the_spread_of_a_ranking_is_around_each_mean(report: Report):
    """A network of a hundred times the score has the same marks if its seeds spread as much."""
    large = Report(copy.deepcopy(dict(report.data)))
    large.data["model"]["path"] = "large.onnx"
    for row in (large.data["score"], *large.data["score"]["runs"]):
        row["intrain"] *= 100
    large.data["score"]["ci95"] = [100 * x for x in report.data["score"]["ci95"]]
    text = page([report, large])
    drawn = re.findall(r'<td class="spread">\s*<svg.*?</svg>', text, re.DOTALL)
    paths = [re.findall(r' d="(.*?)"', x) for x in drawn]
    assert len(paths) == 2
    assert paths[0] == paths[1]
    low, high = report.data["score"]["ci95"]
    ends = [float(x) for x in re.fullmatch(r"M([\d.]+) 9H([\d.]+)", paths[0][0]).groups()]
    assert ends[1] - ends[0] > 100  # of 200 pixels, whatever the scores are
    mean = report.data["score"]["intrain"]
    assert f"from {100 * (low / mean - 1):.2g} % to +{100 * (high / mean - 1):.2g} %" in text
    single = Report(copy.deepcopy(dict(report.data)))
    single.data["score"] |= {"ci95": None, "runs": report.data["score"]["runs"][:1]}
    assert "one run" in page([single, report])
    assert "Spread: of" not in page([single, single])
