"""The commands of docs/race.md are run, and print what it shows, but for times, digests and how many schedules it took
(a point that is added anywhere changes these)."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.main import get_command

from emu.cli.race import race
from emu.programs import load_all
from tests.race.command import Emu

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "race.md").read_text()
LEFT_OUT = "[...]\n"
VARIES = re.compile(r" +[\d,]+ schedules +\d+\.\d+ s +[\d,]+/s|[\d,]+ tries in \d+\.\d+ s|[0-9a-f]{16}")


def commands(page: str) -> list[tuple[str, str]]:
    """Each command of the page and the output below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def pattern(shown: str) -> str:
    """What the output must match."""
    parts = [re.escape(VARIES.sub("<varies>", part)) for part in shown.split(LEFT_OUT)]
    return "(?:.*\n)*?".join(parts)


@pytest.mark.compiled  # emu run takes its time otherwise
@pytest.mark.slow
def test_the_page_shows_what_the_commands_print(command: Emu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_all()
    monkeypatch.setenv("COLUMNS", "100")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    played = commands(PAGE)
    assert len(played) > 10
    for line, shown in played:
        program, *args = shlex.split(line)
        assert program == "emu"
        done = command(*args)
        output = VARIES.sub("<varies>", done.out or done.err)
        assert re.fullmatch(pattern(shown), output), f"$ {line}\n{output}\n--- the page has:\n{shown}"


def test_the_example_on_the_page_is_the_file() -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    example = (ROOT / "examples" / "lost_page.py").read_text()
    for line in block.splitlines():
        assert line in example.splitlines() or line.strip() == "...", line


def test_all_commands_of_the_room_are_on_the_page() -> None:
    names = list(get_command(race).commands)  # type: ignore[attr-defined]
    assert len(names) >= 6
    assert all(f"emu race {name}" in PAGE for name in names), names
