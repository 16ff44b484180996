"""The report in a browser: nothing fails, nothing is asked from the network, and what is clicked works."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from qnep.analysis import Frame
from qnep.analysis.findings import Chart, Drawing, Findings, Flow, Series, Table
from qnep.analysis.snapshots import make_snapshot
from qnep.report.page import RunFacts, build_page

pytest.importorskip("plotly")

NASTY = 'A </script><b>"B" & \u2028'
CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1280,1600", "--hide-scrollbars",
)  # fmt: skip


def make_findings():
    """One of everything, with names that HTML and JSON stumble over, and a gap in a curve."""
    rng = np.random.default_rng(0)
    atoms = Atoms("Na20F20C6H6O8", 12 * rng.random((60, 3)), cell=[12, 12, 12], pbc=True)
    atoms.set_initial_charges(np.linspace(-1, 1, 60))
    snapshots = [make_snapshot(Frame.from_ase(atoms, k, 500.0 * k)) for k in range(3)]
    curve = Series("EC", [0.0, 1.0, 2.0], [5.0, float("nan"), 3.0])
    rows = [[f"species {k}", k, k**2] for k in range(60)]
    return Findings(
        about={"frames": 3}, notes=[NASTY],
        charts=[
            Chart("species", "Species", "Species", "Of time.", "time / ps", "molecules", [curve]),
            Chart("gases", "Gases", NASTY, "", "gas", "percent", [Series("run", ["CO", "C₂H₄"], [30, 70])], "bar"),
        ],
        flows=[Flow("flow", "Reactions", "Flow", "", ["EC", "CO", "rest"], [(0, 1, 3.0), (0, 2, 3.0)])],
        tables=[
            Table("species_table", "Species", "All", "", ["name", "count", "square"], rows),
            Table("events", "Reactions", "Events", "", ["frame", "reactants"], []),
        ],
        drawings=[Drawing("map", "Bond cleavage", "Map", "", '<svg xmlns="http://www.w3.org/2000/svg"/>')],
        snapshots=snapshots,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    run = RunFacts(
        "Report of " + NASTY, {"temperature": 450}, {"elements": "Na C"}, {"in.lammps": NASTY}
    )
    path.write_text(build_page(run, make_findings()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; skipped where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip(
            "chromium and chromedriver are not installed (Debian: chromium, chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in CHROMIUM_FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    window = webdriver.Chrome(options=options, service=service)
    yield window
    window.quit()


def open_page(browser, page):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get_log("browser")
    browser.get(page.as_uri())
    WebDriverWait(browser, 30).until(
        lambda b: b.execute_script("return document.body.dataset.ready") == "true"
    )


def check_console(browser):
    assert [
        entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"
    ] == []


def test_page_asks_for_nothing_from_elsewhere(browser, page):
    browser.get_log("performance")
    open_page(browser, page)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in urls if not url.startswith(("data:", "blob:"))} == {page.as_uri()}
    check_console(browser)


def test_everything_is_drawn_with_names_as_they_are(browser, page):
    open_page(browser, page)
    assert len(browser.find_elements("css selector", ".plot .main-svg")) >= 3
    headings = [h.text for h in browser.find_elements("css selector", "h2")]
    assert headings == ["Snapshots", "Species", "Reactions", "Bond cleavage", "Gases"]
    empty = browser.find_element("css selector", "figure[data-name=events]")
    assert empty.text.splitlines() == ["Events", "none seen"]
    assert "</script><b>" in browser.find_element("css selector", ".notes").text
    assert browser.title.startswith("Report of A </script><b>")
    check_console(browser)


def test_clicks(browser, page):
    """Sort and filter a table, show all of it, download data, turn the atoms, change frame and colour."""
    open_page(browser, page)
    table = browser.find_element("css selector", "figure[data-name=species_table]")
    assert len(table.find_elements("css selector", "tbody tr")) == 25
    table.find_element("xpath", "./button").click()
    assert len(table.find_elements("css selector", "tbody tr")) == 60
    for _ in range(2):
        table.find_elements("css selector", "th")[2].click()
    assert table.find_element("css selector", "tbody td").text == "species 59"
    table.find_element("css selector", "input").send_keys("species 7")
    assert [r.text for r in table.find_elements("css selector", "tbody tr")] == ["species 7 7 49"]
    browser.find_element("css selector", "figure[data-name=species] button.download").click()
    assert browser.execute_script("return document.body.dataset.saved") == "species.csv"
    turn_atoms(browser)
    check_console(browser)


def turn_atoms(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = browser.find_element("id", "viewer")
    before = browser.execute_script("return [viewer.rotation, viewer.canvas.toDataURL()]")
    ActionChains(browser).drag_and_drop_by_offset(canvas, 120, 40).perform()
    after = browser.execute_script("return [viewer.rotation, viewer.canvas.toDataURL()]")
    rotation = np.array(after[0])
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert before[0] != after[0]
    assert before[1] != after[1]
    canvas.send_keys("\ue014")  # arrow right
    assert browser.execute_script("return viewer.rotation") != after[0]
    browser.find_element("id", "color-by").send_keys("colour: charge")
    assert browser.execute_script("return viewer.colorBy") == "charge"
    browser.find_element("id", "frame-slider").send_keys("\ue010")  # end
    assert browser.execute_script("return viewer.index") == 2
    assert "1.000 ps" in browser.find_element("css selector", "output").text


def test_screenshot(browser, page, tmp_path):
    """A picture of the page to look at; it is not empty."""
    from PIL import Image

    open_page(browser, page)
    path = tmp_path / "report.png"
    assert browser.save_screenshot(str(path))
    with Image.open(path) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 200
    check_console(browser)


def test_narrow_window_does_not_scroll_sideways(browser, page):
    browser.set_window_size(600, 900)
    try:
        open_page(browser, page)
        overflow = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(overflow) <= 0
    finally:
        browser.set_window_size(1280, 1600)


def test_scripts_name_no_address():
    """Our own scripts load nothing; what plotly may load (maps) the page does not use."""
    for name in ("viewer.js", "page.js", "page.css"):
        text = (Path(__file__).parents[2] / "src/qnep/report" / name).read_text()
        assert not re.search(r"https?://|import\s*\(|fetch\(", text)
