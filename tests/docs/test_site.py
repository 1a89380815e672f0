"""The site is built without network, every link leads somewhere, and search works."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.source import needs_source

pytestmark = [needs_source, pytest.mark.tool, pytest.mark.slow]
# What a page fetches by itself; where a link leads is the reader's choice.
CHROMIUM_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--window-size=1400,900",
)  # fmt: skip
FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]* (?:src|href)=\"?(https?:[^\s\">]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'emu-pagealloc[docs]'")
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'emu-pagealloc[docs]'")
    out = tmp_path_factory.mktemp("site")
    nobody = "http://127.0.0.1:9"  # a proxy that doesn't answer: whatever is fetched fails
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": nobody, "https_proxy": nobody},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_nothing_is_fetched(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    fetched = {url for page in pages for url in FETCHED.findall(page.read_text())}
    sheets = " ".join(sheet.read_text() for sheet in site.rglob("*.css"))
    styles = set(re.findall(r"url\((https?:[^)]+)\)", sheets))
    assert fetched | styles == set()


def test_search_finds_a_function_and_a_command(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert any("steal_suitable_fallback" in doc["text"] for doc in index["docs"])
    assert any(doc["title"] == "emu race minimize" for doc in index["docs"])


def test_search_works_in_a_page_opened_from_disk(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium or chromedriver is not there")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*CHROMIUM_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=Service(driver)) as browser:
        browser.get((site / "functions" / "buddy.html").as_uri())
        wait = WebDriverWait(browser, 30)
        field = wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "input.md-search__input"))
        field.click()
        field.send_keys("steal_suitable_fallback")
        found = wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".md-search-result__link"))
        assert "/functions/pageblocks.html" in str(found[0].get_attribute("href"))
        assert browser.get_log("browser") == []


def test_links_to_the_source_are_text_on_the_site(site: Path) -> None:
    page = (site / "functions" / "buddy.html").read_text()
    assert "emu/zone/buddy.py" in page and 'href="../../emu' not in page


def test_the_manual_page_is_one() -> None:
    man = shutil.which("man")
    if man is None:
        pytest.skip("man is not installed")
    done = subprocess.run(
        [man, "--warnings", "-l", str(ROOT / "docs" / "emu.1")], capture_output=True, text=True, check=True,
        env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}, timeout=60,
    )  # fmt: skip
    assert "emu race minimize" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_of_pages_outside_the_site_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
