"""Hooks of mkdocs: links to files outside docs/, which GitHub follows, are plain text on the site."""

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:emu|shm|tests|examples|docs|[A-Z]+\.md)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """``[emu/zone/buddy.py](../../emu/zone/buddy.py)`` becomes ``emu/zone/buddy.py``, as code."""
    return OUTSIDE.sub(lambda found: f"`{found[1].strip('`')}`", markdown)
