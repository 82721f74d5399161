"""The page as a person uses it, in headless Chromium; and Netron, which shows annotated models."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import pages
import pytest
from get_browser import MissingBrowser, programs
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from intrain_onnx.report.annotate import annotate
from intrain_onnx.report.document import Report
from intrain_onnx.report.page import page

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    "--window-size=1280,900",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # Netron asks where in the world it is
)
CSS = By.CSS_SELECTOR


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    try:
        found = programs()
    except MissingBrowser as error:
        pages.missing(error)
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(found["chromedriver"]))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module", params=pages.NETWORKS)
def report(request: pytest.FixtureRequest) -> Report:
    return pages.real(request.param)


@pytest.fixture
def opened(report: Report, browser: webdriver.Chrome, tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """The browser with the page of a report; afterwards nothing was complained of, and nothing fetched."""
    yield from open_page(browser, tmp_path, [report])


def open_page(browser: webdriver.Chrome, folder: Path, reports: list[Report]) -> Iterator[webdriver.Chrome]:
    yield from open_text(browser, folder, page(reports))


def open_text(browser: webdriver.Chrome, folder: Path, text: str) -> Iterator[webdriver.Chrome]:
    """The browser with a page; afterwards nothing was complained of, and nothing fetched."""
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    browser.get_log("performance")
    browser.get(file.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    messages = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    urls = {
        m["params"]["request"]["url"].split("#")[0]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    }
    own = ("data:", "chrome:")  # nothing is fetched for them; the browser begins with a page of its own
    assert {u for u in urls if not u.startswith(own)} == {file.as_uri()}
    browser.execute_script("localStorage.clear()")


def layer_names(browser: webdriver.Chrome) -> list[str]:
    script = (
        "return [...document.querySelectorAll('.layers tbody tr:not([hidden]) th')].map(x => x.textContent)"
    )
    return browser.execute_script(script)


def label(layer: dict[str, Any]) -> str:
    return layer["module"] or layer["name"]


def header(browser: webdriver.Chrome, name: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//table[contains(@class,'layers')]//th[button[text()='{name}']]")


def background(browser: webdriver.Chrome) -> str:
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_the_table_is_sorted(opened: webdriver.Chrome, report: Report):
    layers = report.data["layers"]
    assert layer_names(opened) == [label(x) for x in layers]
    assert header(opened, "Depth").get_attribute("aria-sort") == "ascending"
    ratios = {label(x): x["participation_ratio"] for x in layers}
    for direction, sign in (("ascending", 1), ("descending", -1)):
        header(opened, "PR").find_element(CSS, "button").click()
        assert header(opened, "PR").get_attribute("aria-sort") == direction
        assert header(opened, "Depth").get_attribute("aria-sort") is None
        shown = [ratios[name] for name in layer_names(opened)]
        known = [sign * r for r in shown if r is not None]
        assert known == sorted(known)
        assert shown[len(known) :] == [None] * (len(shown) - len(known))
    header(opened, "Layer").find_element(CSS, "button").send_keys(Keys.ENTER)  # a header is a button
    assert header(opened, "Layer").get_attribute("aria-sort") == "ascending"


def test_the_table_is_searched(opened: webdriver.Chrome, report: Report):
    layers = report.data["layers"]
    wanted = layers[-1]["name"]  # a node's name finds what is shown by its module
    opened.find_element(CSS, ".search").send_keys(wanted.upper())
    expected = [label(x) for x in layers if wanted.lower() in f"{label(x)} {x['name']}".lower()]
    assert layer_names(opened) == expected
    status = opened.find_element(CSS, ".shown")
    assert status.text == f"{len(expected)} of {len(layers)} layers"
    assert status.get_attribute("role") == "status"
    opened.find_element(CSS, ".search").clear()
    opened.find_element(CSS, ".search").send_keys("nothing is called so")
    assert layer_names(opened) == []
    opened.find_elements(CSS, "a.tile")[-1].click()  # a link to a hidden row shows it again
    assert len(layer_names(opened)) == len(layers)


def test_layers_are_filtered_by_status(opened: webdriver.Chrome, report: Report):
    for status in {x["status"] for x in report.data["layers"]}:
        opened.find_element(CSS, f".status option[value='{status}']").click()
        assert layer_names(opened) == [label(x) for x in report.data["layers"] if x["status"] == status]


def test_a_layer_tells_what_it_is(opened: webdriver.Chrome, report: Report):
    tip = opened.find_element(CSS, "#tip")
    tiles = opened.find_elements(CSS, "a.tile")
    assert len(tiles) == len(report.data["layers"])
    assert not tip.is_displayed()
    ActionChains(opened).scroll_to_element(tiles[0]).move_to_element(tiles[0]).perform()
    assert tip.is_displayed()
    assert label(report.data["layers"][0]) in tip.text
    assert "Gradient" in tip.text
    ActionChains(opened).send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()


def test_keys_go_from_layer_to_layer(opened: webdriver.Chrome):
    tiles = opened.find_elements(CSS, "a.tile")
    assert [t.get_attribute("tabindex") for t in tiles] == ["0", *["-1"] * (len(tiles) - 1)]
    opened.execute_script("arguments[0].focus()", tiles[0])
    ActionChains(opened).send_keys(Keys.ARROW_RIGHT).perform()
    assert opened.switch_to.active_element == tiles[1]
    assert opened.find_element(CSS, "#tip").is_displayed()
    ActionChains(opened).send_keys(Keys.END).perform()
    assert opened.switch_to.active_element == tiles[-1]
    ActionChains(opened).send_keys(Keys.ENTER).perform()
    target = opened.current_url.partition("#")[2]
    assert opened.find_element(By.ID, target).is_displayed()
    assert opened.execute_script("return document.querySelector('tr:target').id") == target


def test_the_first_stop_skips_to_the_content(opened: webdriver.Chrome):
    ActionChains(opened).send_keys(Keys.TAB).perform()
    assert opened.switch_to.active_element.text == "Skip to the content"


def test_the_theme_follows_the_system_until_it_is_chosen(opened: webdriver.Chrome):
    def system(theme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": theme}]
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def choose(name: str) -> None:
        opened.find_element(CSS, f".theme input[value='{name}']").click()

    system("light")
    light = background(opened)
    system("dark")
    dark = background(opened)
    assert light != dark
    choose("light")
    assert background(opened) == light

    def remembered(browser: webdriver.Chrome) -> bool:
        choose("light")  # again: a page that is left at once can take its storage with it
        browser.refresh()
        return background(browser) == light

    WebDriverWait(opened, 20).until(remembered)
    system("light")
    choose("dark")
    assert background(opened) == dark
    choose("")
    assert background(opened) == light


def test_layers_are_coloured_by_ratio_or_by_health(opened: webdriver.Chrome):
    def colours() -> list[str]:
        script = "return [...document.querySelectorAll('a.tile rect')].map(x => getComputedStyle(x).fill)"
        return opened.execute_script(script)

    before = colours()
    opened.find_element(CSS, ".by input[value='h']").click()
    assert colours() != before
    opened.find_element(CSS, ".by input[value='p']").click()
    assert colours() == before


def test_a_chart_tells_its_values_to_keys_and_fingers(opened: webdriver.Chrome):
    go_through_a_chart(opened, opened.find_element(CSS, ".chart > svg"))


def go_through_a_chart(browser: webdriver.Chrome, chart: WebElement) -> None:
    """Each column by the arrow keys, and the first by touch; the browser's own tips are no part of it."""
    tip = browser.find_element(CSS, "#tip")
    columns = chart.find_elements(CSS, ".hits rect")
    assert chart.find_elements(CSS, ".hits title") == []
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser).send_keys(Keys.TAB).perform()
    browser.execute_script("arguments[0].focus({focusVisible: true})", chart)
    told = [tip.text]
    for _ in columns[1:]:
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
        told.append(tip.text)
        assert len(chart.find_elements(CSS, ".hits .on")) == 1
    assert len(set(told)) == len(columns)
    assert all(re.match(r"(depth|node) \d+\n", text) for text in told)
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()
    finger = ActionBuilder(browser, mouse=PointerInput("touch", "finger"))
    finger.pointer_action.move_to(columns[0]).pointer_down().pointer_up()
    finger.perform()
    assert tip.text == told[0]


