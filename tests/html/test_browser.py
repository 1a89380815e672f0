"""The page in a real browser: opened from disk, looked at, clicked through."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emu.html.memory_map import PLANES
from emu.html.recorder import Recording
from tests.html.runs import recorded

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
LOCAL = ("file:", "data:", "blob:", "chrome:")
pytestmark = [
    pytest.mark.tool,
    pytest.mark.compiled,
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="chromium or chromedriver is not there"),
]


@pytest.fixture(scope="module")
def made() -> tuple[Recording, str]:
    return recorded()


class Browser:
    """A page in it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: str, path: Path, width: int = 1200, scheme: str = "light") -> None:
        path.write_text(page)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get(path.as_uri())
        self.wait(lambda: self.run("return document.documentElement.dataset.ready") == "yes")

    def run(self, script: str, *args: object) -> Any:
        return self.driver.execute_script(script, *args)

    def text(self, css: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", css))

    def find(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def wait(self, done: Callable[[], bool]) -> None:
        """For what the page does at its next frame."""
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline, self.driver.get_log("browser")
            time.sleep(0.02)

    def canvas(self) -> str:
        """What the largest map shows."""
        return str(self.run("return [...document.querySelectorAll('canvas')].pop().toDataURL()"))

    def quiet(self) -> None:
        """No message in the console, no request to anybody."""
        assert self.driver.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert any(url.startswith("file:") for url in asked), "the log has the page itself"
        assert [url for url in asked if not url.startswith(LOCAL)] == []


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def press(browser: Browser, css: str, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.find(css).send_keys(getattr(Keys, key))


def test_the_slider_moves_the_map(browser: Browser, made: tuple[Recording, str], tmp_path: Path) -> None:
    recording, page = made
    browser.open(page, tmp_path / "page.html")
    times = [(at - recording.began) / 1e9 for at, _ in recording.frames]
    browser.wait(lambda: browser.text("#shown").startswith(f"{times[-2]:.3f} s, look {len(times) - 1} of {len(times)}"))
    before = browser.canvas()
    press(browser, "#time", "HOME")
    browser.wait(lambda: browser.text("#shown") == f"{times[0]:.3f} s, look 1 of {len(times)}")
    browser.wait(lambda: browser.canvas() != before)
    press(browser, "#time", "ARROW_RIGHT")
    browser.wait(lambda: browser.text("#shown").startswith(f"{times[1]:.3f} s"))
    first = browser.canvas()
    browser.run("arguments[0].value = 'owners'; arguments[0].dispatchEvent(new Event('change'))", browser.find("#mode"))
    browser.wait(lambda: browser.canvas() != first)
    assert "workload" in browser.text("#legend")
    used = browser.canvas()
    browser.run(
        "arguments[0].value = 'parties'; arguments[0].dispatchEvent(new Event('change'))", browser.find("#mode")
    )
    browser.wait(lambda: browser.canvas() != used)
    assert "CPU 0" in browser.text("#legend") and "CPU 1" in browser.text("#legend")
    browser.find("#play").click()
    browser.wait(lambda: browser.text("#shown").endswith(f"look {len(times)} of {len(times)}"))
    browser.wait(lambda: browser.find("#play").get_attribute("aria-label") == "play")
    browser.quiet()


def test_a_cell_shows_its_facts(browser: Browser, made: tuple[Recording, str], tmp_path: Path) -> None:
    recording, page = made
    browser.open(page, tmp_path / "page.html")
    press(browser, "canvas[aria-label*='DMA32']", "HOME")
    browser.wait(lambda: browser.text("#cell h4") == "Pageblock 8, Node 0 DMA32")
    press(browser, "canvas[aria-label*='DMA32']", "ARROW_RIGHT")
    browser.wait(lambda: browser.text("#cell h4") == "Pageblock 9, Node 0 DMA32")
    cell = recording.frames[-2][1][9].tolist()
    free = cell[PLANES.index("free")]
    facts = dict(
        browser.run(
            "return [...document.querySelectorAll('#cell tr')].map((r) => [...r.cells].map((c) => c.textContent))"
        )
    )
    assert facts["address"] == "0x1200000–0x1400000" and facts["pages"] == "4608–5119"
    assert facts["free"] == f"{free} of 512 ({int(100 * free / 512 + 0.5)} %)"
    for name in ("anon", "file", "workload"):
        pages = cell[PLANES.index(name)]
        assert facts.get(name) == (f"{pages} pages" if pages else None)

    from selenium.webdriver import ActionChains

    board = browser.find("canvas[aria-label*='DMA32']")
    ActionChains(browser.driver).move_to_element(board).click().perform()
    browser.wait(lambda: browser.text("#cell h4") != "Pageblock 9, Node 0 DMA32")
    assert browser.text("#tip").startswith(browser.text("#cell h4"))
    browser.quiet()


def test_a_failure_is_explained(browser: Browser, made: tuple[Recording, str], tmp_path: Path) -> None:
    _, page = made
    browser.open(page, tmp_path / "page.html")
    browser.find("#failure-list a").click()
    browser.wait(lambda: bool(browser.run("return document.querySelector('#failure-0').open")))
    assert browser.text("#failure-0 .verdict") and "verdict: " in browser.text("#failure-0 .explained")
    assert "page allocation failure: order:10" in browser.text("#failure-0 pre:last-of-type")
    browser.run("document.querySelector('#failure-0').open = false; location.hash = ''")
    diamond = "const p = document.querySelector('#timeline-plot'), i = p.data.findIndex((t) => t.name === 'reported');"
    browser.run(
        diamond + "p.emit('plotly_click', { points: [{ data: p.data[i], customdata: p.data[i].customdata[0] }] })"
    )
    browser.wait(lambda: bool(browser.run("return document.querySelector('#failure-0').open")))
    assert browser.run("return location.hash") == "#failure-0"
    browser.quiet()


def test_the_timeline_has_zones_marks_and_lanes(browser: Browser, made: tuple[Recording, str], tmp_path: Path) -> None:
    recording, page = made
    browser.open(page, tmp_path / "page.html")
    names = browser.run("return document.querySelector('#timeline-plot').data.map((t) => t.name)")
    assert {"free", "high", "low", "min", "kswapd0", "kcompactd0", "direct reclaim", "reported"} <= set(names)
    assert browser.run("return document.querySelectorAll('#timeline-plot svg').length") > 0
    assert browser.run("return document.querySelector('#timeline-plot').data[0].y") == [
        s.free[1] for s in recording.samples
    ]
    browser.run("arguments[0].value = '0'; arguments[0].dispatchEvent(new Event('change'))", browser.find("#zone"))
    browser.wait(
        lambda: (
            browser.run("return document.querySelector('#timeline-plot').data[0].y")
            == [s.free[0] for s in recording.samples]
        )
    )
    t = recording.frames[3][0] - recording.began
    browser.run(
        "const p = document.querySelector('#timeline-plot');"
        "p.emit('plotly_click', { points: [{ data: p.data[0], x: arguments[0] }] })", t / 1e9,
    )  # fmt: skip
    browser.wait(lambda: browser.text("#shown").startswith(f"{t / 1e9:.3f} s, look 4 "))
    for name in ("owners", "unusable", "buddy"):
        assert browser.run(f"return document.querySelectorAll('#{name}-plot svg').length") > 0
    browser.quiet()


def test_a_run_in_which_nothing_happened(browser: Browser, tmp_path: Path) -> None:
    browser.open(recorded("repeat", fails=False)[1], tmp_path / "page.html")
    assert browser.text("#failure-list") == "No allocation failed, and the OOM killer was not called."
    assert "--lock-stat" not in browser.text("#lock-list"), "there are no locks on this page"
    assert browser.run("return document.querySelectorAll('#timeline-plot .y2tick').length") >= 7
    browser.quiet()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "dark"), (400, "light")])
def test_it_fits(browser: Browser, made: tuple[Recording, str], tmp_path: Path, width: int, scheme: str) -> None:
    browser.open(made[1], tmp_path / "page.html", width, scheme)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    dark = browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (scheme == "dark")
    widths = browser.run("return [...document.querySelectorAll('canvas, .plot')].map((e) => e.clientWidth)")
    assert len(widths) >= 6 and all(0 < each <= width for each in widths)
    browser.quiet()
