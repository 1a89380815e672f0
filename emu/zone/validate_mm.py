"""Invariants of LRU lists, page cache, address spaces and the references of their pages, for a machine at rest.

``MM_RULES`` hold for every machine, ``MM_BOOT_RULES`` for one that was booted: a recorded state has pages whose owners,
and counters whose pages, it doesn't describe. :class:`World` is what all of them look at, gathered once.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from emu.zone.census import told
from emu.zone.init import party_of, zones_of
from emu.zone.mm_types import (
    AS_FILE, MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SIZE, PRIVATE_MEMCG_SHIFT, PTE_FILE, PTE_MIGRATION,
    PTE_PRESENT, PTE_SHIFT, PTE_SPECIAL, PTRS_PER_PTE, VM_LOCKED, XA_PAGE, XA_SHADOW, Mm, Slot,
)  # fmt: skip
from emu.zone.mmzone import MAX_NR_ZONES, NR_LRU_LISTS, ZONE_NAMES, Lruvec, Machine
from emu.zone.page import (
    PAGE_MAPPING_ANON, PG_active, PG_lru, PG_mlocked, PG_swapbacked, PG_swapcache, PG_table, PG_unevictable,
    ZONE_ID_MASK,
)  # fmt: skip
from emu.zone.snapshot import mem_map, view
from emu.zone.validate_io import Used, files_of, node_total, vm_of, zone_total
from emu.zone.vmstat_items import (
    NODE_STAT_NAMES, NR_ANON_MAPPED, NR_FILE_MAPPED, NR_FILE_PAGES, NR_ISOLATED_ANON, NR_ISOLATED_FILE, NR_LRU_BASE,
    NR_MLOCK, NR_PAGETABLE, NR_SHMEM, NR_ZONE_LRU_BASE, ZONE_STAT_NAMES,
)  # fmt: skip
from shm.struct import address_of, record_at

__all__ = ["MM_BOOT_RULES", "MM_RULES", "World", "held_pages"]
Findings = Iterator[str]
Ints = np.ndarray[Any, np.dtype[Any]]
LRU_NAMES = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
NONE = np.empty(0, np.int64)
LINK = 8  # links of neighbouring pages differ by a page's size / 4


class World:
    """Pages in use by column, the entries of all files and address spaces, and where the LRU lists' links lead."""

    def __init__(self, m: Machine) -> None:
        self.m, self.pages, self.used = m, mem_map(m), Used(m)
        columns = self.pages[self.used.pfn]
        self.refcount: Ints = columns["refcount"].astype(np.int64)
        self.mapcount: Ints = columns["mapcount"].astype(np.int64)
        self.next: Ints = columns["lru"]["next"].astype(np.int64)
        self.prev: Ints = columns["lru"]["prev"].astype(np.int64)
        self.where: Ints = (self.used.flags & ZONE_ID_MASK).astype(np.int64)
        self.node: Ints = self.where >> 2
        self.anon: Ints = self.used.mapping & 3 == PAGE_MAPPING_ANON
        self.on_lru: Ints = self.used.flags & PG_lru != 0
        if vm_of(m).recorded:
            self.on_lru = self.on_lru & (self.next != 0)  # a state need not say on which place of a list a page is
        self.lruvecs: list[tuple[int, int, Lruvec]] = [
            (nid, memcg, lruvec) for nid in range(m.nr_nodes) for memcg, lruvec in enumerate(m.nodes[nid].lruvecs)
        ]

    def flag(self, flag: int) -> Ints:
        """Which of the used pages have it."""
        has: Ints = self.used.flags & flag != 0
        return has

    def at(self, pfns: Ints) -> Ints:
        """Places of pfns among the used pages; -1 for those that aren't."""
        at = np.searchsorted(self.used.pfn, pfns)
        at[at == len(self.used.pfn)] = 0
        return np.where(len(self.used.pfn) and self.used.pfn[at] == pfns, at, -1) if len(self.used.pfn) else at - 1

    def times(self, pfns: Ints) -> Ints:
        """How often each of the used pages is named; what is named and not in use is :meth:`strangers`'s business."""
        at = self.at(pfns)
        return np.bincount(at[at >= 0], minlength=len(self.used.pfn))

    def strangers(self, pfns: Ints, text: str) -> Findings:
        """Pages that are named by somebody and not in use."""
        yield from told(np.unique(pfns[self.at(pfns) < 0]), text)

    @cached_property
    def list_number(self) -> Ints:
        """Which LRU list each of the used pages should be on: (node * cgroups + cgroup) * lists + list."""
        flags = self.used.flags
        kind = np.where(flags & PG_swapbacked != 0, 0, 2) + np.where(flags & PG_active != 0, 1, 0)
        kind = np.where(flags & PG_unevictable != 0, 4, kind)
        memcg = self.used.private >> PRIVATE_MEMCG_SHIFT
        number: Ints = (self.node * len(self.m.nodes[0].lruvecs) + memcg) * NR_LRU_LISTS + kind
        return number

    def list_name(self, number: int) -> str:
        """Node, cgroup and kind of a list."""
        vec, kind = divmod(int(number), NR_LRU_LISTS)
        nid, memcg, _ = self.lruvecs[vec] if 0 <= vec < len(self.lruvecs) else (-1, -1, None)
        return f"node {nid} {LRU_NAMES[kind]}" + (f" of memcg {memcg - 1}" if memcg > 0 else "")

    @cached_property
    def heads(self) -> Ints:
        """Links of the lists' heads, by number of the list."""
        first = [(address_of(lruvec.lists[0]) - address_of(self.m)) >> 2 for _, _, lruvec in self.lruvecs]
        return (np.array(first)[:, None] + np.arange(NR_LRU_LISTS) * 2).reshape(-1)

    @cached_property
    def cached(self) -> tuple[Ints, Ints, Ints]:
        """Pages in the slots of files: file, slot, pfn."""
        found = [(NONE, NONE, NONE)]
        for number, file in files_of(self.m):
            slots = view(self.m, Slot, file.i_pages, file.nr_slots)["value"]
            at = np.flatnonzero(slots & 3 == XA_PAGE)
            found.append((np.full(len(at), number), at, slots[at] >> 2))
        files, slots, pfns = (np.concatenate(column) for column in zip(*found, strict=True))
        return files, slots, pfns

    @cached_property
    def mms(self) -> list[tuple[int, Mm]]:
        """Address spaces that somebody has."""
        vm = vm_of(self.m)
        all_of_them = (record_at(Mm, address_of(self.m) + vm.mms + i * MM_SIZE) for i in range(vm.nr_mms))
        return [(i + 1, mm) for i, mm in enumerate(all_of_them) if mm.mm_users > 0]

    @cached_property
    def ptes(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Entries of page tables that map pages: mm, slot, entry, file's slot (file << 32 | slot; -1: no file's
        area)."""
        found = [(NONE, NONE, NONE, NONE)]
        for number, mm in self.mms:
            for vma in mm.vmas[: mm.nr_vmas]:
                if vma.end > vma.start:
                    values = view(self.m, Slot, mm.pgd, vma.end)["value"][vma.start :]
                    at = np.flatnonzero(values & (PTE_PRESENT | PTE_SPECIAL) == PTE_PRESENT)
                    of = (vma.file << 32) + at + vma.pgoff if vma.file else np.full(len(at), -1)
                    found.append((np.full(len(at), number), at + vma.start, values[at], of))
        mms, slots, entries, files = (np.concatenate(column) for column in zip(*found, strict=True))
        return mms, slots, entries, files

    @cached_property
    def waiting(self) -> Ints:
        """Pages in pagevecs."""
        return np.array(
            [
                pfn
                for i in range(self.m.nr_parties)
                for pvec in party_of(self.m, i).pagevecs
                for pfn in pvec.pages[: pvec.nr]
            ],
            np.int64,
        )


# --- LRU lists --------------------------------------------------------------------------------------------------------


def lru_lists_are_linked(w: World) -> Findings:
    """LRU lists are circular in both directions, and the pages on them are those with PG_lru, each on the list of its
    node, cgroup and flags."""
    heads = w.heads
    ends = np.array([[head.next, head.prev] for _, _, vec in w.lruvecs for head in vec.lists], np.int64)
    mine = np.flatnonzero(w.on_lru)
    links = np.concatenate([heads, w.m.mem_map_link + w.used.pfn[mine] * LINK])
    forth, back = np.concatenate([ends[:, 0], w.next[mine]]), np.concatenate([ends[:, 1], w.prev[mine]])
    order = np.argsort(links)
    at = np.clip(np.searchsorted(links, forth, sorter=order), 0, len(links) - 1)
    follower = order[at]
    known = links[follower] == forth

    def name(i: int) -> str:
        return w.list_name(i) + ": its head" if i < len(heads) else f"pfn:{w.used.pfn[mine[i - len(heads)]]:05x}"

    for i in np.flatnonzero(~known)[:LINK]:
        yield f"{name(i)}: next link {forth[i]:#x}, expected a page with PG_lru or the head of an LRU list"
    for i in np.flatnonzero(known & (back[follower] != links))[:LINK]:
        yield f"{name(follower[i])}: prev link expected {links[i]:#x}, found {back[follower[i]]:#x}"
    if not known.all():
        return
    jump = np.where(np.arange(len(links)) < len(heads), np.arange(len(links)), follower)
    for _ in range(max(len(links).bit_length(), 1)):
        jump = jump[jump]
    found, expected = jump[len(heads) :], w.list_number[mine]
    yield from told(w.used.pfn[mine[found >= len(heads)]], "PG_lru, and on no LRU list")
    for i in np.flatnonzero((found < len(heads)) & (found != expected))[:LINK]:
        yield f"pfn:{w.used.pfn[mine[i]]:05x}: on {w.list_name(found[i])}, expected on {w.list_name(expected[i])}"


def lru_sizes_are_counted(w: World) -> Findings:
    """``lru_zone_size`` of each list and zone is the number of its pages."""
    zid = w.where & (MAX_NR_ZONES - 1)
    key = w.list_number * MAX_NR_ZONES + zid
    size = np.bincount(key[w.on_lru], minlength=len(w.heads) * MAX_NR_ZONES).reshape(-1, NR_LRU_LISTS, MAX_NR_ZONES)
    for vec, (_, _, lruvec) in enumerate(w.lruvecs):
        found = np.array(lruvec.lru_zone_size[:]).reshape(MAX_NR_ZONES, NR_LRU_LISTS).T
        for lru, zone in np.argwhere(found != size[vec]):
            name = w.list_name(vec * NR_LRU_LISTS + int(lru))
            yield f"{name}: pages of {ZONE_NAMES[zone]} expected {size[vec][lru, zone]}, found {found[lru, zone]}"


def lru_counters_add_up(w: World) -> Findings:
    """The nodes' and zones' LRU counters with all differentials; nothing is isolated."""
    kind = w.list_number % NR_LRU_LISTS
    for nid in range(w.m.nr_nodes):
        here = w.on_lru & (w.node == nid)
        sums = [(NR_LRU_BASE + lru, int(np.count_nonzero(here & (kind == lru)))) for lru in range(NR_LRU_LISTS)]
        yield from node_items(w, nid, [*sums, (NR_ISOLATED_ANON, 0), (NR_ISOLATED_FILE, 0)])
    for zone in zones_of(w.m):
        here = w.on_lru & (w.where == zone.zid | zone.node << 2)
        sums = [(NR_ZONE_LRU_BASE + lru, int(np.count_nonzero(here & (kind == lru)))) for lru in range(NR_LRU_LISTS)]
        mlocked = int(np.count_nonzero(w.flag(PG_mlocked) & (w.where == zone.zid | zone.node << 2)))
        for item, expected in [*sums, (NR_MLOCK, mlocked)]:
            if zone_total(w.m, zone, item) != expected:
                name = f"node {zone.node} zone {ZONE_NAMES[zone.zid]}: {ZONE_STAT_NAMES[item]}"
                yield f"{name} with differentials expected {expected}, found {zone_total(w.m, zone, item)}"


def node_items(w: World, nid: int, sums: list[tuple[int, int]]) -> Findings:
    """Items of a node that are not what they should be."""
    for item, expected in sums:
        found = node_total(w.m, nid, item)
        if found != expected:
            yield f"node {nid}: {NODE_STAT_NAMES[item]} with differentials expected {expected}, found {found}"


# --- the page cache ---------------------------------------------------------------------------------------------------


def cached_pages_know_their_slot(w: World) -> Findings:
    """A page in a file's slot names the file and the slot, and a page that names a file is in its slot."""
    files, slots, pfns = w.cached
    yield from w.strangers(pfns, "in the page cache, expected in use")
    at = w.at(pfns)
    known = at >= 0
    wrong = known & ((w.used.mapping[at] != files << 2) | (w.used.index[at] != slots))
    for i in np.flatnonzero(wrong)[:LINK]:
        found = f"mapping {w.used.mapping[at[i]]:#x}, index {w.used.index[at[i]]}"
        yield f"pfn:{pfns[i]:05x}: in slot {slots[i]} of file {files[i]}, found {found}"
    ids = np.array([number for number, _ in files_of(w.m)], np.int64)
    owned = np.isin(w.used.file, ids) & (w.used.file != 0)
    yield from told(w.used.pfn[owned & (w.times(pfns) == 0)], "has a file as its mapping, and is in none of its slots")


