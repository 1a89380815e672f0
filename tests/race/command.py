"""What a command did."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.race import planted

__all__ = ["LOOP", "MINE", "TWICE", "Done", "Emu", "follow", "refused"]

MINE = str(Path(planted.__file__))
LOOP, TWICE = f"{MINE}:LOOP", f"{MINE}:TWICE"


class Done(NamedTuple):
    """Exit status and output."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        """Of ``--json``."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Emu = Callable[..., Done]


def refused(done: Done, *words: str) -> None:
    """Status 2, one line that says what."""
    assert done.status == 2, done
    assert done.out == "" and done.err.startswith("emu: ") and done.err.count("\n") == 1, done.err
    assert all(word in done.err for word in words), done.err


def follow(done: Done) -> list[str]:
    """The next command, without ``emu race``."""
    last = done.out.splitlines()[-1]
    words = shlex.split(last.removeprefix("next: "))
    assert last.startswith("next: emu race ") and words[:2] == ["emu", "race"]
    return words[2:]
