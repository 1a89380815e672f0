"""A machine as a ``drgn.Program``: its memory, types, and the variables that the kernel has."""

import ctypes
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import drgn

from emu.drgn.types import TypeMaker
from emu.zone.board import Board
from emu.zone.init import zones_of
from emu.zone.mmzone import (
    MIGRATETYPE_NAMES,
    PAGE_SHIFT,
    PAGEBLOCK_ORDER,
    ZONE_NAMES,
    AtomicLong,
    ListHead,
    Machine,
    Node,
    Page,
)  # fmt: skip
from emu.zone.page import PAGE_FLAG_NAMES
from emu.zone.snapshot import walk
from emu.zone.vmstat_items import NODE_STAT_NAMES, NUMA_STAT_NAMES, VM_EVENT_NAMES, ZONE_STAT_NAMES
from shm.segment import segments
from shm.struct import address_of, record_at

__all__ = ["BASE", "free_pages_of", "pages_of", "program"]

BASE = 0xFFFF_8880_0000_0000
"""Where the machine record lies, and everything else behind it by its offset."""

_ENUMS: dict[str, dict[str, int]] = {
    "zone_watermarks": {"WMARK_MIN": 0, "WMARK_LOW": 1, "WMARK_HIGH": 2},
    "zone_type": {f"ZONE_{name.upper()}": zid for zid, name in enumerate(ZONE_NAMES)},
    "migratetype": {f"MIGRATE_{name.upper()}": mt for mt, name in enumerate(MIGRATETYPE_NAMES)},
    "zone_stat_item": {name.upper(): item for item, name in enumerate(ZONE_STAT_NAMES)},
    "node_stat_item": {name.upper(): item for item, name in enumerate(NODE_STAT_NAMES)},
    "numa_stat_item": {name.upper(): item for item, name in enumerate(NUMA_STAT_NAMES)},
    "vm_event_item": {name.upper(): item for item, name in enumerate(VM_EVENT_NAMES)},
    "pageflags": {f"PG_{name}": mask.bit_length() - 1 for name, mask in PAGE_FLAG_NAMES.items()},
    "node_states": {"N_POSSIBLE": 0, "N_ONLINE": 1},
}  # fmt: skip


def program(machine: str | Board | None = None) -> drgn.Program:
    """A running machine by the name of its segment (``emu ps``), a board of this process, or the only one that runs.

    Raises ValueError where there is none or more than one. What it reads is what is there at that moment.
    """
    board = machine if isinstance(machine, Board) else Board.attach(machine or _only())
    prog = drgn.Program(drgn.host_platform)
    base = board.segment.base

    def read(_address: int, count: int, offset: int, _physical: bool) -> bytes:
        return ctypes.string_at(base + offset, count)

    prog.add_memory_segment(BASE, board.segment.size, read)
    types = TypeMaker(prog)
    prog.register_type_finder("emu", lambda _prog, kinds, name, _file: types.find(kinds, name), enable_index=0)
    variables = _Variables(prog, board, types)
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


class _Variables:
    """Global variables of the kernel. Those that it sums up for the machine are summed up when asked for."""

    def __init__(self, prog: drgn.Program, board: Board, types: TypeMaker) -> None:
        self.prog, self.board, self.types = prog, board, types
        self.made: dict[str, Callable[[], drgn.Object]] = {
            "node_data": self._node_data, "vmemmap": lambda: self._pointer(Page, board.m.mem_map),
            "machine": lambda: drgn.Object(prog, types.of(Machine), address=BASE),
            "max_pfn": lambda: self._number("unsigned long", board.m.max_pfn),
            "nr_node_ids": lambda: self._number("unsigned int", board.m.nr_nodes),
            "PAGE_SHIFT": lambda: self._number("int", PAGE_SHIFT),
            "pageblock_order": lambda: self._number("unsigned int", PAGEBLOCK_ORDER),
            "node_states": self._node_states,
            "vm_zone_stat": lambda: self._sums(z.vm_stat for z in zones_of(board.m)),
            "vm_numa_stat": lambda: self._sums(z.numa_stat for z in zones_of(board.m)),
            "vm_node_stat": lambda: self._sums(board.m.nodes[nid].vm_stat for nid in range(board.m.nr_nodes)),
        }  # fmt: skip
        self.enums = {name: self._enum(name, values) for name, values in _ENUMS.items()}

    def find(self, name: str, flags: drgn.FindObjectFlags) -> drgn.Object | None:
        """A variable or an enumerator."""
        if flags & drgn.FindObjectFlags.CONSTANT:
            for tag, values in _ENUMS.items():
                if name in values:
                    return drgn.Object(self.prog, self.enums[tag], values[name])
        if flags & (drgn.FindObjectFlags.VARIABLE | drgn.FindObjectFlags.CONSTANT) and name in self.made:
            return self.made[name]()
        return None

    def _enum(self, tag: str, values: dict[str, int]) -> drgn.Type:
        enumerators = [drgn.TypeEnumerator(name, value) for name, value in values.items()]
        return self.prog.enum_type(tag, self.prog.int_type("unsigned int", 4, False), enumerators)

    def _number(self, c_type: str, value: int) -> drgn.Object:
        return drgn.Object(self.prog, c_type, value)

    def _pointer(self, kind: Any, offset: int) -> drgn.Object:
        return drgn.Object(self.prog, self.prog.pointer_type(self.types.of(kind)), BASE + offset)

    def _node_data(self) -> drgn.Object:
        m = self.board.m
        places = [BASE + address_of(m.nodes[nid]) - address_of(m) for nid in range(m.nr_nodes)]
        pointers = self.prog.array_type(self.prog.pointer_type(self.types.of(Node)), len(places))
        return drgn.Object(self.prog, pointers, places)

    def _node_states(self) -> drgn.Object:
        """``nodemask_t node_states[]``: possible, online."""
        m, word = self.board.m, self.prog.int_type("unsigned long", 8, False)
        bits = drgn.TypeMember(self.prog.array_type(word, 1), "bits", 0)
        mask = self.prog.struct_type("nodemask_t", 8, [bits])
        online = sum(1 << nid for nid in range(m.nr_nodes) if m.nodes[nid].online)
        states = [{"bits": [(1 << m.nr_nodes) - 1]}, {"bits": [online]}]
        return drgn.Object(self.prog, self.prog.array_type(mask, 2), states)

    def _sums(self, rows: Iterable[Any]) -> drgn.Object:
        totals = [sum(column) for column in zip(*([item.counter for item in row] for row in rows), strict=True)]
        counter = self.types.of(AtomicLong)
        return drgn.Object(
            self.prog, self.prog.array_type(counter, len(totals)), [{"counter": total} for total in totals]
        )  # fmt: skip


def pages_of(head: drgn.Object) -> Iterator[drgn.Object]:
    """``struct page *`` of each page on a list (``struct list_head``), first to last.

    For drgn's list_for_each_entry(), which can't follow our links: they are offsets.
    """
    board: Board = head.prog_.cache["emu"]
    address = head.address_ if head.address_ is not None else head.value_()
    record = record_at(ListHead, address_of(board.m) + address - BASE)
    first = head.prog_["vmemmap"]
    for pfn in walk(board.m, record, board.m.max_pfn):
        yield first + pfn


def free_pages_of(zone: drgn.Object, order: int, migratetype: int) -> Iterator[drgn.Object]:
    """``struct page *`` of the first page of each free block. ``zone``: ``struct zone *``."""
    yield from pages_of(zone.free_area[order].free_list[migratetype])
