"""Pages that a killed process had in hand: neither on a list of the allocator nor in anybody's books.

Such a page left a free list and had not yet got into the slot of the workload that asked for it, or it had left its
slot and not yet reached a list. 5.10 would never get it back, and neither would a machine here by itself; whoever knows
all holders of pages can tell which they are, while the CPUs are idle, and give them back.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emu.machine import CMD_SALVAGE, Machine
from emu.workload.run import PageSlot, Run
from emu.zone.census import Census
from emu.zone.init import party_of, zones_of
from emu.zone.locks import locks_of
from emu.zone.mmzone import RX_RING
from emu.zone.mmzone import Machine as MachineRecord
from emu.zone.page import PG_head, PG_hwpoison, PG_slab, PG_table
from emu.zone.snapshot import view
from emu.zone.validate_mm import World, explained
from shm.spinlock_types import holder_of

__all__ = ["forget_doubles", "salvage", "slots_of", "unclaimed"]

Ints = np.ndarray[Any, np.dtype[Any]]
RX_ORDERS = np.array([0] * 10 + [1] * 3 + [2] * 2 + [3])  # emu.cpu.irq.rx_order


def slots_of(m: MachineRecord, run: Run) -> np.ndarray[Any, Any]:
    """The slots in use of a CPU's workload, to be read and written."""
    return view(m, PageSlot, run.slots, run.nr_slots)[: run.held]


def forget_doubles(m: MachineRecord, run: Run) -> None:
    """Its process was killed: a block that was being moved may be in two slots; it stays in one."""
    slots = slots_of(m, run)
    full = np.flatnonzero(slots["pfn"] >= 0)
    _, first = np.unique(slots["pfn"][full], return_index=True)
    slots["pfn"][np.delete(full, first)] = -1


def _rx_blocks(m: MachineRecord) -> tuple[list[int], list[int]]:
    rings = [(slot, party_of(m, i).rx_ring[slot]) for i in range(m.nr_cpus) for slot in range(RX_RING)]
    full = [(held - 1, int(RX_ORDERS[slot & 15])) for slot, held in rings if held]
    return [pfn for pfn, _ in full], [order for _, order in full]


def unclaimed(m: MachineRecord, pfns: Sequence[int], orders: Sequence[int]) -> Ints:
    """Pages in use that nobody accounts for, beside the blocks that the caller knows to be held."""
    rx_pfns, rx_orders = _rx_blocks(m)
    claimed = np.zeros(m.max_pfn, bool)
    for pfn, order in zip([*pfns, *rx_pfns], [*orders, *rx_orders], strict=True):
        claimed[pfn : pfn + (1 << order)] = True
    world = World(m)
    known = (explained(world) > 0) | world.flag(PG_table | PG_slab | PG_hwpoison)
    claimed[world.used.pfn[known]] = True
    for pfn in world.used.pfn[known & world.flag(PG_head)]:
        claimed[pfn : pfn + (1 << int(world.pages["private"][pfn + 1]))] = True
    found = []
    for zone in zones_of(m):
        for chunk in Census(m, zone).chunks():
            taken = chunk.pfn[chunk.taken]
            found.append(taken[~claimed[taken]])
    return np.concatenate(found) if found else np.empty(0, np.int64)


def salvage(machine: Machine, pfns: Sequence[int], orders: Sequence[int]) -> int:
    """Free all pages that nobody has, but for these blocks; how many they were. The CPUs must be idle.

    A lock that nobody holds or waits for can have a sleeper too many on its books, for the same reason.
    """
    m = machine.m
    machine.settle()
    lost = unclaimed(m, pfns, orders)
    first = machine.hotplug.living()[0].index
    for pfn in lost:
        machine.post(first, CMD_SALVAGE, int(pfn))
        machine.wait([first])
    for _, lock in locks_of(m):
        if lock.parked and holder_of(lock) == 0 and lock.head == lock.tail:
            lock.parked = 0
    return len(lost)
