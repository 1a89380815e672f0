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
    styles = {url for sheet in site.rglob("*.css") for url in re.findall(r"url\((https?:[^)]+)\)", sheet.read_text())}
    assert fetched | styles == set()


def test_search_finds_a_function_and_a_command(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    text = {doc["location"].partition("#")[0]: doc["text"] for doc in index["docs"] if "functions/pageblocks" in doc["location"]}
    assert any("steal_suitable_fallback" in doc["text"] for doc in index["docs"]), text.keys()
    assert any(doc["title"] == "emu race minimize" for doc in index["docs"])
    assert (site / "search" / "search_index.js").is_file()  # what a page that was opened from disk can load


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
