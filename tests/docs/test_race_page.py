"""What docs/race.md says beside its commands, which test_pages runs."""

import re

from typer.main import get_command

from emu.cli.race import race
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "race.md").read_text()


def test_the_example_on_the_page_is_the_file() -> None:
    block = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]
    example = (ROOT / "examples" / "lost_page.py").read_text()
    for line in block.splitlines():
        assert line in example.splitlines() or line.strip() == "...", line


def test_all_commands_of_the_room_are_on_the_page() -> None:
    names = list(get_command(race).commands)  # type: ignore[attr-defined]
    assert len(names) >= 6
    assert all(f"emu race {name}" in PAGE for name in names), names
