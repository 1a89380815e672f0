"""What drgn reads: the machine's shared memory as it is at that moment, with pointers where 5.10 has some."""

import ctypes
from bisect import bisect_left
from collections.abc import Iterable

from emu.drgn.types import POINTER_SIZE, POINTERS
from emu.zone.board import Board
from emu.zone.mmzone import Machine, Node, Zone
from shm.struct import offset_of, size_of

__all__ = ["BASE", "NAMES_AT", "ZONE_NAME_SIZE", "Memory"]

BASE = 0xFFFF_8880_0000_0000
"""Where the machine record lies, and everything else behind it by its offset."""
NAMES_AT = 0xFFFF_FFFF_8200_0000
"""The names of the zones, :data:`ZONE_NAME_SIZE` bytes for each ``enum zone_type``."""
ZONE_NAME_SIZE = 8


def _zone_pointers(board: Board) -> Iterable[tuple[int, int]]:
    """(offset in the segment, pointer) of the members in :data:`emu.drgn.types.POINTERS`."""
    for nid in range(board.m.nr_nodes):
        node = offset_of(Machine, "nodes") + nid * size_of(Node)
        for zid, zone in enumerate(board.m.nodes[nid].node_zones):
            here = node + offset_of(Node, "node_zones") + zid * size_of(Zone)
            values = {
                "zone_pgdat": BASE + node, "name": NAMES_AT + zid * ZONE_NAME_SIZE, "pageset": BASE + zone.pageset,
            }  # fmt: skip
            for name, (offset, _) in POINTERS[Zone].items():
                yield here + offset, values[name]


class Memory:
    """The segment of a board, for ``drgn.Program.add_memory_segment()``."""

    def __init__(self, board: Board) -> None:
        self.base, self.size = board.segment.base, board.segment.size
        self.pointers = dict(_zone_pointers(board))
        self.places = sorted(self.pointers)

    def read(self, _address: int, count: int, offset: int, _physical: bool) -> bytes:
        """``count`` bytes from ``offset`` on."""
        raw = ctypes.string_at(self.base + offset, count)
        for at in self.places[bisect_left(self.places, offset - POINTER_SIZE + 1) :]:
            if at >= offset + count:
                break
            begin, end = max(at, offset), min(at + POINTER_SIZE, offset + count)
            value = self.pointers[at].to_bytes(POINTER_SIZE, "little")
            raw = raw[: begin - offset] + value[begin - at : end - at] + raw[end - offset :]
        return raw
