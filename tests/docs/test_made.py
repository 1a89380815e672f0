"""Pages that are made from the source are those of today's source, and leave nothing out."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.source import needs_source, tool

pytestmark = needs_source
WALKTHROUGH = Path(__file__).parent / "data" / "walkthrough.txt"


def test_made_pages_are_not_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tool("make", monkeypatch).pages()
    stale = [path.name for path, text in made.items() if not path.exists() or path.read_text() != text]
    gone = [path.name for path in (ROOT / "docs" / "functions").glob("*.md") if path not in made]
    assert (stale, gone) == ([], []), "make docs writes them anew"


def test_every_function_of_the_kernel_is_on_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    functions = tool("functions", monkeypatch)
    listed = Counter(path for family in functions.read_families() for path in family.modules)
    assert listed == Counter(dict.fromkeys(functions.read_model(), 1)), "docs/tools/families.toml"


def test_the_way_to_a_page_is_told_in_full() -> None:
    """Every function of 5.10 on the way from alloc_pages() to a page is in a table, or in limits.md with the reason."""
    pages = [*(ROOT / "docs" / "functions").glob("*.md"), ROOT / "docs" / "limits.md"]
    told = set(re.findall(r"(\w+)\(\)", " ".join(page.read_text() for page in pages)))
    names = WALKTHROUGH.read_text().split()
    assert len(names) > 100
    assert [name for name in names if name not in told] == []


@pytest.mark.parametrize(
    ("doc", "kernel"),
    [
        ("``mm/page_alloc.c:rmqueue() (5.10)``: a page.", "`mm/page_alloc.c:rmqueue()`"),
        ("``get_page()``, ``put_page() (5.10.262)``; no lock.", "`get_page()`, `put_page()`"),
        ("The loop of ``shrink_list()``: ...", "part of `shrink_list()`"),
        ("What ``try_charge()`` decides.", "part of `try_charge()`"),
        ("Whether ``rmqueue()`` takes from here.", "beside `rmqueue()`"),
        ("Ours alone.\n\nAs ``rmqueue()`` does.", ""),
    ],
)
def test_a_docstring_names_the_kernels_function(doc: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tool("functions", monkeypatch).kernel_names(doc) == kernel


def test_a_docstring_tells_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    deviation = tool("functions", monkeypatch).deviation
    assert deviation("``x()``. Differs from 5.10: no ``y()``,\nsee :func:`z`.\n\nMore.") == "no `y()`, see `z`."
    assert deviation("X.\n\nDiffers from 5.10:\n\n- one,\n  still one;\n- two.\n\nMore.") == "one, still one; two."
    assert deviation("``x()``") == ""
