"""Invariants of swap, writeback, slab caches and memory cgroups, for a machine at rest.

``IO_RULES`` hold for every machine. ``IO_BOOT_RULES`` compare counters with what is there: a machine loaded from a
recorded state has counts of pages that the state doesn't describe.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from emu.zone.census import told
from emu.zone.init import zones_of
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE, AS_FILE, AS_NONE, AS_SHMEM, DISK_QUEUE, MM_SIZE, MM_SWAPENTS, PRIVATE_MEMCG_SHIFT,
    PRIVATE_SWAP_MASK, PTE_SHIFT, PTE_SWAP, XA_PAGE, XA_SHADOW, XA_SWAP, AddressSpace, Mm, Slot, SwapCount, Vm,
)  # fmt: skip
from emu.zone.mmzone import NODESTAT_SIZE, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, ZONE_NAMES, Machine, NodeStat, Zone
from emu.zone.page import (
    PAGE_MAPPING_FLAGS, PG_buddy, PG_dirty, PG_guard, PG_head, PG_kmemcg, PG_locked, PG_reserved, PG_slab,
    PG_swapcache, PG_writeback, TAIL_MAPPING, ZONE_ID_MASK,
)  # fmt: skip
from emu.zone.pageblock import PB_INITIALISED
from emu.zone.slab_types import (
    NR_SLAB_CACHES, OBJECT_LRU, OBJECT_USED, OBJECTS_MAX, SLAB_CACHE_NAMES, SLAB_RECLAIM_ACCOUNT, Slab, SlabArea,
    SlabObject,
)  # fmt: skip
from emu.zone.snapshot import mem_map, pageblocks, pageset_of, view
from emu.zone.vmstat_items import (
    NR_FILE_DIRTY, NR_SLAB_RECLAIMABLE_B, NR_SLAB_UNRECLAIMABLE_B, NR_WRITEBACK, NR_ZONE_WRITE_PENDING,
    NODE_STAT_NAMES,
)  # fmt: skip
from shm.struct import address_of, record_at

__all__ = ["IO_BOOT_RULES", "IO_RULES"]
Findings = Iterator[str]
Ints = np.ndarray[Any, np.dtype[Any]]
SWAP_HAS_CACHE = 0x40
SWAP_COUNT = 0x3F


class Used:
    """The struct pages in use, of all zones; blocks that were never taken apart have none."""

    def __init__(self, m: Machine) -> None:
        made = np.flatnonzero(pageblocks(m) & PB_INITIALISED)
        pfns = (made[:, None] * PAGEBLOCK_NR_PAGES + np.arange(PAGEBLOCK_NR_PAGES)).reshape(-1)
        pages = mem_map(m)[pfns]
        idle = pages["page_flags"] & (PG_buddy | PG_reserved | PG_guard) != 0
        tail = (pages["mapping"] == TAIL_MAPPING) & (pages["lru"]["next"] & 1 != 0)
        keep = ~idle & ~tail & (pages["refcount"] > 0)
        self.pfn, pages = pfns[keep], pages[keep]
        self.flags: Ints = pages["page_flags"]
        self.mapping: Ints = pages["mapping"].astype(np.int64)
        self.private: Ints = pages["private"].astype(np.int64)
        self.index: Ints = pages["index"]
        mapped = (self.mapping & PAGE_MAPPING_FLAGS == 0) & (self.mapping != TAIL_MAPPING)
        self.file: Ints = np.where(mapped, self.mapping >> 2, 0)


def vm_of(m: Machine) -> Vm:
    """What memory management has beyond zones and CPUs."""
    return record_at(Vm, address_of(m) + m.vm)


def files_of(m: Machine) -> Iterator[tuple[int, AddressSpace]]:
    """Files that exist, by id."""
    vm = vm_of(m)
    for i in range(vm.nr_files):
        file = record_at(AddressSpace, address_of(m) + vm.files + i * ADDRESS_SPACE_SIZE)
        if file.kind != AS_NONE:
            yield i + 1, file


def kinds_of(m: Machine, pages: Used) -> Ints:
    """AS_* of each page's file; AS_NONE for other pages and for those in the swap cache."""
    kinds = np.zeros(256, np.int64)
    for number, file in files_of(m):
        kinds[number] = file.kind
    of: Ints = kinds[np.minimum(pages.file, 255)]
    return np.where(pages.flags & PG_swapcache != 0, AS_NONE, of)