def files_are_counted(w: World) -> Findings:
    """``nrpages`` and ``nrexceptional`` of each file."""
    files, _, _ = w.cached
    pages = np.bincount(files.astype(np.int64), minlength=256)
    for number, file in files_of(w.m):
        if file.nrpages != pages[number]:
            yield f"file {number}: nrpages expected {pages[number]}, found {file.nrpages}"
        slots = view(w.m, Slot, file.i_pages, file.nr_slots)["value"]
        shadows = int(np.count_nonzero(slots & 3 == XA_SHADOW))
        if file.kind == AS_FILE and file.nrexceptional != shadows:
            yield f"file {number}: nrexceptional expected {shadows}, found {file.nrexceptional}"


def file_pages_are_counted(w: World) -> Findings:
    """NR_FILE_PAGES (the swap cache's too) and NR_SHMEM of each node."""
    in_file = w.times(w.cached[2]) > 0
    shmem = in_file & w.flag(PG_swapbacked)
    for nid in range(w.m.nr_nodes):
        here = w.node == nid
        pages = int(np.count_nonzero(in_file & here)) + int(np.count_nonzero(w.flag(PG_swapcache) & here))
        yield from node_items(w, nid, [(NR_FILE_PAGES, pages), (NR_SHMEM, int(np.count_nonzero(shmem & here)))])


