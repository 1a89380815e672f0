"""The commands that a Markdown page shows, and the output below them.

A block of ``console`` has commands (``$ ``, continued by a backslash) and what they print; ``[...]`` is what is left
out: lines, or a part of one. A block of ``sh`` has a command a line, a block of ``python`` is one command; what they
print isn't shown. A command that ends with ``&`` runs beside the later ones of its block. ``<!-- not run: why -->``
above a block says that it isn't run.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"(?:^<!-- not run: (?P<why>.*) -->\n)?^```(?P<kind>\w*).*\n(?P<text>(?:.*\n)*?)^```$", re.MULTILINE)
BESIDE = re.compile(r"\s*&(?:\s*#.*)?$")
ANYTHING = "[...]\n"


@dataclass(frozen=True)
class Command:
    """A command, and what the page says it prints."""

    line: str
    shown: str

    @property
    def beside(self) -> bool:
        """Whether it goes on while the later ones run."""
        return BESIDE.search(self.line) is not None


def pages() -> list[Path]:
    """All pages that people write or that are made for them; a test of the wheel has no README."""
    return [*ROOT.glob("README.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def not_run(page: str) -> list[str]:
    """Why blocks of a page aren't run."""
    return [found["why"] for found in BLOCK.finditer(page) if found["why"]]


def typed(block: str) -> list[Command]:
    """The commands of a block of ``console``."""
    found = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, shown = part.replace("\\\n", " ").partition("\n")
        found.append(Command(line.strip(), shown))
    return found


def python(block: str) -> Command:
    """A block of ``python``: a test in it is run as one."""
    test = "cat >test_it.py; python -m pytest -q -p no:cacheprovider test_it.py"
    return Command(f"({test if 'def test_' in block else 'python -'}) <<'END'\n{block}END", ANYTHING)


def commands(page: str) -> list[list[Command]]:
    """The page's commands in order, block by block."""
    found = []
    for block in BLOCK.finditer(page):
        kind, text = block["kind"], block["text"]
        if block["why"]:
            continue
        if kind == "console":
            found.append(typed(text))
        elif kind == "sh":
            found.append([Command(line, ANYTHING) for line in text.splitlines()])
        elif kind == "python":
            found.append([python(text)])
    return found


def hidden_commands(page: str) -> list[str]:
    """Lines that look like commands and stand where nobody would run them."""
    rest = BLOCK.sub(lambda found: "" if found["kind"] in ("console", "sh") else found[0], page)
    return re.findall(r"^(?:\$ .*| *emu [a-z].*)$", rest, re.MULTILINE)
