"""A machine as a ``drgn.Program``: its memory, types, and the variables that the kernel has."""

from collections.abc import Iterator

import drgn

from emu.drgn.memory import BASE, Memory
from emu.drgn.types import TypeMaker
from emu.drgn.variables import Variables
from emu.zone.board import Board
from emu.zone.snapshot import walk_running
from emu.zone.types import ListHead
from shm.segment import segments
from shm.struct import address_of, record_at

__all__ = ["free_pages_of", "pages_of", "program"]


def program(machine: str | Board | None = None) -> drgn.Program:
    """A running machine by the name of its segment (``emu ps``), a board of this process, or the only one that runs.

    Raises ValueError where there is none or more than one. What it reads is what is there at that moment.
    """
    board = machine if isinstance(machine, Board) else Board.attach(machine or _only())
    prog = drgn.Program(drgn.host_platform)
    memory = Memory(board)
    prog.add_memory_segment(BASE, memory.size, memory.read)
    types = TypeMaker(prog)
    prog.register_type_finder("emu", lambda _prog, kinds, name, _file: types.find(kinds, name), enable_index=0)
    variables = Variables(prog, board, types)
    prog.register_object_finder(
        "emu", lambda _prog, name, flags, _file: variables.find(name, flags), enable_index=0
    )  # fmt: skip
    prog.cache["emu"] = board
    return prog


def _only() -> str:
    alive = [s.name for s in segments() if s.alive]
    if len(alive) != 1:
        raise ValueError(f"{len(alive)} machines are running: {', '.join(alive) or 'start one with emu run'}")
    return alive[0]


def pages_of(head: drgn.Object) -> Iterator[drgn.Object]:
    """``struct page *`` of each page on a list (``struct list_head``), first to last.

    For drgn's list_for_each_entry(), which can't follow our links: they are offsets.
    """
    board: Board = head.prog_.cache["emu"]
    address = head.address_ if head.address_ is not None else head.value_()
    record = record_at(ListHead, address_of(board.m) + address - BASE)
    first = head.prog_["vmemmap"]
    for pfn in walk_running(board.m, record, board.m.max_pfn):
        yield first + pfn


def free_pages_of(zone: drgn.Object, order: int, migratetype: int) -> Iterator[drgn.Object]:
    """``struct page *`` of the first page of each free block. ``zone``: ``struct zone *``."""
    yield from pages_of(zone.free_area[order].free_list[migratetype])
