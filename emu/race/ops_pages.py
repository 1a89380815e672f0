"""Operations on pages and zones.

A slot that :func:`op_alloc` filled owns its block: its order + 1 is in ``ghost[GHOST_ORDER + slot]``, so that the
invariants know who has which page. A slot may also hold a mere pointer to a page, which owns nothing, or a yes or no.
"""

from emu.compact.direct import COMPACT_PRIO_ASYNC, compact_zone_order, take_captured
from emu.cpu.free import __free_pages
from emu.cpu.page_alloc import __alloc_pages_nodemask
from emu.cpu.workqueue import drain_all_pages
from emu.mm.offline_pages import offline_pages
from emu.mm.page_isolation import start_isolate_page_range, undo_isolate_page_range
from emu.mm.pagevec import put_page
from emu.race.area import OpRecord, RaceArea
from emu.race.scenario import OpKind
from emu.zone.gfp import ALLOC_WMARK_MIN, GFP_KERNEL
from emu.zone.highatomic import reserve_highatomic_pageblock, unreserve_highatomic_pageblock
from emu.zone.lru import mod_zone_page_state
from emu.zone.alloc_context import AllocContext
from emu.zone.mmzone import MIGRATE_MOVABLE, PAGEBLOCK_NR_PAGES, Cpu, Machine, Zone, page_record, pageset_at, zone_at
from emu.zone.page import NULL, page_zone, pfn_to_page
from emu.zone.page_ref import get_page_unless_zero
from emu.zone.sysctl import PERCPU_PAGELIST_FRACTION, sysctl_write
from emu.zone.vmstat import this_cpu_pageset
from emu.zone.vmstat_items import ZONE_STAT_NAMES
from emu.zone.zonelist import next_zones_zonelist, node_zonelist
from shm.atomic import address
from shm.core import OnStack, core
from shm.point import point, site

(OP_NOTHING, OP_IRET, OP_ALLOC, OP_FREE, OP_TRY_GET, OP_PUT, OP_FRACTION, OP_RESERVE, OP_UNRESERVE, OP_ISOLATE,
 OP_UNDO_ISOLATE, OP_OFFLINE, OP_DRAIN, OP_COMPACT, OP_COUNT) = range(15)  # fmt: skip

GHOST_ORDER = 32  # + slot: order + 1 of the block that the slot owns, of the first OWNERS slots
OWNERS = 32
GHOST_MOST = 31  # most pages that one allocation took from the free lists
GHOST_COUNTED = 30  # what count() added, in all
NR_MLOCK = ZONE_STAT_NAMES.index("nr_mlock")
S_TRY_GET = site("get_page_unless_zero:read refcount")