def node_total(m: Machine, nid: int, item: int) -> int:
    """A node's counter with all differentials."""
    base = address_of(m) + m.nodes[nid].per_cpu_nodestats
    parties = range(m.nr_parties)
    diffs = (record_at(NodeStat, base + i * NODESTAT_SIZE).vm_node_stat_diff[item] for i in parties)
    return m.nodes[nid].vm_stat[item].counter + sum(diffs)


def zone_total(m: Machine, zone: Zone, item: int) -> int:
    """A zone's counter with all differentials."""
    return zone.vm_stat[item].counter + sum(pageset_of(m, zone, i).vm_stat_diff[item] for i in range(m.nr_parties))


# --- swap -------------------------------------------------------------------------------------------------------------


def swap_tables(m: Machine) -> tuple[Ints, Ints]:
    """Counts and swap cache slots by slot; slot 0 is the header's."""
    swap = vm_of(m).swap
    counts = view(m, SwapCount, swap.swap_map, swap.pages + 1)["count"].astype(np.int64)
    return counts, view(m, Slot, swap.swap_cache, swap.pages + 1)["value"]


def swap_slots_are_counted(m: Machine) -> Findings:
    """``inuse_pages`` is the number of slots in use; no free slot lies outside ``lowest_bit`` to ``highest_bit``."""
    swap = vm_of(m).swap
    if not swap.pages:
        return
    counts, _ = swap_tables(m)
    used, free = np.count_nonzero(counts), np.flatnonzero(counts[1:] == 0) + 1
    if used != swap.inuse_pages:
        yield f"swap: inuse_pages expected {used}, found {swap.inuse_pages}"
    outside = free[(free < swap.lowest_bit) | (free > swap.highest_bit)]
    for slot in outside[:8]:
        yield f"swap: slot {slot} is free, expected in [{swap.lowest_bit}, {swap.highest_bit}]"


def swap_cache_matches_the_map(m: Machine) -> Findings:
    """A slot has SWAP_HAS_CACHE exactly when the swap cache has its page, and that page says so too; shadows are of
    slots in use."""
    swap = vm_of(m).swap
    if not swap.pages:
        return
    counts, slots = swap_tables(m)
    cached, has = slots & 3 == XA_PAGE, counts & SWAP_HAS_CACHE != 0
    for slot in np.flatnonzero(cached != has)[:8]:
        yield f"swap: slot {slot}: page in the swap cache: {bool(cached[slot])}, SWAP_HAS_CACHE: {bool(has[slot])}"
    for slot in np.flatnonzero((slots & 3 == XA_SHADOW) & (counts == 0))[:8]:
        yield f"swap: slot {slot} is free, and has a shadow"
    if swap.nrpages != np.count_nonzero(cached):
        yield f"swap: nrpages expected {np.count_nonzero(cached)}, found {swap.nrpages}"
    at = np.flatnonzero(cached)
    pfns = slots[at] >> 2
    pages = mem_map(m)[pfns]
    wrong = (pages["private"] & PRIVATE_SWAP_MASK != at) | (pages["page_flags"] & PG_swapcache == 0)
    yield from told(pfns[wrong], "in the swap cache, expected PG_swapcache and its slot in private")
    used = Used(m)
    stray = used.pfn[(used.flags & PG_swapcache != 0) & ~np.isin(used.pfn, pfns)]
    yield from told(stray, "PG_swapcache, and in no slot of the swap cache")