# --- address spaces ---------------------------------------------------------------------------------------------------


def mapped_pages_know_their_owner(w: World) -> Findings:
    """An entry of a page table that maps a file's page maps the one its area says; any other maps a page of its own."""
    mms, slots, entries, files = w.ptes
    pfns = entries >> PTE_SHIFT
    yield from w.strangers(pfns, "mapped, expected in use")
    at = w.at(pfns)
    mapping, index = w.used.mapping[at], w.used.index[at]
    of_file = entries & PTE_FILE != 0
    right = np.where(of_file, ((mapping >> 2) << 32) + index == files, mapping == mms << 2 | PAGE_MAPPING_ANON)
    right &= np.where(of_file, mapping & 3 == 0, index == slots)
    for i in np.flatnonzero((at >= 0) & ~right)[:LINK]:
        found = f"mapping {mapping[i]:#x}, index {index[i]}"
        yield f"pfn:{pfns[i]:05x}: mapped in slot {slots[i]} of mm {mms[i]}, found {found}"


def mapcounts_are_mappings(w: World) -> Findings:
    """``mapcount`` + 1 is the number of page table entries that map a page."""
    times = w.times(w.ptes[2] >> PTE_SHIFT)
    plain = w.used.flags & PG_table == 0
    for i in np.flatnonzero(plain & (w.mapcount + 1 != times) & (w.anon | (w.used.file != 0) | (times > 0)))[:LINK]:
        yield f"pfn:{w.used.pfn[i]:05x}: mapcount expected {times[i] - 1}, found {w.mapcount[i]}"


