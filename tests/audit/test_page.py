"""The page of audits, without a browser: whole, safe, the same each time, and its charts."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace

import html5lib
import pytest

from audit.conftest import ROOT, TODAY, quick
from audit.test_formats import HOSTILE
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.facts import ChannelFacts, NodeFacts, RangeFacts, ValueFacts
from intrain_onnx.audit.gather import gather
from intrain_onnx.audit.page import page, plots, view
from intrain_onnx.audit.run import Audits, broken, judge
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.errors import ModelFileError

NAMESPACE = "{http://www.w3.org/1999/xhtml}"
WAIVED = '[[waivers]]\ncheck = "batch-norm-folded"\nreason = "inference only"\nexpires = 2027-01-31\n'


@pytest.fixture(scope="module")
def ten(healthy: Evidence) -> Audits:
    """Models of each kind: passed, waived, failed with hostile names, not measured, not loaded."""
    return audits(healthy)


def audits(healthy: Evidence) -> Audits:
    over = '[[waivers]]\ncheck = "macs"\nreason = "old"\nexpires = 2020-01-01\n'
    policy = quick(f'[checks.waiver-expired]\nseverity = "note"\n{WAIVED}{over}')
    foreign = tuple(NodeFacts(name, "Op", f"com.{name}") for name in HOSTILE)
    bad = replace(healthy, file=replace(healthy.file, foreign=foreign, opset=6))
    blind = replace(healthy, ranges=None, reports={}, weights={})
    models = [healthy, bad, blind] * 3
    paths = [f"models/vision/v1.{i}/resnet_{i}_checkpoint-000180000.onnx" for i in range(8)] + [HOSTILE[2]]
    results = [judge(replace(m, path=p), policy, TODAY) for m, p in zip(models, paths, strict=True)]
    return Audits.of([*results, broken(ROOT / "no.onnx", policy, ModelFileError(HOSTILE[0]), TODAY)])


def parsed(text: str):
    """The page as a tree; the parser raises on everything that is not valid HTML."""
    return html5lib.HTMLParser(strict=True).parse(text)


def having(tree, tag: str, kind: str) -> Iterator:
    return (e for e in tree.iter(f"{NAMESPACE}{tag}") if kind in (e.get("class") or "").split())


def test_the_verdict_is_on_top_and_each_model_has_a_row_and_a_section(ten: Audits):
    tree = parsed(page(ten))
    [heading] = tree.iter(f"{NAMESPACE}h1")
    passed = sum(r.passed for r in ten.results)
    assert "".join(heading.itertext()) == f"{passed} of 10 models passed"
    assert passed == 6
    [table] = having(tree, "table", "models")
    links = [a.get("href") for a in table.iter(f"{NAMESPACE}a")]
    sections = {e.get("id"): e for e in having(tree, "details", "model")}
    assert links == [f"#m{i}" for i in range(1, 11)] == [f"#{name}" for name in sections]
    opened = [e.get("open") is not None for e in sections.values()]
    assert opened == [not r.passed for r in ten.results]
    identities = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(identities) == len(set(identities))
    for element in tree.iter():
        for name in (element.get("aria-labelledby") or "").split():
            assert name in identities


def test_what_fails_is_open_and_all_else_folded(ten: Audits):
    tree = parsed(page(ten))
    for result, section in zip(ten.results, having(tree, "details", "model"), strict=True):
        checks = list(having(section, "details", "check"))
        badges = [next(having(c, "span", "badge"), None) for c in checks]
        failing = [b is not None and b.text == "error" for b in badges]
        assert [c.get("open") is not None for c in checks] == failing
        assert any(failing) != result.passed
        text = "".join(section.itertext())
        assert all(name in text for name, check in CHECKS.items() if not check.of_run)
    [run] = having(tree, "section", "run")
    assert "waiver of macs" in "".join(run.itertext())


def test_text_from_a_file_stays_text_and_nothing_is_fetched(ten: Audits):
    text = page(ten)
    tree = parsed(text)
    assert len(list(tree.iter(f"{NAMESPACE}script"))) == 1
    assert not {e.tag for e in tree.iter()} & {f"{NAMESPACE}{tag}" for tag in ("img", "iframe", "object")}
    assert all(c.isprintable() or c == "\n" for c in text)
    shown = " ".join(tree.itertext())
    assert HOSTILE[2] in shown
    assert "\\u202e" in shown
    for link in tree.iter(f"{NAMESPACE}a"):
        assert re.fullmatch(r"#[\w-]+", link.get("href"))
    for element in tree.iter():
        assert not {a for a in element.attrib if a == "style" or a.startswith("on") or a == "src"}
    [policy] = [m.get("content") for m in tree.iter(f"{NAMESPACE}meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        [element] = list(tree.iter(f"{NAMESPACE}{tag}"))
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_it_is_the_same_for_the_same_audits(ten: Audits, healthy: Evidence):
    assert page(ten) == page(audits(healthy))


def test_scores_and_their_change_from_the_baseline(healthy: Evidence):
    base = healthy.reports["checkpoint"]
    worse = replace(healthy, baseline=base)
    [model] = view.page(Audits.of([judge(worse, quick(), TODAY)])).models
    shown = [card.value for card in model.cards]
    assert shown == [
        f"{base.intrain:.2f}",
        f"{healthy.reports['architecture'].intrain:.2f}",
        "+0.0 %",
    ]
    seeded = replace(quick(), run=replace(quick().run, seed=5))
    other = gather(ROOT / "samples" / "pytorch_resnet_dynamo.onnx", seeded)
    [model] = view.page(Audits.of([judge(replace(other, baseline=base), quick(), TODAY)])).models
    assert model.cards[-1].meaning == "not comparable: the settings differ in seed"


def test_one_model_is_named_in_the_headline_and_a_run_that_goes_on_says_so(healthy: Evidence):
    good = judge(replace(healthy, path="a.onnx"), quick(), TODAY)
    assert view.page(Audits.of([good])).headline == "a.onnx passed"
    assert view.page(Audits.of([good], 3)).headline == "1 of 1 models passed, 2 not audited"
    over = judge(replace(healthy, path="a.onnx"), quick(WAIVED.replace("2027", "2020")), TODAY)
    shown = view.page(Audits.of([over]))
    assert (shown.headline, shown.passed) == ("a.onnx passed, waivers failed", False)
    assert page(Audits.of([], 3))


def test_activation_ranges_are_drawn_against_the_end_of_float16(healthy: Evidence):
    """Of a thousand nodes the largest of each group of neighbours, at their places on a logarithmic axis."""
    sizes = {f"v{i}": ValueFacts(f"v{i}", f"n{i}", "Conv", 10.0 ** (i % 7), False, 0.0) for i in range(1000)}
    sizes["bad"] = ValueFacts("bad", "bad", "Exp", float("inf"), True, 0.0)
    chart, *_ = plots.charts(replace(healthy, ranges=RangeFacts(sizes)))
    assert chart.description.endswith("1 are zero or not finite.")
    assert len(chart.hits) == 200
    assert sum(hit.width for hit in chart.hits) == pytest.approx(380, abs=10)
    assert all(hit.width > 0 for hit in chart.hits)
    [line] = [mark.path for mark in chart.marks if mark.kind == "trend"]
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", line)]
    ticks = {label: y for y, label in chart.y_ticks}
    assert heights[0] == heights[1]
    assert ticks["100 k"] < heights[0] < ticks["10 k"]
    assert (chart.x_label, chart.y_label) == ("node, in graph order", "largest magnitude")


def test_dead_channels_are_drawn_by_depth_in_per_cent(healthy: Evidence):
    layers = healthy.checkpoint.layers
    facts = {x.name: ChannelFacts(x.name, "Relu", 8, 4, i % 3, 100) for i, x in enumerate(layers)}
    _, chart, _ = plots.charts(replace(healthy, ranges=replace(healthy.ranges, channels=facts)))
    ticks = {label: y for y, label in chart.y_ticks}
    [dots] = [mark.path for mark in chart.marks if mark.kind == "dot"]
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)h0", dots)]
    per_cent = (ticks["0"] - ticks["100"]) / 100
    assert [round((ticks["0"] - y) / per_cent / 12.5) for y in heights] == [i % 3 for i in range(len(layers))]
    assert chart.y_label == "% of its channels"


def test_without_measurements_there_are_no_charts(healthy: Evidence):
    assert plots.charts(replace(healthy, ranges=None, reports={})) == []
