"""Each rule of swap, writeback, slab and memory cgroups finds the bug planted for it."""

from collections.abc import Callable

import pytest

from emu.zone.gfp import GFP_KERNEL
from emu.zone.mm_types import AS_SHMEM, MM_SWAPENTS, XA_PAGE, XA_SHADOW, XA_SWAP, Mm, Slot
from emu.zone.page import PG_dirty, PG_locked, PG_slab, PG_swapcache, PG_writeback
from emu.zone.slab_types import CACHE_DENTRY, CACHE_INODE
from emu.zone.validate_io import IO_BOOT_RULES, IO_RULES
from emu.zone.vmstat_items import (
    NR_FILE_DIRTY,
    NR_SLAB_RECLAIMABLE_B,
    NR_SLAB_UNRECLAIMABLE_B,
    NR_WRITEBACK,
    NR_ZONE_WRITE_PENDING,
)  # fmt: skip
from shm.struct import record_at, size_of
from tests.mm.iobench import IoBench, iobench


class World:
    """A machine with one of everything."""

    def __init__(self, b: IoBench) -> None:
        self.b = b
        self.file = b.new_file(16)
        self.dirty = b.call("file_page", self.file, 0)
        b.call("set_page_dirty", self.dirty)
        self.queued = b.call("file_page", self.file, 1)
        b.page(self.queued).page_flags |= PG_locked
        b.call("set_page_dirty", self.queued)
        b.call("clear_page_dirty_for_io", self.queued)
        b.call("writepage", self.queued)
        self.cached = b.call("anon_page", 1, 0, 2)
        b.call("add_to_swap", self.cached)
        self.entry = b.entry_of(self.cached)
        self.dentry = b.call("kmem_cache_alloc", CACHE_DENTRY, GFP_KERNEL)
        self.unused = b.call("kmem_cache_alloc", CACHE_DENTRY, GFP_KERNEL)
        b.call("object_put", self.unused)
        self.tmpfs = b.new_file(16, AS_SHMEM)

    def mm(self) -> Mm:
        """The first address space, said to be in use, with one page."""
        mm = record_at(Mm, self.b.base + self.b.vm.mms)
        mm.mm_users, mm.nr_vmas = 1, 1
        mm.vmas[0].start, mm.vmas[0].end = 4, 8
        return mm

    def pte(self, slot: int) -> Slot:
        return record_at(Slot, self.b.base + self.mm().pgd + slot * size_of(Slot))


def swap_entry(w: World) -> None:
    w.mm().rss_stat[MM_SWAPENTS].counter = 1
    w.pte(5).value = w.entry << 8 | 16


def bad_entry(w: World) -> None:
    w.mm().rss_stat[MM_SWAPENTS].counter = 1
    w.pte(5).value = 1 << 20 | 16


def no_rss(w: World) -> None:
    w.mm().rss_stat[MM_SWAPENTS].counter = 3


def tmpfs_entry(w: World) -> None:
    record_at(Slot, w.b.base + w.b.file(w.tmpfs).i_pages).value = w.entry << 2 | XA_SWAP


def add(path: str, amount: int = 1) -> Callable[[World], None]:
    """Change one counter: a path from the bench."""

    def plant(w: World) -> None:
        *steps, last = path.split(".")
        here = w.b
        for step in steps:
            here = here[int(step)] if step.isdigit() else getattr(here, step)  # type: ignore[index]
        if last.isdigit():
            here[int(last)] += amount  # type: ignore[index]
        else:
            setattr(here, last, getattr(here, last) + amount)

    return plant


def on_page(which: str, flag: int, clear: bool = False) -> Callable[[World], None]:
    def plant(w: World) -> None:
        page = w.b.page(getattr(w, which))
        page.page_flags = page.page_flags & ~flag if clear else page.page_flags | flag

    return plant


def slab_field(name: str, amount: int) -> Callable[[World], None]:
    def plant(w: World) -> None:
        slab = w.b.slab(w.dentry)
        setattr(slab, name, getattr(slab, name) + amount)

    return plant


def clear_slab_flag(w: World) -> None:
    w.b.page(w.b.slab(w.dentry).pfn).page_flags &= ~PG_slab


def cache(field: str, amount: int = 1) -> Callable[[World], None]:
    def plant(w: World) -> None:
        w.b.area().caches[CACHE_DENTRY].__setattr__(field, getattr(w.b.area().caches[CACHE_DENTRY], field) + amount)

    return plant


def cache_of_node(field: str) -> Callable[[World], None]:
    def plant(w: World) -> None:
        getattr(w.b.area().caches[CACHE_INODE], field)[0] += 1

    return plant


def zone_counter(w: World) -> None:
    w.b.zone().vm_stat[NR_ZONE_WRITE_PENDING].counter += 1