def rss_is_counted(w: World) -> Findings:
    """``rss_stat`` of each address space; no entry is left of a migration."""
    mms, _, entries, _ = w.ptes
    at = w.at(entries >> PTE_SHIFT)
    swapbacked = (at >= 0) & (w.used.flags[at] & PG_swapbacked != 0) if len(at) else at > 0
    of_file = entries & PTE_FILE != 0
    for number, mm in w.mms:
        mine = mms == number
        counts = {
            MM_ANONPAGES: mine & ~of_file, MM_FILEPAGES: mine & of_file & ~swapbacked,
            MM_SHMEMPAGES: mine & of_file & swapbacked,
        }  # fmt: skip
        for item, name in ((MM_ANONPAGES, "ANON"), (MM_FILEPAGES, "FILE"), (MM_SHMEMPAGES, "SHMEM")):
            expected, found = int(np.count_nonzero(counts[item])), mm.rss_stat[item].counter
            if expected != found:
                yield f"mm {number}: MM_{name}PAGES expected {expected}, found {found}"
        for vma in mm.vmas[: mm.nr_vmas]:
            values = view(w.m, Slot, mm.pgd, max(vma.end, 1))["value"][vma.start :]
            for slot in np.flatnonzero(values & PTE_MIGRATION != 0)[:LINK]:
                yield f"mm {number}: slot {slot + vma.start}: a migration entry, expected none"


