"""The commands on the pages are run, in order, and print what the pages show."""

from pathlib import Path

import pytest

from tests.docs.compare import matches
from tests.docs.pages import ROOT, commands, hidden_commands, not_run, pages
from tests.docs.terminal import Terminal

EXACT = ("docs/race.md", "docs/explain.md")  # where numbers don't depend on the host
NOT_RUN = {
    "README.md": {"needs root"},
    "docs/index.md": {"makes an environment and needs the package index"},
    "docs/proc.md": {"needs root", "needs root, node_exporter and numactl; tests/proc has the same"},
    "docs/drgn.md": {"it needs a running machine; tests/drgn has the same"},
    "docs/race.md": {"it is a part of examples/lost_page.py, which a test compares"},
}
NEEDS = {"docs/drgn.md": "drgn", "docs/trace.md": "perfetto"}  # extras
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in pages()}
PLAYED = [name for name, text in PAGES.items() if commands(text)]


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYED)
def test_a_page_shows_what_its_commands_print(name: str, tmp_path: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"{NEEDS[name]} is not installed")
    shell = Terminal(tmp_path)
    for block in commands(PAGES[name]):
        for command, status, out, err in shell.play(block):
            assert matches(command.shown, out, err, name in EXACT), (
                f"$ {command.line}\n{out}{err}\n--- the page has:\n{command.shown}"
            )
            assert status in (0, 1) or command.shown.startswith("emu: "), f"$ {command.line}\n{out}{err}"


def test_pages_have_commands() -> None:
    assert {"docs/index.md", "docs/race.md", "docs/explain.md", "docs/stress.md"} <= set(PLAYED)


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"docs/commands.md"}))
def test_every_command_is_where_it_is_run(name: str) -> None:
    assert hidden_commands(PAGES[name]) == []
    assert set(not_run(PAGES[name])) == NOT_RUN.get(name, set())
