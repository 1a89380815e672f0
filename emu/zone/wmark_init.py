"""What follows from the size of memory, worked out anew when it changes (``mm/page_alloc.c``, ``mm/khugepaged.c``
(5.10))."""

from emu.zone.mm_types import vm_at
from emu.zone.mmzone import (
    MAX_NR_ZONES, MIGRATE_PCPTYPES, PAGE_SHIFT, PAGEBLOCK_NR_PAGES, ZONE_NORMAL, Cpu, Machine,
)  # fmt: skip
from emu.zone.setup import refresh_zone_stat_thresholds, setup_per_zone_lowmem_reserve, setup_per_zone_wmarks
from emu.zone.zonelist_build import nr_free_zone_pages
from shm.core import core, entry


@core
def int_sqrt(x: int) -> int:
    """``int_sqrt()``: rounded down."""
    root = 0
    bit = 1 << 60
    while bit > x:
        bit >>= 2
    while bit != 0:
        if x >= root + bit:
            x -= root + bit
            root = (root >> 1) + bit
        else:
            root >>= 1
        bit >>= 2
    return root


@core
def nr_free_buffer_pages(m: Machine, cpu: Cpu) -> int:
    """``mm/page_alloc.c:nr_free_buffer_pages() (5.10)``: in zones that the kernel itself may use."""
    return nr_free_zone_pages(m, cpu, ZONE_NORMAL)


@core
def percent_of_node(m: Machine, nid: int, ratio: int) -> int:
    """A share of a node's managed pages, rounded down for each zone."""
    pages = 0
    for zid in range(MAX_NR_ZONES):
        pages += m.nodes[nid].node_zones[zid].managed_pages * ratio // 100
    return pages


@core
def setup_min_unmapped_ratio(m: Machine) -> None:
    """``mm/page_alloc.c:setup_min_unmapped_ratio() (5.10)``"""
    for nid in range(m.nr_nodes):
        m.nodes[nid].min_unmapped_pages = percent_of_node(m, nid, vm_at(m, m.vm).min_unmapped_ratio)


@core
def setup_min_slab_ratio(m: Machine) -> None:
    """``mm/page_alloc.c:setup_min_slab_ratio() (5.10)``"""
    for nid in range(m.nr_nodes):
        m.nodes[nid].min_slab_pages = percent_of_node(m, nid, vm_at(m, m.vm).min_slab_ratio)


@core
def set_recommended_min_free_kbytes(m: Machine, cpu: Cpu) -> None:
    """``mm/khugepaged.c:set_recommended_min_free_kbytes() (5.10)``: two pageblocks free in each zone for huge pages,
    and as many as types can fall back on each other; no more than a twentieth of the memory."""
    nr_zones = 0
    for nid in range(m.nr_nodes):
        for zid in range(ZONE_NORMAL + 1):
            if m.nodes[nid].node_zones[zid].present_pages != 0:
                nr_zones += 1
    pages = PAGEBLOCK_NR_PAGES * nr_zones * (2 + MIGRATE_PCPTYPES * MIGRATE_PCPTYPES)
    kbytes = min(pages, nr_free_buffer_pages(m, cpu) // 20) << (PAGE_SHIFT - 10)
    if kbytes > m.min_free_kbytes:
        m.min_free_kbytes = kbytes
    setup_per_zone_wmarks(m, cpu)


@entry
def init_per_zone_wmark_min(m: Machine, cpu: Cpu) -> None:
    """``mm/page_alloc.c:init_per_zone_wmark_min() (5.10.262)``: min_free_kbytes as the square root of memory, unless
    the user asked for more; watermarks, thresholds and reserves from it."""
    kbytes = int_sqrt((nr_free_buffer_pages(m, cpu) << (PAGE_SHIFT - 10)) * 16)
    if kbytes > m.user_min_free_kbytes:
        m.min_free_kbytes = min(max(kbytes, 128), 262144)
    setup_per_zone_wmarks(m, cpu)
    refresh_zone_stat_thresholds(m)
    setup_per_zone_lowmem_reserve(m)
    setup_min_unmapped_ratio(m)
    setup_min_slab_ratio(m)
    if vm_at(m, m.vm).khugepaged != 0:
        set_recommended_min_free_kbytes(m, cpu)