CONTRAST = """
const channel = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const parse = s => s.match(/[\\d.]+/g).map(Number);
const ground = e => {
  const tile = e.closest("a.tile");
  if (tile) return parse(getComputedStyle(tile.querySelector("rect")).fill);
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
const low = [];
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
  const style = getComputedStyle(e), svg = e instanceof SVGElement;
  if (svg && !["text"].includes(e.tagName)) continue;
  const shades = [light(parse(svg ? style.fill : style.color)), light(ground(e))];
  const [a, b] = shades.sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) low.push(`${e.tagName} ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
}
return low;
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_contrast(opened: webdriver.Chrome, theme: str):
    """At least 4.5 to 1, as WCAG's level AA asks for."""
    opened.find_element(CSS, f".theme input[value='{theme}']").click()
    for by in ("h", "p"):
        opened.find_element(CSS, f".by input[value='{by}']").click()
        assert opened.execute_script(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 600, 1600])
def test_no_width_makes_the_page_scroll_sideways(opened: webdriver.Chrome, width: int):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints(opened: webdriver.Chrome):
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(printed) > 20_000


@pytest.fixture(scope="module")
def plain() -> Report:
    return pages.real("dead")


def test_several_reports_open_from_the_ranking(plain: Report, browser: webdriver.Chrome, tmp_path: Path):
    for opened in open_page(browser, tmp_path, [plain, plain]):
        assert opened.find_elements(CSS, "#r2[open]") == []
        opened.find_element(CSS, "a[href='#r2']").click()
        WebDriverWait(opened, 10).until(lambda driver: driver.find_elements(CSS, "#r2[open]"))


