"""The page has what was recorded, escapes what it prints, and asks nobody for anything."""

import html.parser
import json
import re
import shlex
from typing import Any

import numpy as np
import pytest

from emu.html.data import unpacked
from emu.html.memory_map import PLANES
from emu.html.page import HERE, SCRIPTS
from emu.html.recorder import Recording
from tests.html.runs import EVIL, recorded


class Elements(html.parser.HTMLParser):
    """All start tags, and the text of some elements by id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if values.get("id"):
            self._open = str(values["id"])

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open, data)


@pytest.fixture(scope="module")
def made() -> tuple[Recording, str]:
    return recorded()


def data_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Elements(page).text["data"])
    return found


def test_the_data_are_the_samples(made: tuple[Recording, str]) -> None:
    recording, page = made
    data, samples = data_of(page), recording.samples
    assert len(samples) > 12
    assert data["t"] == [round((s.at - samples[0].at) / 1e9, 6) for s in samples] == sorted(data["t"])
    for i, zone in enumerate(data["zones"]):
        assert zone["free"] == [s.free[i] for s in samples]
        assert [zone["min"], zone["low"], zone["high"]] == [[s.marks[i][k] for s in samples] for k in range(3)]
        assert zone["nr_free"] == [s.nr_free[i] for s in samples]
        assert zone["pcp"] == [s.pcp[i] for s in samples]
        assert len(zone["unusable"]) == len(zone["extfrag"]) == len(samples)
    assert data["events"]["pgfree"] == samples[-1].events[16] - samples[0].events[16] > 0
    assert all(len(counts) == len(samples) for counts in data["marks"].values())


def test_the_frames_are_those_of_the_map(made: tuple[Recording, str]) -> None:
    recording, page = made
    frames = unpacked(Elements(page).text["frames"], recording.memory.nr_cells)
    assert np.array_equal(frames, np.stack([frame for _, frame in recording.frames]))
    about = data_of(page)["map"]
    assert (about["cells"], about["planes"], len(about["t"])) == (32, list(PLANES), len(frames))
    assert frames[:, :, PLANES.index("workload")].any(), "the workload holds something"


def test_free_pages_of_the_map_and_of_the_counters_agree_at_rest(made: tuple[Recording, str]) -> None:
    recording, _ = made
    last = recording.frames[-1][1][:, PLANES.index("free")].astype(int).sum()
    free = sum(nr << order for zone in recording.samples[-1].nr_free for order, nr in enumerate(zone))
    assert last == free


def test_the_failure_is_there_and_explained(made: tuple[Recording, str]) -> None:
    recording, page = made
    (one,) = [incident for incident in data_of(page)["incidents"] if incident["kind"] == "failure"]
    assert one["text"].startswith("emu/0: page allocation failure: order:10, mode:")
    assert one["text"] == next(i.text for i in recording.incidents if i.kind == "failure")
    assert one["verdict"] and f"verdict: {one['verdict']}" in one["lines"]
    assert 0 < one["t"] < data_of(page)["t"][-1]


def test_text_is_escaped(made: tuple[Recording, str]) -> None:
    _, page = made
    assert EVIL not in page
    elements = Elements(page)
    assert [tag for tag, _ in elements.tags].count("script") == 4
    assert "b" not in [tag for tag, _ in elements.tags]
    assert shlex.split(elements.text["command"]) == ["emu", "run", EVIL]


def test_it_needs_no_network(made: tuple[Recording, str]) -> None:
    _, page = made
    tags = Elements(page).tags
    wanted = [v for _, attrs in tags for k, v in attrs.items() if k in ("src", "href") and v]
    assert all(value.startswith(("#", "data:")) for value in wanted), wanted
    policies = [attrs["content"] for tag, attrs in tags if tag == "meta" and "http-equiv" in attrs]
    assert policies and str(policies[0]).startswith("default-src 'none'")
    assert page.count("plotly.js v") == 1, "the library is there once"


def test_every_heading_is_in_the_table_of_contents() -> None:
    frame = (HERE / "page.html").read_text()
    sections = re.findall(r'<section id="(\w+)"', frame)
    assert sections == re.findall(r'<li><a href="#(\w+)"', frame) and len(sections) == 7
    assert sorted(SCRIPTS) == sorted(path.name for path in HERE.glob("*.js"))