nothing = OpKind("nothing", OP_NOTHING, ())
iret = OpKind("iret", OP_IRET, (), "ends an interrupt")
alloc = OpKind(
    "alloc", OP_ALLOC, (("slot", 0), ("order", 0), ("gfp", GFP_KERNEL), ("node", -1), ("nodemask", 0)),
    "__alloc_pages_nodemask() into a slot",
)  # fmt: skip
free = OpKind("free", OP_FREE, (("slot", 0), ("order", 0)), "__free_pages() of what is in a slot, if anything")
try_get = OpKind(
    "try_get", OP_TRY_GET, (("pointer", 0), ("slot", 1)),
    "get_page_unless_zero() of the page that a slot points to; the other slot has it if that went well",
)  # fmt: skip
put = OpKind("put", OP_PUT, (("slot", 0),), "put_page() of what is in a slot, if anything")
pagelist_fraction = OpKind(
    "pagelist_fraction", OP_FRACTION, (("value", 8),), "write vm.percpu_pagelist_fraction: all pcp lists change size"
)  # fmt: skip
reserve = OpKind("reserve", OP_RESERVE, (("slot", 0),), "reserve_highatomic_pageblock() of the block of a slot's page")
unreserve = OpKind(
    "unreserve", OP_UNRESERVE, (("force", 1), ("node", -1)),
    "unreserve_highatomic_pageblock(), as reclaim does before it gives up",
)  # fmt: skip
isolate = OpKind(
    "isolate", OP_ISOLATE, (("block", 0), ("blocks", 1), ("slot", 0)),
    "start_isolate_page_range() of pageblocks; the slot says whether they are ours now",
)  # fmt: skip
undo_isolate = OpKind(
    "undo_isolate", OP_UNDO_ISOLATE, (("block", 0), ("blocks", 1), ("slot", 0)),
    "undo_isolate_page_range() of pageblocks, if they are ours",
)  # fmt: skip
offline = OpKind("offline", OP_OFFLINE, (("pfn", 0), ("pages", 1024)), "offline_pages()")
drain = OpKind("drain", OP_DRAIN, (("node", -1),), "drain_all_pages(), of the first zone of a node or of all")
compact = OpKind(
    "compact", OP_COMPACT, (("slot", 0), ("order", 1)),
    "compact_zone_order() for one's own allocation; a captured block goes into the slot",
)  # fmt: skip
count = OpKind("count", OP_COUNT, (("delta", 1),), "mod_zone_page_state(NR_MLOCK)")
PAGE_OPS = (
    nothing, iret, alloc, free, try_get, put, pagelist_fraction, reserve, unreserve, isolate, undo_isolate, offline,
    drain, compact, count,
)  # fmt: skip

alloc_context = OnStack(AllocContext)


@core(cold=True)
def own(a: RaceArea, slot: int, pfn: int, order: int) -> None:
    """The slot has this block, or none (NULL)."""
    a.slots[slot] = pfn + 1
    if slot < OWNERS:
        a.ghost[GHOST_ORDER + slot] = order + 1 if pfn != NULL else 0


@core(cold=True)
def zone_of_node(m: Machine, nid: int) -> int:
    """Offset of a node's first populated zone."""
    node = m.nodes[nid]
    zid = 0
    while node.node_zones[zid].present_pages == 0:
        zid += 1
    return address(node.node_zones[zid]) - address(m)


