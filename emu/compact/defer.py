"""Not compacting for a while after it was in vain (``mm/compaction.c`` (5.10))."""

from emu.zone.event import EV_COMPACTION_DEFERRED, EV_DEFER_COMPACTION, EV_DEFER_RESET, record
from emu.zone.mmzone import Cpu, Machine, Zone
from shm.core import core
from shm.point import point, site

COMPACT_MAX_DEFER_SHIFT = 6
S_CONSIDERED = site("compaction_deferred:write considered")
S_DEFER = site("defer_compaction:write")
S_RESET = site("compaction_defer_reset:write")


@core(cold=True)
def trace_defer(m: Machine, cpu: Cpu, kind: int, zone: Zone, order: int) -> None:
    """The deferral of a zone as it is now."""
    if cpu.trace != 0:
        c = zone.compact
        record(m, cpu, kind, -1, order, 0, 0, c.considered | c.defer_shift << 32, zone.zone_id | c.order_failed << 16)


@core(cold=True)
def defer_compaction(m: Machine, cpu: Cpu, zone: Zone, order: int) -> None:
    """``mm/compaction.c:defer_compaction() (5.10)``: skip the next 1 << defer_shift requests, at most 64."""
    point(cpu.party, S_DEFER)
    compact = zone.compact
    compact.considered = 0
    compact.defer_shift = min(compact.defer_shift + 1, COMPACT_MAX_DEFER_SHIFT)
    if order < compact.order_failed:
        compact.order_failed = order
    trace_defer(m, cpu, EV_DEFER_COMPACTION, zone, order)


@core(cold=True)
def compaction_deferred(m: Machine, cpu: Cpu, zone: Zone, order: int) -> bool:
    """``mm/compaction.c:compaction_deferred() (5.10)``: true if this request is one of those to skip; counts it."""
    compact = zone.compact
    if order < compact.order_failed:
        return False
    point(cpu.party, S_CONSIDERED)
    limit = 1 << compact.defer_shift
    compact.considered += 1
    if compact.considered >= limit:
        compact.considered = limit
        return False
    trace_defer(m, cpu, EV_COMPACTION_DEFERRED, zone, order)
    return True


@core(cold=True)
def compaction_defer_reset(m: Machine, cpu: Cpu, zone: Zone, order: int, alloc_success: int) -> None:
    """``mm/compaction.c:compaction_defer_reset() (5.10)``: an allocation of this order succeeded, or should."""
    point(cpu.party, S_RESET)
    compact = zone.compact
    if alloc_success != 0:
        compact.considered = 0
        compact.defer_shift = 0
    if order >= compact.order_failed:
        compact.order_failed = order + 1
    trace_defer(m, cpu, EV_DEFER_RESET, zone, order)


@core(cold=True)
def compaction_restarting(zone: Zone, order: int) -> bool:
    """``mm/compaction.c:compaction_restarting() (5.10)``: the first attempt after the longest pause."""
    compact = zone.compact
    if order < compact.order_failed:
        return False
    return compact.defer_shift == COMPACT_MAX_DEFER_SHIFT and compact.considered >= 1 << COMPACT_MAX_DEFER_SHIFT
