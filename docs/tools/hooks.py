"""Hooks of mkdocs: what reads well on GitHub reads well on the site, too."""

import re
from pathlib import Path
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:emu|shm|tests|examples|[A-Z]+\.md)[^)]*\)")
NAMED = re.compile(r"\[[\w/.-]+\.md\]\(([\w/.-]+\.md)(#[\w-]+)?\)")


def title_of(page: Path) -> str:
    """A page's heading."""
    return page.read_text().partition("\n")[0].removeprefix("# ").strip()


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links to files outside docs/, which GitHub follows, become text; a page's file name becomes its title."""
    here = Path(page.file.abs_src_path).parent
    markdown = OUTSIDE.sub(lambda found: f"`{found[1].strip('`')}`", markdown)
    return NAMED.sub(lambda found: f"[{title_of(here / found[1])}]({found[1]}{found[2] or ''})", markdown)
