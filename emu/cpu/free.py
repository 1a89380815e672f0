"""Freeing pages (``mm/page_alloc.c`` (5.10))."""

from emu.cpu.pageset import free_one_page, free_unref_page_commit
from emu.cpu.prep import free_debug
from emu.cpu.task import __memcg_kmem_uncharge_page
from emu.zone.bad_page import BAD_REF_ZERO, CLEAN_PAGE, CLEAN_TAIL_PAGE, bad_page, check_free_page
from emu.zone.buddy import FPI_NONE
from emu.zone.deviations import R16, R16B, deviates
from emu.zone.event import trace_mm_page_free, trace_mm_page_free_batched
from emu.zone.irq import local_irq_restore, local_irq_save
from emu.zone.list import link_of, list_del
from emu.zone.mmzone import PD_CHECK, Cpu, Machine, page_record, zone_at
from emu.zone.page import (
    PAGE_FLAGS_CHECK_AT_PREP, PAGE_MAPPING_FLAGS, PG_head, PG_hwpoison, PG_kmemcg, PageCompound, clear_flag,
    link_to_pfn, page_zone, pfn_to_page,
)  # fmt: skip
from emu.zone.pageblock import get_pfnblock_migratetype
from emu.zone.vmstat import __count_vm_events
from emu.zone.vmstat_items import PGFREE
from shm.atomic import fetch_add
from shm.core import CHECKED, core
from shm.point import point, site
from shm.scan import all_match

SWAP_CLUSTER_MAX = 32
S_PUT = site("__free_pages:put_page_testzero")
S_HEAD = site("__free_pages:read PageHead")
S_FREE_OK = site("__free_pages_ok:irqsave")
S_FREE_UNREF = site("free_unref_page:irqsave")
S_FREE_LIST = site("free_unref_page_list:irqsave")
S_READ_TYPE = site("free_unref_page_prepare:read migratetype")


@core
def free_tail_pages(m: Machine, cpu: Cpu, pfn: int, order: int, compound: int) -> int:
    """Check and clean the pages behind the first (``free_tail_pages_check()`` and its loop). Returns the bad ones."""
    tails = (1 << order) - 1
    first = page_record(m, pfn_to_page(m, pfn + 1))
    if compound == 0:
        if all_match(first, tails, CLEAN_PAGE):
            return 0
        return find_bad_tail_pages(m, cpu, pfn, order)
    spotless = all_match(first, tails, CLEAN_TAIL_PAGE)
    for i in range(1, 1 << order):
        page = page_record(m, pfn_to_page(m, pfn + i))
        page.mapping = 0
        page.lru.next = 0
    if spotless:
        return 0
    return find_bad_tail_pages(m, cpu, pfn, order)


@core(cold=True)
def find_bad_tail_pages(m: Machine, cpu: Cpu, pfn: int, order: int) -> int:
    """At least one tail page is bad, or has flags to be cleared."""
    bad = 0
    for i in range(1, 1 << order):
        if check_free_page(m, cpu, pfn + i):
            bad += 1
            continue
        clear_flag(page_record(m, pfn_to_page(m, pfn + i)), PAGE_FLAGS_CHECK_AT_PREP)
    return bad


@core(inline=True)
def free_pages_prepare(m: Machine, cpu: Cpu, pfn: int, order: int, check_free: int) -> bool:
    """``mm/page_alloc.c:free_pages_prepare() (5.10)``: false if the page must not be freed.

    Order-0 pages are checked later, on their way from the pcp list to the buddy lists (no CONFIG_DEBUG_VM).
    """
    page = page_record(m, pfn_to_page(m, pfn))
    trace_mm_page_free(m, cpu, pfn, order)
    if page.page_flags & (PG_hwpoison | PG_kmemcg) != 0:
        poisoned = page.page_flags & PG_hwpoison != 0 and order == 0
        if page.page_flags & PG_kmemcg != 0:
            __memcg_kmem_uncharge_page(m, pfn, order)
        if poisoned:
            return False
    bad = 0
    if order != 0:
        bad = free_tail_pages(m, cpu, pfn, order, 1 if PageCompound(page) else 0)
    if page.mapping & PAGE_MAPPING_FLAGS != 0:
        page.mapping = 0
    if check_free != 0 and check_free_page(m, cpu, pfn):
        bad += 1
    if bad != 0:
        return False
    clear_flag(page, PAGE_FLAGS_CHECK_AT_PREP)
    if m.page_debug != 0:
        free_debug(m, cpu, pfn, order)
    return True


