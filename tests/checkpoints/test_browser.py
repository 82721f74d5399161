"""The page of a series as a person uses it, in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from report import test_browser as reports
from report.test_browser import CONTRAST, CSS, open_text
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from checkpoints.test_page import bad
from intrain_onnx.checkpoints.page import page

browser = reports.browser


@pytest.fixture
def opened(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    yield from open_text(browser, tmp_path, page(bad()))


@pytest.mark.parametrize("width", [320, 420, 1400])
def test_no_width_makes_it_scroll_sideways(opened: webdriver.Chrome, width: int):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_contrast(opened: webdriver.Chrome, theme: str):
    opened.find_element(CSS, f".theme input[value='{theme}']").click()
    assert opened.execute_script(CONTRAST) == []


def test_each_box_of_a_heat_map_has_a_colour_and_tells_its_value(opened: webdriver.Chrome):
    """Boxes of other values have other colours, and keys go from box to box."""
    heat = opened.find_element(CSS, ".heat > svg")
    boxes = heat.find_elements(CSS, ".hits rect")
    colours = [box.value_of_css_property("fill") for box in boxes]
    assert len(boxes) == 9
    assert len(set(colours[:8])) == 1
    assert colours[8] != colours[7]
    assert "rgba(0, 0, 0, 0)" not in colours
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", heat)
    ActionChains(opened).send_keys(Keys.TAB).perform()
    opened.execute_script("arguments[0].focus({focusVisible: true})", heat)
    ActionChains(opened).send_keys(Keys.END).perform()
    assert opened.find_element(CSS, "#tip").text.startswith("step 8\nconv: 1.1 of 32\nAlarm: ")
    assert boxes[8].value_of_css_property("fill") == colours[8]
