"""Which running machine a command means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from emu.cli.common import UsageError

if TYPE_CHECKING:
    from emu.zone.board import Board

__all__ = ["MachineName", "attach", "attached"]

MachineName = Annotated[
    str | None, typer.Option("--machine", metavar="NAME", help="Its segment (emu ps); default: the only one.")
]


def attach(name: str | None) -> Board:
    """The memory of a running machine; None: of the only one."""
    from emu.zone.board import Board
    from shm.segment import segments

    found = {s.name: s for s in segments()}
    alive = [s.name for s in found.values() if s.alive]
    if name is None and len(alive) != 1:
        advice = f"give --machine {' or '.join(alive)}" if alive else "start one with emu run"
        raise UsageError(f"{len(alive)} machines are running: {advice}")
    name = name or alive[0]
    if name in found and not found[name].alive:
        raise UsageError(f"{name}: its owner, pid {found[name].facts['pid']}, is gone: emu gc removes it")
    return Board.attach(name)


@contextmanager
def attached(name: str | None) -> Iterator[Board]:
    """:func:`attach`, and let go of it at the end."""
    board = attach(name)
    try:
        yield board
    finally:
        board.segment.close()