def test_hostile_names_do_nothing(plain: Report, browser: webdriver.Chrome, tmp_path: Path):
    for opened in open_page(browser, tmp_path, [pages.hostile(plain)]):
        tile = opened.find_elements(CSS, "a.tile")[0]
        ActionChains(opened).scroll_to_element(tile).move_to_element(tile).perform()
        assert opened.find_element(CSS, "#tip").is_displayed()
        assert opened.find_elements(CSS, "#tip script, img") == []
        assert len(opened.find_elements(CSS, "script")) == 1


def test_five_hundred_layers_stay_quick(plain: Report, browser: webdriver.Chrome, tmp_path: Path):
    for opened in open_page(browser, tmp_path, [pages.synthetic(plain)]):
        before = layer_names(opened)
        started = time.monotonic()
        header(opened, "Health").find_element(CSS, "button").click()
        after = layer_names(opened)
        assert time.monotonic() - started < 5
        assert before != after
        assert sorted(before) == sorted(after)


@pytest.fixture
def netron(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Serve a model by Netron on this machine; the address."""
    pytest.importorskip("netron")
    servers = []

    def serve(model: Path) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        code = (
            f"import netron; netron.start({str(model)!r}, ('127.0.0.1', {port}), browse=False); netron.wait()"
        )
        environment = os.environ | {"HOME": str(tmp_path)}
        servers.append(Popen([sys.executable, "-c", code], stdout=DEVNULL, stderr=DEVNULL, env=environment))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            time.sleep(0.1)
        raise TimeoutError("Netron does not answer")

    yield serve
    for server in servers:
        server.kill()
        server.wait()


def test_netron_shows_the_measurements(
    browser: webdriver.Chrome, netron: Callable[[Path], str], tmp_path: Path
):
    source = pages.SAMPLES / "keras_mobile.onnx"
    report = pages.real("cnn")
    annotate(source, report, tmp_path / "annotated.onnx")
    browser.get(netron(tmp_path / "annotated.onnx"))
    waiting = WebDriverWait(browser, 60)
    waiting.until(lambda b: b.find_element(By.ID, "message-button").is_displayed())
    browser.find_element(By.ID, "message-button").click()  # it asks for consent to its terms
    for layer in (report.data["layers"][0], report.data["layers"][-1]):
        name = f"node-name-{layer['name']}"
        waiting.until(lambda b, name=name: b.find_elements(By.ID, name))
        node = browser.find_element(By.ID, name).find_element(CSS, ".node-item")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)
        ActionChains(browser).move_to_element(node).click().perform()
        ratio = f"{layer['participation_ratio']:.4g}"
        waiting.until(lambda b, ratio=ratio: ratio in sidebar(b).values())
        shown = sidebar(browser)
        assert shown["intrain.participation_ratio"] == ratio
        assert shown["intrain.depth"] == str(layer["depth"])
        assert shown["intrain.status"] == "measured"


def sidebar(browser: webdriver.Chrome) -> dict[str, str]:
    """Names and values of Netron's sidebar."""
    script = """
        return [...document.querySelectorAll(".sidebar-item")].map(item => [
            item.querySelector(".sidebar-item-name input")?.value ?? "",
            item.querySelector(".sidebar-item-value-list")?.innerText ?? ""]);
    """
    rows = browser.execute_script(script)
    return {name.strip(): value.strip() for name, value in rows}