@core(cold=True)
def op_alloc(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """The pfn goes into the slot."""
    order = op.args[1]
    node = op.args[3] if op.args[3] >= 0 else cpu.node
    pset = pageset_at(m, this_cpu_pageset(m, cpu, zone_at(m, zone_of_node(m, node))))
    a.ghost[GHOST_MOST] = max(a.ghost[GHOST_MOST], pset.batch if order == 0 else 1 << order)
    pfn = __alloc_pages_nodemask(m, cpu, op.args[2], order, node, op.args[4])
    own(a, op.args[0], pfn, order)
    return pfn


@core(cold=True)
def op_free(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """Nothing to do if the slot is empty."""
    pfn = a.slots[op.args[0]] - 1
    own(a, op.args[0], NULL, 0)
    if pfn >= 0:
        __free_pages(m, cpu, pfn, op.args[1])
    return pfn


@core(cold=True)
def op_try_get(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """A lookup without a lock: the page may be on its way out, or somebody else's already."""
    pfn = a.slots[op.args[0]] - 1
    point(cpu.party, S_TRY_GET)
    got = pfn >= 0 and get_page_unless_zero(page_record(m, pfn_to_page(m, pfn)))
    a.slots[op.args[1]] = pfn + 1 if got else 0
    return 1 if got else 0


@core(cold=True)
def op_put(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """Nothing to do if the slot is empty."""
    pfn = a.slots[op.args[0]] - 1
    a.slots[op.args[0]] = 0
    if pfn >= 0:
        put_page(m, cpu, pfn)
    return pfn


@core(cold=True)
def op_reserve(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """What an allocation of order > 0 with ALLOC_HARDER does with the block it got."""
    pfn = a.slots[op.args[0]] - 1
    zone = zone_at(m, page_zone(m, page_record(m, pfn_to_page(m, pfn))))
    reserve_highatomic_pageblock(m, cpu, pfn, zone)
    return zone.nr_reserved_highatomic


@core(cold=True)
def op_unreserve(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """For a movable request."""
    ac = alloc_context()
    ac.highest_zoneidx = 3
    ac.zonelist = node_zonelist(m, cpu.node if op.args[1] < 0 else op.args[1], GFP_KERNEL)
    ac.migratetype = MIGRATE_MOVABLE
    ac.preferred = next_zones_zonelist(m, cpu, ac, 0)
    return 1 if unreserve_highatomic_pageblock(m, cpu, ac, op.args[0]) else 0


@core(cold=True)
def op_isolate(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """0, or why not."""
    start = op.args[0] * PAGEBLOCK_NR_PAGES
    ret = start_isolate_page_range(m, cpu, start, start + op.args[1] * PAGEBLOCK_NR_PAGES, MIGRATE_MOVABLE, 0)
    a.slots[op.args[2]] = 1 if ret == 0 else 0
    return ret


@core(cold=True)
def op_undo_isolate(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """1 if there was something to undo."""
    ours = a.slots[op.args[2]]
    a.slots[op.args[2]] = 0
    if ours != 0:
        start = op.args[0] * PAGEBLOCK_NR_PAGES
        undo_isolate_page_range(m, cpu, start, start + op.args[1] * PAGEBLOCK_NR_PAGES, MIGRATE_MOVABLE)
    return ours


@core(cold=True)
def op_compact(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """The pfn that was captured, or NULL."""
    order = op.args[1]
    zone: Zone = zone_at(m, zone_of_node(m, cpu.node))
    compact_zone_order(m, cpu, zone, order, GFP_KERNEL, COMPACT_PRIO_ASYNC, ALLOC_WMARK_MIN, zone.zid)
    pfn = take_captured(m, cpu, GFP_KERNEL, order, ALLOC_WMARK_MIN)
    own(a, op.args[0], pfn, order)
    return pfn


@core(cold=True)
def op_count(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """The ghost counts where no interrupt comes between."""
    a.ghost[GHOST_COUNTED] += op.args[0]
    mod_zone_page_state(m, cpu, zone_at(m, zone_of_node(m, cpu.node)), NR_MLOCK, op.args[0])
    return 0


@core(cold=True)
def run_isolation_op(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """Operations that take memory away from the allocator."""
    if op.code == OP_ISOLATE:
        return op_isolate(m, cpu, a, op)
    if op.code == OP_UNDO_ISOLATE:
        return op_undo_isolate(m, cpu, a, op)
    if op.code == OP_OFFLINE:
        return offline_pages(m, cpu, op.args[0], op.args[1])
    if op.code == OP_DRAIN:
        drain_all_pages(m, cpu, 0 if op.args[0] < 0 else zone_of_node(m, op.args[0]))
    return 0


@core(cold=True)
def run_pages_op(m: Machine, cpu: Cpu, a: RaceArea, op: OpRecord) -> int:
    """One operation of this family."""
    if op.code == OP_ALLOC:
        return op_alloc(m, cpu, a, op)
    if op.code == OP_FREE:
        return op_free(m, cpu, a, op)
    if op.code == OP_TRY_GET:
        return op_try_get(m, cpu, a, op)
    if op.code == OP_PUT:
        return op_put(m, cpu, a, op)
    if op.code == OP_FRACTION:
        return sysctl_write(m, cpu, PERCPU_PAGELIST_FRACTION, 0, op.args[0])
    if op.code == OP_RESERVE:
        return op_reserve(m, cpu, a, op)
    if op.code == OP_UNRESERVE:
        return op_unreserve(m, cpu, a, op)
    if op.code == OP_COMPACT:
        return op_compact(m, cpu, a, op)
    if op.code == OP_COUNT:
        return op_count(m, cpu, a, op)
    return run_isolation_op(m, cpu, a, op)