def swap_entries_of_mms(m: Machine) -> Iterator[tuple[int, Mm, Ints]]:
    """Address spaces with the swap slots that their tables name."""
    vm = vm_of(m)
    for i in range(vm.nr_mms):
        mm = record_at(Mm, address_of(m) + vm.mms + i * MM_SIZE)
        if mm.mm_users <= 0:
            continue
        found = [np.empty(0, np.int64)]
        for vma in mm.vmas[: mm.nr_vmas]:
            if vma.end > vma.start:
                ptes = view(m, Slot, mm.pgd, vma.end)["value"][vma.start :]
                found.append(ptes[ptes & PTE_SWAP != 0] >> PTE_SHIFT)
        yield i + 1, mm, np.concatenate(found)


def swap_counts_are_references(m: Machine) -> Findings:
    """A slot's count is the number of table entries and tmpfs slots that name it; ``MM_SWAPENTS`` is an address
    space's share."""
    swap = vm_of(m).swap
    if not swap.pages:
        return
    counts, _ = swap_tables(m)
    named = np.zeros(len(counts), np.int64)
    for number, mm, entries in swap_entries_of_mms(m):
        valid = entries[(entries > 0) & (entries <= swap.pages)]
        if len(valid) != len(entries):
            yield f"mm {number}: {len(entries) - len(valid)} swap entries of no slot"
        np.add.at(named, valid, 1)
        if mm.rss_stat[MM_SWAPENTS].counter != len(entries):
            yield f"mm {number}: MM_SWAPENTS expected {len(entries)}, found {mm.rss_stat[MM_SWAPENTS].counter}"
    for _, file in files_of(m):
        if file.kind == AS_SHMEM:
            slots = view(m, Slot, file.i_pages, file.nr_slots)["value"]
            np.add.at(named, slots[slots & 3 == XA_SWAP] >> 2, 1)
    for slot in np.flatnonzero(counts & SWAP_COUNT != named)[:8]:
        yield f"swap: slot {slot}: count expected {named[slot]}, found {counts[slot] & SWAP_COUNT}"


# --- writeback --------------------------------------------------------------------------------------------------------


def dirty_pages_of_files(m: Machine) -> Findings:
    """A file's ``nr_dirty`` is the number of its dirty pages; one with such knows since when."""
    pages = Used(m)
    dirty = (kinds_of(m, pages) == AS_FILE) & (pages.flags & PG_dirty != 0)
    found = np.bincount(pages.file[dirty], minlength=256)
    for number, file in files_of(m):
        expected = int(found[number]) if file.kind == AS_FILE else 0
        if file.nr_dirty != expected:
            yield f"file {number}: nr_dirty expected {expected}, found {file.nr_dirty}"
        if expected and not file.dirtied_when:
            yield f"file {number}: {expected} dirty pages, expected dirtied_when to be set"


def pending_is_counted(m: Machine) -> Findings:
    """NR_FILE_DIRTY and NR_WRITEBACK of each node, NR_ZONE_WRITE_PENDING of each zone."""
    pages = Used(m)
    dirty = (kinds_of(m, pages) == AS_FILE) & (pages.flags & PG_dirty != 0)
    written = pages.flags & PG_writeback != 0
    where = pages.flags & ZONE_ID_MASK
    for nid in range(m.nr_nodes):
        for item, which in ((NR_FILE_DIRTY, dirty), (NR_WRITEBACK, written)):
            expected = int(np.count_nonzero(which & (where >> 2 == nid)))
            found = node_total(m, nid, item)
            if found != expected:
                yield f"node {nid}: {NODE_STAT_NAMES[item]} expected {expected}, found {found}"
    for zone in zones_of(m):
        here = where == zone.zid | zone.node << 2
        expected = int(np.count_nonzero(dirty & here)) + int(np.count_nonzero(written & here))
        found = zone_total(m, zone, NR_ZONE_WRITE_PENDING)
        if found != expected:
            name = f"node {zone.node} zone {ZONE_NAMES[zone.zid]}"
            yield f"{name}: nr_zone_write_pending expected {expected}, found {found}"
    of_files = int(np.count_nonzero(written & (kinds_of(m, pages) == AS_FILE)))
    if vm_of(m).wb.nr_writeback.counter != of_files:
        yield f"writeback: nr_writeback expected {of_files}, found {vm_of(m).wb.nr_writeback.counter}"


