"""What tests of memory hotplug and contiguous ranges share: a machine whose memory they take away, and its state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import alloc_pages
from emu.cpu.workqueue import cond_resched
from emu.mm import exit as exits
from emu.mm import filemap, memory, migrate_range, mmap, page_isolation
from emu.mm.memory_hotplug import add_memory, online_pages, remove_memory
from emu.mm.offline_pages import offline_pages
from emu.zone import wmark_init
from emu.zone.boot import Shape
from emu.zone.event import KINDS
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mm_types import Vm
from emu.zone.mmzone import Cpu, Machine
from emu.zone.snapshot import State
from shm.atomic import load_acquire
from shm.core import entry
from shm.struct import record_at
from tests.bench import Bench, _published, bench, word_at

SLOTS = 128
GFP_MOVABLE, GFP_PLAIN = GFP_HIGHUSER_MOVABLE, GFP_KERNEL
take, give = alloc_pages, __free_pages
EINTR, EBUSY, EEXIST, EINVAL = -4, -16, -17, -22
ONLINE, ONLINE_KERNEL, ONLINE_MOVABLE = 1, 2, 3

scan = _published(migrate_range.scan_movable_pages)
int_sqrt = _published(wmark_init.int_sqrt)
isolate = _published(page_isolation.start_isolate_page_range)
undo = _published(page_isolation.undo_isolate_page_range)
all_free = _published(page_isolation.test_pages_isolated)
unmovable = _published(page_isolation.has_unmovable_pages)
touch = _published(memory.touch)
mmap_region = _published(mmap.mmap)
munmap = _published(mmap.munmap)
do_exit = _published(exits.do_exit)
file_write = _published(filemap.generic_file_write)


@entry
def busy(m: Machine, cpu: Cpu) -> int:
    """Allocate and free, movable memory and other, until ``m.turn`` is set; then free all. Returns what failed."""
    x = 88172645463325252 + cpu.party.index
    failed = 0
    place = m.script + cpu.party.index * SLOTS * 8
    while load_acquire(m, "turn") == 0 and cond_resched(m, cpu):
        for _ in range(64):
            x ^= (x << 13) & 0x7FFFFFFFFFFFFFFF
            x ^= x >> 7
            x ^= (x << 17) & 0x7FFFFFFFFFFFFFFF
            slot = word_at(m, place + (x >> 20) % SLOTS * 8)
            if slot.value != 0:
                give(m, cpu, slot.value >> 4, slot.value & 15)
                slot.value = 0
                continue
            order = x >> 40 & 3 if x >> 50 & 3 == 0 else 0
            pfn = take(m, cpu, GFP_PLAIN if x >> 60 & 1 != 0 else GFP_MOVABLE, order)
            if pfn < 0:
                failed += 1
            else:
                slot.value = pfn << 4 | order
    for i in range(SLOTS):
        slot = word_at(m, place + i * 8)
        if slot.value != 0:
            give(m, cpu, slot.value >> 4, slot.value & 15)
            slot.value = 0
    return failed


ENTRIES = (scan, int_sqrt, isolate, undo, touch,
       mmap_region, munmap, do_exit, file_write, mmap.mm_create, filemap.create_file,
       all_free, unmovable, busy)  # fmt: skip


class Hot(Bench):
    """A bench with memory hotplug."""

    @property
    def vm(self) -> Vm:
        return record_at(Vm, self.base + self.m.vm)

    def offline(self, pfn: int, pages: int, cpu: int = 0) -> int:
        return int(offline_pages(self.m, self.cpu(cpu), pfn, pages))

    def online(self, pfn: int, pages: int, kind: int = ONLINE, cpu: int = 0) -> int:
        return int(online_pages(self.m, self.cpu(cpu), pfn, pages, kind))

    def add(self, pfn: int, pages: int, nid: int = 0) -> int:
        return int(add_memory(self.m, self.cpu(), nid, pfn, pages))

    def remove(self, pfn: int, pages: int) -> int:
        return int(remove_memory(self.m, self.cpu(), pfn, pages))

    def reports(self, cpu: int = 0) -> list[Any]:
        return [e for e in self.events(cpu) if KINDS[e["kind"]] == "memory_hotplug"]


@contextmanager
def hot(of: Shape, **tuning: Any) -> Iterator[Hot]:
    """Boot a machine of which memory can be taken away."""
    with bench(of, **tuning) as made:
        made.__class__ = Hot
        yield made  # type: ignore[misc]


def summed(percpu: list[list[int]], values: list[int]) -> list[int]:
    return [v + sum(diff[i] for diff in percpu) for i, v in enumerate(values)]


def essence(b: Bench) -> State:
    """The machine's state without the order of free lists, the split of counters, and the events' counts."""
    state = b.board.state()
    del state["vm_events"]
    for zone in state["zones"]:
        zone["vm_stat"] = summed([p["vm_stat_diff"] for p in zone["pcp"]], zone["vm_stat"])
        zone["numa_stat"] = summed([p["numa_stat_diff"] for p in zone["pcp"]], zone["numa_stat"])
        zone["free_area"] = [[sorted(pfns) for pfns in area["lists"]] for area in zone["free_area"]]
        for pcp in zone["pcp"]:
            for name in ("vm_stat_diff", "numa_stat_diff", "expire", "lists", "stamps", "count"):
                del pcp[name]
        zone["pageblocks"] = [block for block in zone["pageblocks"] if block[1] >= 0]
    for node in state["nodes"]:
        node["vm_stat"] = summed([p["diff"] for p in node["percpu"]], node["vm_stat"])
        del node["percpu"]
    return state
