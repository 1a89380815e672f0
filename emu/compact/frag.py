"""How fragmented a zone is (``mm/vmstat.c``, ``mm/compaction.c`` (5.10))."""

from emu.mm.kswapd_run import pgdat_kswapd_lock, pgdat_kswapd_unlock
from emu.zone.deviations import R20, deviates
from emu.zone.mm_types import Kswapd, vm_at
from emu.zone.mmzone import MAX_NR_ZONES, MAX_ORDER, Cpu, Machine, Node, Zone
from shm.atomic import fetch_add, load_acquire
from shm.core import OnStack, core
from shm.point import point, site
from shm.struct import Struct, i64, struct
from shm.waitqueue import waitqueue_active

COMPACTION_HPAGE_ORDER = 9
WMARK_LOW_LEAST = 5
S_KSWAPD = site("kswapd_is_running:read pgdat->kswapd")
S_KSWAPD_STATE = site("kswapd_is_running:reread pgdat->kswapd")
S_LOCK = site("kswapd_is_running:mutex_lock")


@struct
class ContigPageInfo(Struct):
    """``struct contig_page_info``"""

    free_pages: int = i64()
    free_blocks_total: int = i64()
    free_blocks_suitable: int = i64()


contig_page_info = OnStack(ContigPageInfo)


@core(cold=True)
def fill_contig_page_info(zone: Zone, suitable_order: int, info: ContigPageInfo) -> None:
    """``mm/vmstat.c:fill_contig_page_info() (5.10)``: free pages, free blocks, and those large enough in units of the
    order. ``nr_free`` is read without a lock."""
    info.free_pages = 0
    info.free_blocks_total = 0
    info.free_blocks_suitable = 0
    for order in range(MAX_ORDER):
        blocks = zone.free_area[order].nr_free
        info.free_blocks_total += blocks
        info.free_pages += blocks << order
        if order >= suitable_order:
            info.free_blocks_suitable += blocks << (order - suitable_order)


@core(cold=True)
def fragmentation_index(zone: Zone, order: int) -> int:
    """``mm/vmstat.c:fragmentation_index() (5.10)``: -1000: it would succeed; else from 0, memory is short, to 1000,
    memory is fragmented."""
    info = contig_page_info()
    fill_contig_page_info(zone, order, info)
    if info.free_blocks_total == 0:
        return 0
    if info.free_blocks_suitable != 0:
        return -1000
    return 1000 - (1000 + (info.free_pages * 1000 >> order)) // info.free_blocks_total


@core(cold=True)
def extfrag_for_order(zone: Zone, order: int) -> int:
    """``mm/vmstat.c:extfrag_for_order() (5.10)``: how many percent of the free pages are in blocks that are too
    small."""
    info = contig_page_info()
    fill_contig_page_info(zone, order, info)
    if info.free_pages == 0:
        return 0
    return (info.free_pages - (info.free_blocks_suitable << order)) * 100 // info.free_pages


@core(cold=True)
def fragmentation_score_zone(m: Machine, zone: Zone) -> int:
    """``mm/compaction.c:fragmentation_score_zone() (5.10)``: that of huge pages, weighed by the zone's share."""
    score = zone.present_pages * extfrag_for_order(zone, COMPACTION_HPAGE_ORDER)
    return score // (m.nodes[zone.node].node_present_pages + 1)


@core(cold=True)
def fragmentation_score_node(m: Machine, node: Node) -> int:
    """``mm/compaction.c:fragmentation_score_node() (5.10)``"""
    score = 0
    for zid in range(MAX_NR_ZONES):
        score += fragmentation_score_zone(m, node.node_zones[zid])
    return score


@core(cold=True)
def fragmentation_score_wmark(m: Machine, low: int) -> int:
    """``mm/compaction.c:fragmentation_score_wmark() (5.10)``: proactive compaction ends here (low) or begins."""
    wmark_low = max(100 - vm_at(m, m.vm).compaction_proactiveness, WMARK_LOW_LEAST)
    return wmark_low if low != 0 else min(wmark_low + 10, 100)


@core(cold=True)
def kswapd_state(m: Machine, cpu: Cpu, node: Node, k: Kswapd) -> bool:
    """``pgdat->kswapd && pgdat->kswapd->state == TASK_RUNNING``: two reads of a pointer that ``kswapd_stop()`` may have
    cleared in between, and then the kernel dies here."""
    point(cpu.party, S_KSWAPD)
    if load_acquire(k, "task") == 0:
        return False
    point(cpu.party, S_KSWAPD_STATE)
    if load_acquire(k, "task") == 0:
        fetch_add(k, "null_derefs", 1)
    return not waitqueue_active(node.kswapd_wait)


@core(cold=True)
def kswapd_is_running(m: Machine, cpu: Cpu, node: Node) -> bool:
    """``mm/compaction.c:kswapd_is_running() (5.10)``: it isn't asleep on its queue. R20's remedy: ``kswapd_lock``, so
    that kswapd isn't stopped meanwhile.

    Differs from 5.10: a kswapd that sleeps elsewhere (``congestion_wait()``) is said to run.
    """
    k = vm_at(m, m.vm).kswapds[node.node_id]
    if not deviates(m, R20):
        return kswapd_state(m, cpu, node, k)
    pgdat_kswapd_lock(m, cpu, k, S_LOCK)
    running = kswapd_state(m, cpu, node, k)
    pgdat_kswapd_unlock(cpu, k)
    return running


@core(cold=True)
def should_proactive_compact_node(m: Machine, cpu: Cpu, node: Node) -> bool:
    """``mm/compaction.c:should_proactive_compact_node() (5.10)``"""
    if vm_at(m, m.vm).compaction_proactiveness == 0 or kswapd_is_running(m, cpu, node):
        return False
    return fragmentation_score_node(m, node) > fragmentation_score_wmark(m, 0)