@core(cold=True)
def __free_pages_ok(m: Machine, cpu: Cpu, pfn: int, order: int, fpi_flags: int) -> None:
    """``mm/page_alloc.c:__free_pages_ok() (5.10)``: the migratetype is read before the zone lock is taken."""
    if not free_pages_prepare(m, cpu, pfn, order, 1):
        return
    point(cpu.party, S_READ_TYPE)
    migratetype = get_pfnblock_migratetype(m, pfn)
    flags = local_irq_save(cpu, S_FREE_OK)
    __count_vm_events(cpu, PGFREE, 1 << order)
    zone = zone_at(m, page_zone(m, page_record(m, pfn_to_page(m, pfn))))
    free_one_page(m, cpu, zone, pfn, order, migratetype, fpi_flags)
    local_irq_restore(m, cpu, flags)


@core(inline=True)
def free_unref_page_prepare(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``free_unref_page_prepare()``: stamps the page with its block's migratetype as it is now."""
    if not free_pages_prepare(m, cpu, pfn, 0, m.page_debug & PD_CHECK):
        return False
    point(cpu.party, S_READ_TYPE)
    page_record(m, pfn_to_page(m, pfn)).index = get_pfnblock_migratetype(m, pfn)
    return True


@core(inline=True)
def free_unref_page(m: Machine, cpu: Cpu, pfn: int) -> None:
    """``mm/page_alloc.c:free_unref_page() (5.10)``: an order-0 page to the pcp list."""
    if not free_unref_page_prepare(m, cpu, pfn):
        return
    flags = local_irq_save(cpu, S_FREE_UNREF)
    free_unref_page_commit(m, cpu, pfn)
    local_irq_restore(m, cpu, flags)


@core(cold=True)
def free_unref_page_list(m: Machine, cpu: Cpu) -> None:
    """``mm/page_alloc.c:free_unref_page_list() (5.10)``: the pages on the CPU's ``batch`` list, all prepared first.

    Interrupts come in after every 32 pages.
    """
    head = cpu.batch
    last = link_of(m, head)
    link = head.next
    while link != last:
        pfn = link_to_pfn(m, link)
        page = page_record(m, pfn_to_page(m, pfn))
        link = page.lru.next
        if not free_unref_page_prepare(m, cpu, pfn):
            list_del(m, page.lru)
    flags = local_irq_save(cpu, S_FREE_LIST)
    batch_count = 0
    link = head.next
    while link != last:
        pfn = link_to_pfn(m, link)
        page = page_record(m, pfn_to_page(m, pfn))
        link = page.lru.next
        page.private = 0
        trace_mm_page_free_batched(m, cpu, pfn)
        free_unref_page_commit(m, cpu, pfn)
        batch_count += 1
        if batch_count == SWAP_CLUSTER_MAX:
            local_irq_restore(m, cpu, flags)
            batch_count = 0
            flags = local_irq_save(cpu, S_FREE_LIST)
    local_irq_restore(m, cpu, flags)


@core(inline=True)
def free_the_page(m: Machine, cpu: Cpu, pfn: int, order: int) -> None:
    """``free_the_page()``: order 0 through the pcp lists, the rest straight to the buddy lists."""
    if order == 0:
        free_unref_page(m, cpu, pfn)
    else:
        __free_pages_ok(m, cpu, pfn, order, FPI_NONE)


@core(inline=True)
def put_page_testzero(m: Machine, cpu: Cpu, pfn: int) -> bool:
    """``put_page_testzero()``: checked mode reports a page that has no reference to drop."""
    page = page_record(m, pfn_to_page(m, pfn))
    point(cpu.party, S_PUT)
    before = fetch_add(page, "refcount", -1)
    if CHECKED and before == 0:
        bad_page(m, cpu, pfn, BAD_REF_ZERO)
    return before == 1


@core(cold=True)
def free_subpages(m: Machine, cpu: Cpu, pfn: int, order: int, head: int) -> None:
    """The other case of ``__free_pages()``: somebody took a reference on the first page meanwhile. He will free a
    compound page (``head``) as a whole; of any other block, the first page, and the rest is freed here in pieces.

    Race R16: without this part (e320d3012d25) the rest is lost. Race R16b: ``head`` has to be read before the reference
    is dropped (462a8e08e0e6), since then the page may be freed already, and no head any more.
    """
    if deviates(m, R16B):
        point(cpu.party, S_HEAD)
        head = page_record(m, pfn_to_page(m, pfn)).page_flags & PG_head
    if head != 0 or deviates(m, R16):
        return
    while order > 0:
        order -= 1
        free_the_page(m, cpu, pfn + (1 << order), order)


@core(inline=True)
def __free_pages(m: Machine, cpu: Cpu, pfn: int, order: int) -> None:
    """``mm/page_alloc.c:__free_pages() (5.10)``: drop a reference, free what nobody holds."""
    head = page_record(m, pfn_to_page(m, pfn)).page_flags & PG_head
    if put_page_testzero(m, cpu, pfn):
        free_the_page(m, cpu, pfn, order)
    elif order > 0:
        free_subpages(m, cpu, pfn, order, head)