def requests_match_pages(m: Machine) -> Findings:
    """A page in the disk's queue is locked (read) or under writeback (written), and every page under writeback is in
    the queue."""
    disk = vm_of(m).disk
    if not 0 <= disk.head - disk.tail <= DISK_QUEUE:
        yield f"disk: head {disk.head}, tail {disk.tail}, expected at most {DISK_QUEUE} requests"
        return
    pages = mem_map(m)
    queued: set[int] = set()
    for at in range(disk.tail, disk.head):
        bio = disk.queue[at % DISK_QUEUE]
        flag, name = (PG_writeback, "PG_writeback") if bio.what & 1 else (PG_locked, "PG_locked")
        queued.add(bio.pfn)
        if not int(pages["page_flags"][bio.pfn]) & flag:
            yield f"pfn:{bio.pfn:05x}: queued for the disk, expected {name}"
    used = Used(m)
    lost = used.pfn[(used.flags & PG_writeback != 0) & ~np.isin(used.pfn, np.array(sorted(queued), np.int64))]
    yield from told(lost, "under writeback, and in no request to the disk")


# --- slab -------------------------------------------------------------------------------------------------------------


def slab_tables(m: Machine) -> tuple[SlabArea, Ints, Ints]:
    """The area, its slabs that were ever used, and their objects by slab."""
    area = record_at(SlabArea, address_of(m) + vm_of(m).slab)
    slabs = view(m, Slab, area.slabs, area.first_untouched)
    objects = view(m, SlabObject, area.objects, area.first_untouched * OBJECTS_MAX)
    return area, slabs, objects.reshape(-1, OBJECTS_MAX)


def slabs_are_consistent(m: Machine) -> Findings:
    """``inuse`` is the number of a slab's objects that are allocated, its first page has PG_slab, and a slab with free
    objects is on its node's partial list."""
    _, slabs, objects = slab_tables(m)
    live = slabs["pfn"] >= 0
    inside = np.arange(OBJECTS_MAX) < slabs["objects"][:, None]
    used = ((objects["state"] & OBJECT_USED != 0) & inside).sum(1)
    for at in np.flatnonzero(live & (used != slabs["inuse"]))[:8]:
        yield f"slab {at}: inuse expected {used[at]}, found {slabs['inuse'][at]}"
    for at in np.flatnonzero(live & ((slabs["inuse"] < slabs["objects"]) != (slabs["partial"] != 0)))[:8]:
        used_of = f"{slabs['inuse'][at]} of {slabs['objects'][at]} objects in use"
        yield f"slab {at}: {used_of}, partial {slabs['partial'][at]}"
    pfns = slabs["pfn"][live]
    yield from told(pfns[mem_map(m)["page_flags"][pfns] & PG_slab == 0], "first page of a slab, expected PG_slab")
    if vm_of(m).recorded:
        return
    pages = Used(m)
    yield from told(
        pages.pfn[(pages.flags & PG_slab != 0) & (pages.flags & PG_kmemcg == 0) & ~np.isin(pages.pfn, pfns)],
        "PG_slab, and of no slab cache",
    )


