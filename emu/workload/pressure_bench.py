"""What ``emu bench`` times of memory management under pressure: each a call on a CPU's own process.

Pages that are only allocated to fill the machine are remembered by nobody: it is thrown away after the measurement.
"""

from emu.compact.kcompactd import compact_node
from emu.cpu.page_alloc import alloc_pages, prepare_alloc_pages
from emu.cpu.seams import __perform_reclaim
from emu.cpu.workqueue import poll
from emu.mm.filemap import generic_file_read
from emu.mm.memory import VM_FAULT_OOM, touch
from emu.mm.mmap import mm_create, mmap
from emu.mm.pagevec import lru_add_drain_all
from emu.mm.zap import zap_page_range
from emu.workload.process import leave, switch_to
from emu.workload.run import breathe
from emu.zone.alloc_context import AllocContext
from emu.zone.gfp import __GFP_NOWARN, __GFP_RECLAIM, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, gfp_zone
from emu.zone.kswapd_wake import pgdat_balanced, wakeup_kswapd
from emu.zone.mm_types import VM_WRITE
from emu.zone.mmzone import MAX_NR_ZONES, Cpu, Machine
from emu.zone.page import NULL
from shm.atomic import clock_ns, load_acquire
from shm.core import OnStack, as_entries, core, entry

__all__ = ["PRESSURE_ENTRIES", "anon_pages", "compact", "fill", "kswapd_pass", "read_file", "reclaim", "slow_allocs"]

GFP_FILL = (GFP_KERNEL | __GFP_NOWARN) & ~__GFP_RECLAIM  # nobody is woken for it
KSWAPD_NS = 10_000_000_000  # how long kswapd is waited for at most

reclaim_context = OnStack(AllocContext)


@entry
def fill(m: Machine, cpu: Cpu) -> int:
    """Allocate single pages down to the minimum watermark of every zone: how many there were."""
    pages = 0
    while alloc_pages(m, cpu, GFP_FILL, 0) != NULL:
        pages += 1
        if pages & 63 == 0 and not breathe(m, cpu):
            break
    return pages


@entry
def slow_allocs(m: Machine, cpu: Cpu, gfp: int, count: int) -> int:
    """So many allocations in a full machine: ns, -1 if one of them got a page."""
    began = clock_ns()
    got = 0
    for _ in range(count):
        if alloc_pages(m, cpu, gfp, 0) != NULL:
            got += 1
        if not breathe(m, cpu):
            break
    return -1 if got != 0 else clock_ns() - began


@entry
def read_file(m: Machine, cpu: Cpu, file: int, pages: int) -> int:
    """Read a file from its begin: pages read."""
    for index in range(pages):
        if generic_file_read(m, cpu, file, index, GFP_HIGHUSER_MOVABLE) < 0 or not breathe(m, cpu):
            return index
    return pages


@entry
def anon_pages(m: Machine, cpu: Cpu, k: int, pages: int, stride: int) -> int:
    """User task ``k`` writes to so many pages, and gives up all but one in ``stride``: how many it then has."""
    mm = mm_create(m, cpu, k, 0)
    if mm == 0 or mmap(m, mm, 0, pages, 0, VM_WRITE, 0) < 0:
        return 0
    switch_to(m, cpu, k)
    touched = 0
    while touched < pages and touch(m, cpu, mm, touched, 1) & VM_FAULT_OOM == 0 and breathe(m, cpu):
        touched += 1
    leave(m, cpu)
    for slot in range(touched):
        if slot % stride != 0:
            zap_page_range(m, cpu, mm, slot, 1)
    lru_add_drain_all(m, cpu)
    return (touched + stride - 1) // stride


@core
def reclaim_round(m: Machine, cpu: Cpu) -> int:
    """What an allocation's direct reclaim does: pages reclaimed."""
    ac = reclaim_context()
    prepare_alloc_pages(m, cpu, GFP_HIGHUSER_MOVABLE, 0, cpu.node, 0, ac)
    return __perform_reclaim(m, cpu, GFP_HIGHUSER_MOVABLE, 0, ac)


@entry
def reclaim(m: Machine, cpu: Cpu, pages: int) -> int:
    """Direct reclaim until so many pages are free: ns. The pages are in ``command_args[0]``: fewer if there are no
    more to reclaim."""
    began = clock_ns()
    done = 0
    while done < pages:
        progress = reclaim_round(m, cpu)
        if progress == 0 or not breathe(m, cpu):
            break
        done += progress
    cpu.command_args[0] = done
    return clock_ns() - began


@entry
def compact(m: Machine, cpu: Cpu, nid: int) -> int:
    """``echo 1 > /sys/devices/system/node/nodeN/compact``: ns."""
    began = clock_ns()
    compact_node(m, cpu, m.nodes[nid])
    return clock_ns() - began


@entry
def kswapd_pass(m: Machine, cpu: Cpu, nid: int) -> int:
    """Wake a node's kswapd and look on until the node is balanced, that is at a high watermark: ns, 0 if it isn't
    soon. ``command_args[0]`` gets the ns until kswapd had taken the request."""
    node = m.nodes[nid]
    last = gfp_zone(GFP_KERNEL)
    while last > 0 and node.node_zones[last].managed_pages == 0:
        last -= 1
    began = clock_ns()
    wakeup_kswapd(m, cpu, node.node_zones[last], GFP_KERNEL, 0, last)
    while load_acquire(node, "kswapd_highest_zoneidx") != MAX_NR_ZONES and clock_ns() - began < KSWAPD_NS:
        poll(m, cpu)
    cpu.command_args[0] = clock_ns() - began
    while not pgdat_balanced(m, node, 0, last):
        if clock_ns() - began > KSWAPD_NS or not breathe(m, cpu):
            return 0
    return clock_ns() - began


PRESSURE_ENTRIES = as_entries(
    fill, slow_allocs, read_file, anon_pages, reclaim, compact, kswapd_pass
)  # fmt: skip
