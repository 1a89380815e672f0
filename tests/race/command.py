"""What a command did."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Done", "Emu"]


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
