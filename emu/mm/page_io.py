"""Writing one page: of a file to the disk, of the swap cache and of tmpfs to swap (``mm/page_io.c``, ``mm/shmem.c``
(5.10))."""

from emu.mm.disk import BIO_SWAP_WRITE, BIO_WRITE, submit_write
from emu.mm.page_dirty import page_file, set_page_dirty, set_page_writeback
from emu.mm.page_lock import unlock_page
from emu.mm.pagevec import put_page
from emu.mm.swap_state import add_to_swap_cache, try_to_free_swap
from emu.mm.swapfile import get_swap_page, swap_cgroup_record, swap_shmem_alloc
from emu.zone.irq import spin_lock_irqsave, spin_unlock_irqrestore
from emu.zone.lru import page_memcg, page_to_nid
from emu.zone.mm_types import (
    AS_FILE, SLOT_SIZE, XA_SWAP, AddressSpace, file_at, file_record, slot_at, vm_at,
)  # fmt: skip
from emu.zone.mmzone import Cpu, Machine, page_record
from emu.zone.page import PG_swapcache, PG_uptodate, pfn_to_page
from emu.zone.page_ref import SetPageFlag, test_flag
from emu.zone.vmstat import __count_vm_events, __mod_node_page_state
from emu.zone.vmstat_items import NR_FILE_PAGES, NR_SHMEM, PSWPOUT
from shm.core import core
from shm.point import site

AOP_WRITEPAGE_ACTIVATE = 0x80000  # not written, and still locked: keep it active for now
S_TO_SWAP = site("shmem_delete_from_page_cache:i_pages_lock")


@core
def swap_writepage(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``mm/page_io.c:swap_writepage() (5.10)``: write a locked page of the swap cache and unlock it; one whose slot
    nobody needs any more only gives that up. Always 0."""
    if try_to_free_swap(m, cpu, pfn):
        unlock_page(m, cpu, pfn)
        return 0
    __count_vm_events(cpu, PSWPOUT, 1)
    set_page_writeback(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    submit_write(m, cpu, pfn, BIO_SWAP_WRITE)
    return 0


@core
def shmem_delete_from_page_cache(m: Machine, cpu: Cpu, pfn: int, mapping: AddressSpace, entry: int) -> None:
    """``mm/shmem.c:shmem_delete_from_page_cache() (5.10)``: the file's slot has the swap entry in the page's place."""
    page = page_record(m, pfn_to_page(m, pfn))
    node = m.nodes[page_to_nid(page)]
    flags = spin_lock_irqsave(cpu, mapping.i_pages_lock, S_TO_SWAP)
    slot_at(m, mapping.i_pages + page.index * SLOT_SIZE).value = entry << 2 | XA_SWAP
    page.mapping = 0
    mapping.nrpages -= 1
    __mod_node_page_state(m, cpu, node, NR_FILE_PAGES, -1)
    __mod_node_page_state(m, cpu, node, NR_SHMEM, -1)
    spin_unlock_irqrestore(m, cpu, mapping.i_pages_lock, flags)
    put_page(m, cpu, pfn)


@core
def shmem_writepage(m: Machine, cpu: Cpu, pfn: int, mapping: AddressSpace) -> int:
    """``mm/shmem.c:shmem_writepage() (5.10)`` for reclaim: the locked page, which nobody maps, moves from its file to
    the swap cache and is written. AOP_WRITEPAGE_ACTIVATE: dirty again and still locked, for want of swap."""
    page = page_record(m, pfn_to_page(m, pfn))
    SetPageFlag(page, PG_uptodate)
    entry = get_swap_page(m, cpu)
    if entry == 0:
        set_page_dirty(m, cpu, pfn)
        return AOP_WRITEPAGE_ACTIVATE
    swap_cgroup_record(m, entry, page_memcg(page))
    add_to_swap_cache(m, cpu, pfn, entry)
    swap_shmem_alloc(m, cpu, entry)
    shmem_delete_from_page_cache(m, cpu, pfn, mapping, entry)
    return swap_writepage(m, cpu, pfn)


@core
def file_writepage(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``block_write_full_page()`` of a file's page without buffers: under writeback, unlocked, to the disk."""
    set_page_writeback(m, cpu, pfn)
    unlock_page(m, cpu, pfn)
    submit_write(m, cpu, pfn, BIO_WRITE)
    return 0


@core
def writepage(m: Machine, cpu: Cpu, pfn: int) -> int:
    """``mapping->a_ops->writepage()``: a locked page that :func:`clear_page_dirty_for_io` has made clean. 0: on its
    way and unlocked; AOP_WRITEPAGE_ACTIVATE: not."""
    page = page_record(m, pfn_to_page(m, pfn))
    if test_flag(page, PG_swapcache):
        return swap_writepage(m, cpu, pfn)
    mapping = file_record(m, file_at(m, vm_at(m, m.vm), page_file(page)))
    if mapping.kind == AS_FILE:
        return file_writepage(m, cpu, pfn)
    return shmem_writepage(m, cpu, pfn, mapping)