def slab_caches_are_counted(m: Machine) -> Findings:
    """A cache's slabs, objects, partial and LRU lists have as many members as its counters say."""
    area, slabs, objects = slab_tables(m)
    live = slabs["pfn"] >= 0
    waiting = (objects["state"] & OBJECT_LRU != 0).sum(1)
    for number in range(NR_SLAB_CACHES):
        cache, mine = area.caches[number], live & (slabs["cache"] == number)
        name = SLAB_CACHE_NAMES[number]
        sums = [("nr_slabs", int(mine.sum()), cache.nr_slabs)]
        sums.append(("nr_objects", int(slabs["inuse"][mine].sum()), cache.nr_objects))
        for nid in range(m.nr_nodes):
            here = mine & (slabs["nid"] == nid)
            sums.append((f"nr_partial of node {nid}", int(slabs["partial"][here].sum()), cache.nr_partial[nid]))
            sums.append((f"nr_lru of node {nid}", int(waiting[here].sum()), cache.nr_lru[nid]))
        for what, expected, found in sums:
            if expected != found:
                yield f"slab cache {name}: {what} expected {expected}, found {found}"


def slab_pages_are_counted(m: Machine) -> Findings:
    """NR_SLAB_RECLAIMABLE_B and _UNRECLAIMABLE_B, which keep pages."""
    area, slabs, _ = slab_tables(m)
    reclaimable = np.array([c.cache_flags & SLAB_RECLAIM_ACCOUNT != 0 for c in area.caches])
    live = slabs["pfn"] >= 0
    pages = np.where(live, 1 << np.clip(slabs["order"], 0, 10).astype(np.int64), 0)
    kind = reclaimable[np.clip(slabs["cache"], 0, NR_SLAB_CACHES - 1)]
    for nid in range(m.nr_nodes):
        here = slabs["nid"] == nid
        for item, which in ((NR_SLAB_RECLAIMABLE_B, kind), (NR_SLAB_UNRECLAIMABLE_B, ~kind)):
            expected, found = int(pages[here & which].sum()), node_total(m, nid, item)
            if expected != found:
                yield f"node {nid}: {NODE_STAT_NAMES[item]} expected {expected}, found {found}"


# --- memory cgroups ---------------------------------------------------------------------------------------------------


def charges_are_pages(m: Machine) -> Findings:
    """A group's ``memory`` is the number of pages that carry it; with a limit it is within it, unless charges were
    forced."""
    pages = Used(m)
    owned = (pages.mapping != 0) | (pages.flags & PG_swapcache != 0)
    mine = owned & (pages.flags & (PG_kmemcg | PG_slab) == 0)
    group = np.where(mine, pages.private >> PRIVATE_MEMCG_SHIFT, 0)
    size = np.where(pages.flags & PG_head != 0, 1 << PAGEBLOCK_ORDER, 1)
    for i, memcg in enumerate(m.memcgs):
        expected = int(size[group == i + 1].sum())
        if memcg.memory != expected:
            yield f"memcg {i}: memory expected {expected}, found {memcg.memory}"


def rates_are_positive(m: Machine) -> Findings:
    """The device's estimated rates never reach 0, and no CPU is in the middle of congestion."""
    wb = vm_of(m).wb
    for name in ("avg_write_bandwidth", "dirty_ratelimit"):
        if getattr(wb, name) < 1:
            yield f"writeback: {name} expected at least 1, found {getattr(wb, name)}"
    if vm_of(m).nr_wb_congested.counter != (vm_of(m).disk.congested != 0):
        yield f"writeback: nr_wb_congested {vm_of(m).nr_wb_congested.counter}, congested {vm_of(m).disk.congested}"


IO_RULES: tuple[Callable[[Machine], Findings], ...] = (
    swap_slots_are_counted, swap_cache_matches_the_map, swap_counts_are_references, dirty_pages_of_files,
    requests_match_pages, slabs_are_consistent, slab_caches_are_counted, rates_are_positive,
)  # fmt: skip
IO_BOOT_RULES: tuple[Callable[[Machine], Findings], ...] = (
    pending_is_counted, slab_pages_are_counted, charges_are_pages,
)  # fmt: skip
