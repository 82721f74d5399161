"""The page of audits as a person uses it, in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from report import test_browser as reports
from report.test_browser import CONTRAST, CSS, go_through_a_chart, open_text
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from audit.test_page import audits
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.page import page

browser = reports.browser
BROKEN = """
const broken = [];
for (const walker = document.createTreeWalker(document.body, 4); walker.nextNode();) {
  const node = walker.currentNode;
  if (!node.parentElement.checkVisibility() || node.parentElement.closest("svg, style, script")) continue;
  for (const word of node.data.matchAll(/(?<![A-Za-z])(--)?[A-Za-z]{1,24}(?![A-Za-z])/g)) {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map(r => r.top)).size > 1) broken.push(word[0]);
  }
}
return broken;
"""


@pytest.fixture
def opened(browser: webdriver.Chrome, healthy: Evidence, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    yield from open_text(browser, tmp_path, page(audits(healthy)))


def narrow(browser: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.mark.parametrize("width", [320, 420, 1400])
def test_the_verdict_is_seen_first_and_nothing_scrolls_or_breaks(opened: webdriver.Chrome, width: int):
    narrow(opened, width)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
        heading = opened.find_element(CSS, "h1")
        assert heading.text == "6 of 10 models passed"
        assert heading.rect["y"] < 200
        if width > 400:
            assert opened.execute_script(BROKEN) == []
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_link_opens_the_model(opened: webdriver.Chrome):
    assert opened.find_elements(CSS, "#m1[open]") == []
    assert opened.find_elements(CSS, "#m2[open]")
    opened.find_element(CSS, "a[href='#m1']").click()
    WebDriverWait(opened, 10).until(lambda driver: driver.find_elements(CSS, "#m1[open]"))


def test_models_are_sorted_by_their_findings(opened: webdriver.Chrome):
    header = opened.find_elements(CSS, ".models thead th")[2]
    header.find_element(CSS, "button").click()
    header.find_element(CSS, "button").click()
    rows = opened.find_elements(CSS, ".models tbody tr")
    counts = [int(row.find_elements(CSS, "td")[1].text) for row in rows]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 0


def test_a_chart_tells_its_values_to_keys_and_fingers(opened: webdriver.Chrome):
    for chart in opened.find_elements(CSS, "#m2 .chart > svg"):
        go_through_a_chart(opened, chart)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_contrast(opened: webdriver.Chrome, theme: str):
    """At least 4.5 to 1, with everything unfolded."""
    opened.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    opened.find_element(CSS, f".theme input[value='{theme}']").click()
    assert opened.execute_script(CONTRAST) == []
