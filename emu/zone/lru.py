"""LRU lists (``include/linux/mm_inline.h`` (5.10)): which list a page belongs to, and going on and off it.

The node's ``lru_lock`` is held with interrupts off.
"""

from emu.zone.deviations import R33, deviates
from emu.zone.irq import local_irq_restore, local_irq_save
from emu.zone.list import list_add, list_add_tail, list_del
from emu.zone.mm_types import PRIVATE_MEMCG_SHIFT
from emu.zone.mmzone import MAX_NR_ZONES, NR_LRU_LISTS, Cpu, Lruvec, Machine, Node, Page, Zone, zone_at
from emu.zone.page import NODE_BITS, NODE_SHIFT, PG_active, PG_lru, PG_swapbacked, PG_unevictable, page_zone
from emu.zone.page_ref import ClearPageFlag
from emu.zone.vmstat import __mod_node_page_state, __mod_zone_page_state, mod_zone_page_state_torn
from emu.zone.vmstat_items import NR_LRU_BASE, NR_ZONE_LRU_BASE
from shm.core import core
from shm.point import site

LRU_INACTIVE_ANON = 0
LRU_ACTIVE_ANON = 1
LRU_INACTIVE_FILE = 2
LRU_ACTIVE_FILE = 3
LRU_UNEVICTABLE = 4
LRU_BASE = 0
LRU_ACTIVE = 1
LRU_FILE = 2
S_STAT = site("mod_node_page_state:irqsave")


@core(inline=True)
def is_file_lru(lru: int) -> bool:
    """``is_file_lru()``"""
    return lru == LRU_INACTIVE_FILE or lru == LRU_ACTIVE_FILE


@core(inline=True)
def is_active_lru(lru: int) -> bool:
    """``is_active_lru()``"""
    return lru == LRU_ACTIVE_ANON or lru == LRU_ACTIVE_FILE


@core(inline=True)
def page_is_file_lru(page: Page) -> bool:
    """``page_is_file_lru()``: neither anonymous nor tmpfs."""
    return page.page_flags & PG_swapbacked == 0


@core(inline=True)
def page_to_nid(page: Page) -> int:
    """``page_to_nid()``"""
    return (page.page_flags >> NODE_SHIFT) & ((1 << NODE_BITS) - 1)


@core(inline=True)
def page_memcg(page: Page) -> int:
    """Which memory cgroup an LRU page is charged to: index + 1, 0 for the root."""
    return page.private >> PRIVATE_MEMCG_SHIFT


@core(inline=True)
def page_lru(page: Page) -> int:
    """``page_lru()``: the list that a page is on, or should be."""
    flags = page.page_flags
    if flags & PG_unevictable != 0:
        return LRU_UNEVICTABLE
    lru = LRU_INACTIVE_ANON if flags & PG_swapbacked != 0 else LRU_INACTIVE_FILE
    return lru + LRU_ACTIVE if flags & PG_active != 0 else lru


@core(inline=True)
def page_off_lru(page: Page) -> int:
    """``page_off_lru()``: the list that a page is on; its list flags are cleared."""
    lru = page_lru(page)
    if lru == LRU_UNEVICTABLE:
        ClearPageFlag(page, PG_unevictable)
    elif is_active_lru(lru):
        ClearPageFlag(page, PG_active)
    return lru


@core
def update_lru_size(m: Machine, cpu: Cpu, node: Node, lruvec: Lruvec, lru: int, zone: Zone, nr_pages: int) -> None:
    """``update_lru_size()``: node, zone and memory cgroup."""
    __mod_node_page_state(m, cpu, node, NR_LRU_BASE + lru, nr_pages)
    __mod_zone_page_state(m, cpu, zone, NR_ZONE_LRU_BASE + lru, nr_pages)
    lruvec.lru_zone_size[zone.zid * NR_LRU_LISTS + lru] += nr_pages


@core
def add_page_to_lru_list(m: Machine, cpu: Cpu, page: Page, node: Node, lruvec: Lruvec, lru: int) -> None:
    """``add_page_to_lru_list()``"""
    update_lru_size(m, cpu, node, lruvec, lru, zone_at(m, page_zone(m, page)), 1)
    list_add(m, page.lru, lruvec.lists[lru])


@core
def add_page_to_lru_list_tail(m: Machine, cpu: Cpu, page: Page, node: Node, lruvec: Lruvec, lru: int) -> None:
    """``add_page_to_lru_list_tail()``"""
    update_lru_size(m, cpu, node, lruvec, lru, zone_at(m, page_zone(m, page)), 1)
    list_add_tail(m, page.lru, lruvec.lists[lru])


@core
def del_page_from_lru_list(m: Machine, cpu: Cpu, page: Page, node: Node, lruvec: Lruvec, lru: int) -> None:
    """``del_page_from_lru_list()``"""
    list_del(m, page.lru)
    update_lru_size(m, cpu, node, lruvec, lru, zone_at(m, page_zone(m, page)), -1)


@core
def lruvec_lru_size(lruvec: Lruvec, lru: int, zone_idx: int) -> int:
    """``mm/vmscan.c:lruvec_lru_size() (5.10)``: pages of a list in zones up to ``zone_idx``."""
    size = 0
    for zid in range(min(zone_idx + 1, MAX_NR_ZONES)):
        size += lruvec.lru_zone_size[zid * NR_LRU_LISTS + lru]
    return size


@core(inline=True)
def mod_node_page_state(m: Machine, cpu: Cpu, node: Node, item: int, delta: int) -> None:
    """``mod_node_page_state()``: with interrupts off around it."""
    flags = local_irq_save(cpu, S_STAT)
    __mod_node_page_state(m, cpu, node, item, delta)
    local_irq_restore(m, cpu, flags)


@core(inline=True)
def mod_zone_page_state(m: Machine, cpu: Cpu, zone: Zone, item: int, delta: int) -> None:
    """``mod_zone_page_state()``: with interrupts off around it."""
    if deviates(m, R33):
        mod_zone_page_state_torn(m, cpu, zone, item, delta)
        return
    flags = local_irq_save(cpu, S_STAT)
    __mod_zone_page_state(m, cpu, zone, item, delta)
    local_irq_restore(m, cpu, flags)


@core
def on_lru(page: Page) -> bool:
    """``PageLRU()``"""
    return page.page_flags & PG_lru != 0