def locked_areas_are_counted(w: World) -> Findings:
    """``locked_vm`` of each address space."""
    for number, mm in w.mms:
        locked = sum(vma.end - vma.start for vma in mm.vmas[: mm.nr_vmas] if vma.vm_flags & VM_LOCKED)
        if mm.locked_vm != locked:
            yield f"mm {number}: locked_vm expected {locked}, found {mm.locked_vm}"


def mapped_pages_are_counted(w: World) -> Findings:
    """NR_ANON_MAPPED and NR_FILE_MAPPED of each node."""
    mapped = (w.mapcount >= 0) & (w.used.flags & PG_table == 0)
    for nid in range(w.m.nr_nodes):
        here = mapped & (w.node == nid)
        anon, file = np.count_nonzero(here & w.anon), np.count_nonzero(here & ~w.anon & (w.used.file != 0))
        yield from node_items(w, nid, [(NR_ANON_MAPPED, int(anon)), (NR_FILE_MAPPED, int(file))])


def page_tables_are_counted(w: World) -> Findings:
    """Pages with PG_table are the address spaces' page tables, each needed by an area; NR_PAGETABLE of each zone."""
    named = [NONE]
    for number, mm in w.mms:
        tables = view(w.m, Slot, mm.pmd, -(-mm.nr_slots // PTRS_PER_PTE))["value"]
        at = np.flatnonzero(tables)
        if len(at) != mm.nr_page_tables:
            yield f"mm {number}: nr_page_tables expected {len(at)}, found {mm.nr_page_tables}"
        areas = [(vma.start, vma.end) for vma in mm.vmas[: mm.nr_vmas] if vma.end > vma.start]
        for table in at:
            first = int(table) * PTRS_PER_PTE
            if not any(start < first + PTRS_PER_PTE and end > first for start, end in areas):
                yield f"mm {number}: a page table for slots from {first}, where no area is"
        named.append(tables[at] - 1)
    pfns = np.concatenate(named)
    yield from w.strangers(pfns, "a page table, expected in use")
    is_table, times = w.flag(PG_table), w.times(pfns)
    for i in np.flatnonzero(is_table != (times == 1))[:LINK]:
        state = "set" if is_table[i] else "clear"
        yield f"pfn:{w.used.pfn[i]:05x}: the page of {times[i]} page tables, PG_table {state}"
    for zone in zones_of(w.m):
        expected = int(np.count_nonzero(is_table & (w.where == zone.zid | zone.node << 2)))
        found = zone_total(w.m, zone, NR_PAGETABLE)
        if expected != found:
            name = f"node {zone.node} zone {ZONE_NAMES[zone.zid]}: nr_page_table_pages"
            yield f"{name} with differentials expected {expected}, found {found}"


# --- references -------------------------------------------------------------------------------------------------------


def explained(w: World) -> Ints:
    """References of each used page that its users account for: page cache, swap cache, mappings, pagevecs."""
    counts: Ints = w.times(w.cached[2]) + w.times(w.ptes[2] >> PTE_SHIFT) + w.times(w.waiting)
    return counts + w.flag(PG_swapcache)


def references_are_explained(w: World) -> Findings:
    """A page on an LRU list, in the page cache, mapped or on a pagevec is referenced by just those."""
    counts = explained(w)
    ours = w.on_lru | (counts > 0)
    for i in np.flatnonzero(ours & (w.refcount != counts))[:LINK]:
        yield f"pfn:{w.used.pfn[i]:05x}: refcount expected {counts[i]}, found {w.refcount[i]}"


def held_pages(m: Machine) -> int:
    """Pages in use that neither files, address spaces, page tables nor slab caches account for: their callers hold
    them."""
    w = World(m)
    return int(np.count_nonzero((explained(w) == 0) & ~w.flag(PG_table)))


MM_RULES: tuple[Callable[[World], Findings], ...] = (
    lru_lists_are_linked, lru_sizes_are_counted, cached_pages_know_their_slot, files_are_counted,
    mapped_pages_know_their_owner, mapcounts_are_mappings, rss_is_counted, locked_areas_are_counted,
)  # fmt: skip
MM_BOOT_RULES: tuple[Callable[[World], Findings], ...] = (
    lru_counters_add_up, file_pages_are_counted, mapped_pages_are_counted, page_tables_are_counted,
    references_are_explained,
)  # fmt: skip