def stray_swapcache(w: World) -> None:
    w.b.page(w.dirty).page_flags |= PG_swapcache


def shadow_of_a_free_slot(w: World) -> None:
    w.b.swap_slot(w.entry + 1).value = 77 << 2 | XA_SHADOW


def no_cache_bit(w: World) -> None:
    w.b.swap_count(w.entry).count = 1


def other_page(w: World) -> None:
    w.b.swap_slot(w.entry).value = w.dirty << 2 | XA_PAGE


def free_below(w: World) -> None:
    w.b.vm.swap.lowest_bit = w.entry + 3


def forgotten(w: World) -> None:
    w.b.file(w.file).dirtied_when = 0


def overfull(w: World) -> None:
    w.b.vm.disk.head += 2000


def stat(item: int) -> Callable[[World], None]:
    return add(f"m.nodes.0.vm_stat.{item}.counter")


PLANTED: dict[str, tuple[Callable[[World], None], str]] = {
    "inuse": (add("vm.swap.inuse_pages"), "inuse_pages expected 1, found 2"),
    "lowest": (free_below, "is free, expected in"),
    "no cache bit": (no_cache_bit, "page in the swap cache: True, SWAP_HAS_CACHE: False"),
    "shadow": (shadow_of_a_free_slot, "is free, and has a shadow"),
    "nrpages": (add("vm.swap.nrpages"), "nrpages expected 1, found 2"),
    "other page": (other_page, "expected PG_swapcache and its slot in private"),
    "stray": (stray_swapcache, "and in no slot of the swap cache"),
    "swap entry": (swap_entry, "count expected 1, found 0"),
    "bad entry": (bad_entry, "swap entries of no slot"),
    "rss": (no_rss, "MM_SWAPENTS expected 0, found 3"),
    "tmpfs": (tmpfs_entry, "count expected 1, found 0"),
    "nr_dirty": (on_page("dirty", PG_dirty, clear=True), "nr_dirty expected 0, found 1"),
    "dirtied_when": (forgotten, "expected dirtied_when to be set"),
    "NR_FILE_DIRTY": (stat(NR_FILE_DIRTY), "nr_dirty expected 1, found 2"),
    "NR_WRITEBACK": (stat(NR_WRITEBACK), "nr_writeback expected 1, found 2"),
    "pending": (zone_counter, "nr_zone_write_pending expected 2, found 3"),
    "wb": (add("vm.wb.nr_writeback.counter"), "writeback: nr_writeback expected 1, found 2"),
    "queue": (overfull, "expected at most 1024 requests"),
    "unmarked": (on_page("queued", PG_writeback, clear=True), "queued for the disk, expected PG_writeback"),
    "lost": (on_page("dirty", PG_writeback), "in no request to the disk"),
    "inuse of a slab": (slab_field("inuse", 1), "inuse expected 2, found 3"),
    "partial": (slab_field("partial", -1), "objects in use, partial 0"),
    "PG_slab": (clear_slab_flag, "first page of a slab, expected PG_slab"),
    "no slab": (on_page("dirty", PG_slab), "PG_slab, and of no slab cache"),
    "nr_slabs": (cache("nr_slabs"), "dentry: nr_slabs expected 1, found 2"),
    "nr_objects": (cache("nr_objects"), "dentry: nr_objects expected 2, found 3"),
    "nr_partial": (cache_of_node("nr_partial"), "nr_partial of node 0 expected 0, found 1"),
    "nr_lru": (cache_of_node("nr_lru"), "nr_lru of node 0 expected 0, found 1"),
    "slab pages": (stat(NR_SLAB_RECLAIMABLE_B), "nr_slab_reclaimable expected 1, found 2"),
    "other slab pages": (stat(NR_SLAB_UNRECLAIMABLE_B), "nr_slab_unreclaimable expected 0, found 1"),
    "memcg": (add("m.memcgs.1.memory"), "memcg 1: memory expected 1, found 2"),
    "rate": (add("vm.wb.dirty_ratelimit", -25600), "dirty_ratelimit expected at least 1, found 0"),
    "congested": (add("vm.nr_wb_congested.counter"), "nr_wb_congested 1, congested 0"),
}  # fmt: skip


def test_nothing_is_found_where_nothing_is_planted() -> None:
    with iobench(swap=64) as b:
        World(b)
        b.stat(NR_FILE_DIRTY)
        assert b.findings() == []
        b.strict = False


@pytest.mark.parametrize("name", PLANTED)
def test_planted(name: str) -> None:
    plant, message = PLANTED[name]
    with iobench(swap=64) as b:
        b.strict = False
        world = World(b)
        b.stat(NR_FILE_DIRTY)
        plant(world)
        assert any(message in text for text in b.findings()), b.findings()


def test_every_rule_is_covered() -> None:
    assert len(IO_RULES) + len(IO_BOOT_RULES) == 11
