"""Memory in use goes offline: its pages move, and page tables, page cache and counters follow."""

from collections.abc import Iterator

import pytest

from emu.mm.filemap import create_file
from emu.mm.mmap import mm_create
from emu.zone.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from emu.zone.mm_types import (
    ADDRESS_SPACE_SIZE,
    AS_FILE,
    AS_SHMEM,
    MM_ANONPAGES,
    MM_SIZE,
    PTE_DIRTY,
    PTE_PRESENT,
    PTE_SHIFT,
    VM_WRITE,
    XA_PAGE,
    AddressSpace,
    Mm,
    Slot,
    Vm,
)  # fmt: skip
from emu.zone.mmzone import ZONE_MOVABLE, ZONE_NORMAL
from emu.zone.page import PG_dirty, PG_hwpoison, PG_lru
from emu.zone.snapshot import view
from emu.zone.validate import validate
from emu.zone.vmstat_items import PGMIGRATE_SUCCESS
from shm.struct import record_at
from tests.bench import shape
from tests.mm.hot import EBUSY, ONLINE_MOVABLE, Hot, do_exit, essence, file_write, hot, mmap_region, touch
from tests.mm.test_hotplug import M4, sized

ANON, SHMEM, FILE = 100, 60, 40
MOVABLE = sized(shape([(0, ZONE_NORMAL, 1024, 8192), (0, ZONE_MOVABLE, 9216, 8192)], (0, 0)))


class Used:
    """A task with anonymous memory and a mapped tmpfs file, and a file that was written."""

    def __init__(self, b: Hot) -> None:
        self.b, m, cpu = b, b.m, b.cpu()
        self.mm = int(mm_create(m, cpu, 0, 0))
        self.shmem, self.file = int(create_file(m, AS_SHMEM, SHMEM)), int(create_file(m, AS_FILE, FILE))
        assert mmap_region(m, self.mm, 0, ANON, 0, VM_WRITE, 0) == 0
        assert mmap_region(m, self.mm, 512, SHMEM, self.shmem, VM_WRITE | 8, 0) == 0
        for slot in range(ANON):
            assert touch(m, cpu, self.mm, slot, 1) >= 0
        for slot in range(512, 512 + SHMEM):
            assert touch(m, cpu, self.mm, slot, 1) >= 0
        for index in range(FILE):
            assert file_write(m, cpu, self.file, index) == 0
        b.drain()

    def vm(self) -> Vm:
        return record_at(Vm, self.b.base + self.b.m.vm)

    def record(self) -> Mm:
        return record_at(Mm, self.b.base + self.vm().mms + (self.mm - 1) * MM_SIZE)

    def ptes(self, first: int = 0, count: int = ANON) -> list[int]:
        """pfns of present page table entries."""
        values = view(self.b.m, Slot, self.record().pgd, first + count)["value"][first:]
        assert all(int(v) & PTE_PRESENT for v in values)
        return [int(v) >> PTE_SHIFT for v in values]

    def cached(self, file: int, count: int) -> list[int]:
        """pfns of a file's pages in the page cache."""
        at = self.b.base + self.vm().files + (file - 1) * ADDRESS_SPACE_SIZE
        values = view(self.b.m, Slot, record_at(AddressSpace, at).i_pages, count)["value"]
        assert all(int(v) & 3 == XA_PAGE for v in values)
        return [int(v) >> 2 for v in values]

    def pages(self) -> list[int]:
        return [*self.ptes(), *self.cached(self.shmem, SHMEM), *self.cached(self.file, FILE)]


@pytest.fixture
def used() -> Iterator[Used]:
    with hot(MOVABLE) as b:
        yield Used(b)
        b.strict = b.strict and validate(b.m) == []


def test_pages_move_and_their_users_follow(used: Used) -> None:
    b = used.b
    before = used.pages()
    block = before[0] & -M4
    assert all(9216 <= pfn < 17408 for pfn in before)
    blocks = sorted({pfn & -M4 for pfn in before})
    rss = [r.counter for r in used.record().rss_stat]
    moved = len(before)
    for block in blocks:
        assert b.offline(block, M4) == 0
        assert validate(b.m) == []
    after = used.pages()
    assert not {pfn & -M4 for pfn in after} & set(blocks)
    assert len(set(after)) == len(after)
    assert sum(b.cpu(i).vm_events[PGMIGRATE_SUCCESS] for i in range(2)) >= moved
    assert [r.counter for r in used.record().rss_stat] == rss
    assert rss[MM_ANONPAGES] == ANON
    for slot, pfn in enumerate(used.ptes()):
        page = b.page(pfn)
        assert (page.index, page.mapping, page.mapcount) == (slot, used.mm << 2 | 1, 0)
    assert used.ptes(512, SHMEM) == used.cached(used.shmem, SHMEM)
    for index, pfn in enumerate(used.cached(used.file, FILE)):
        page = b.page(pfn)
        assert (page.index, page.mapping, bool(page.page_flags & PG_dirty)) == (index, used.file << 2, True)
    for block in blocks:
        assert b.online(block, M4, ONLINE_MOVABLE) == 0
    assert b.m.nodes[0].node_zones[ZONE_MOVABLE].present_pages == 8192


def test_contents_are_still_written_to(used: Used) -> None:
    b = used.b
    assert b.offline(used.ptes()[0] & -M4, M4) == 0
    for slot in range(ANON):
        assert touch(b.m, b.cpu(), used.mm, slot, 1) == 0  # no fault
    assert int(view(b.m, Slot, used.record().pgd, 1)["value"][0]) & PTE_DIRTY
    do_exit(b.m, b.cpu(), 0)
    assert validate(b.m) == []


def test_a_pinned_page_ends_the_attempt_and_all_pages_are_where_somebody_finds_them(used: Used) -> None:
    b = used.b
    pinned = used.ptes()[17]
    b.page(pinned).refcount += 1
    used.vm().offline_passes = 4
    assert b.offline(pinned & -M4, M4) == EBUSY
    assert used.ptes()[17] == pinned
    assert all(b.page(pfn).page_flags & PG_lru for pfn in used.ptes() if pfn != pinned) or b.cpu().pagevecs[0].nr
    b.page(pinned).refcount -= 1
    assert validate(b.m) == []
    assert b.offline(pinned & -M4, M4) == 0
    assert used.ptes()[17] != pinned


def test_a_poisoned_page_of_a_file_is_taken_off_the_lru(used: Used) -> None:
    b = used.b
    pfn = used.cached(used.file, 1)[0]
    b.page(pfn).page_flags |= PG_hwpoison
    used.vm().offline_passes = 10
    assert b.offline(pfn & -M4, M4) == 0
    b.strict = False  # its file still knows it


def test_memory_of_the_kernel_in_the_block_keeps_it(used: Used) -> None:
    b = used.b
    pfn = b.alloc(0, GFP_KERNEL)
    b.drain()
    before = essence(b)
    pages = used.pages()
    assert b.offline(pfn & -M4, M4) == EBUSY
    assert used.pages() == pages
    assert essence(b) == before
    b.free(pfn)


def test_without_room_elsewhere_nothing_goes() -> None:
    with hot(MOVABLE) as b:
        used = Used(b)
        used.vm().offline_passes = 3
        held = b.take_all(0, GFP_HIGHUSER_MOVABLE)
        assert held
        assert b.offline(used.ptes()[0] & -M4, M4) == EBUSY
        assert len(used.pages()) == ANON + SHMEM + FILE
        for pfn in held:
            b.free(pfn)
        b.drain()
        assert validate(b.m) == []
