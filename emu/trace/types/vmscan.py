"""``include/trace/events/vmscan.h`` (5.10)."""

from emu.trace.event_type import (
    Arg,
    EventType,
    Source,
    bits,
    col,
    event,
    flags,
    gfp,
    integer,
    page,
    rec,
    show_gfp,
    symbol,
    ulong,
    unsigned,
)  # fmt: skip
from emu.zone.event import (
    EV_DIRECT_RECLAIM_BEGIN,
    EV_DIRECT_RECLAIM_END,
    EV_KSWAPD_SLEEP,
    EV_KSWAPD_WAKE,
    EV_LRU_ISOLATE,
    EV_LRU_SHRINK_ACTIVE,
    EV_LRU_SHRINK_INACTIVE,
    EV_MEMCG_RECLAIM_BEGIN,
    EV_MEMCG_RECLAIM_END,
    EV_NODE_RECLAIM_BEGIN,
    EV_NODE_RECLAIM_END,
    EV_SHRINK_SLAB_END,
    EV_SHRINK_SLAB_START,
    EV_WAKEUP_KSWAPD,
    EV_WRITEPAGE,
)  # fmt: skip
from emu.zone.slab_types import SLAB_CACHE_NAMES

__all__ = ["SYMBOLS", "VMSCAN"]

RECLAIM_FLAGS = (
    ("RECLAIM_WB_ANON", 1), ("RECLAIM_WB_FILE", 2), ("RECLAIM_WB_MIXED", 0x10), ("RECLAIM_WB_SYNC", 4),
    ("RECLAIM_WB_ASYNC", 8),
)  # fmt: skip
ANON, ASYNC = 1, 8
LRU_NAMES = dict(enumerate(("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")))
SHRINKERS = 0xFFFF888000000000  # made up: a cache has a struct shrinker here, a page each...
SCAN_OBJECTS = 0xFFFFFFFF81200000  # ...and its function there
FUNCTION_SIZE = 0x1000
SYMBOLS = {SCAN_OBJECTS + i * FUNCTION_SIZE: f"{cache}_scan" for i, cache in enumerate(SLAB_CACHE_NAMES)}
"""What ``/proc/kallsyms`` would say of them."""

ORDER = integer("order", col("order"))
RECLAIMED = (ulong("nr_reclaimed", col("a")),)


def of_file(name: str, bit: int) -> Source:
    """``trace_reclaim_flags()`` of the bit that tells file pages from anonymous ones."""
    return lambda rows, _: (ANON << (rows[name] >> bit & 1)) | ASYNC


def show_reclaim_flags() -> Arg:
    """``show_reclaim_flags()``"""
    return flags("reclaim_flags", RECLAIM_FLAGS, "RECLAIM_WB_NONE")


def begin(kind: int, name: str) -> EventType:
    """Of direct reclaim and of a memory cgroup's."""
    form = "order=%d gfp_flags=%s"
    return event(kind, "vmscan", name, (ORDER, gfp()), form, "order", show_gfp())


def end(kind: int, name: str) -> EventType:
    """Of any reclaim."""
    return event(kind, "vmscan", name, RECLAIMED, "nr_reclaimed=%lu")


def isolate() -> EventType:
    """``mm_vmscan_lru_isolate``"""
    return event(
        EV_LRU_ISOLATE, "vmscan", "mm_vmscan_lru_isolate",
        (
            integer("highest_zoneidx", col("migratetype")), ORDER, ulong("nr_requested", bits("a", 0, 20)),
            ulong("nr_scanned", bits("a", 20, 20)), ulong("nr_skipped", bits("a", 40, 24)),
            ulong("nr_taken", bits("b", 0, 32)), unsigned("isolate_mode", col("gfp")), integer("lru", bits("b", 32, 8)),
        ),
        "isolate_mode=%d classzone=%d order=%d nr_requested=%lu nr_scanned=%lu nr_skipped=%lu nr_taken=%lu lru=%s",
        "isolate_mode", "highest_zoneidx", "order", "nr_requested", "nr_scanned", "nr_skipped", "nr_taken",
        symbol("lru", LRU_NAMES),
    )  # fmt: skip


def shrink_inactive() -> EventType:
    """``mm_vmscan_lru_shrink_inactive``"""
    return event(
        EV_LRU_SHRINK_INACTIVE, "vmscan", "mm_vmscan_lru_shrink_inactive",
        (
            integer("nid", bits("b", 0, 8)), ulong("nr_scanned", bits("a", 0, 32)),
            ulong("nr_reclaimed", bits("a", 32, 32)), ulong("nr_dirty", bits("b", 20, 6)),
            ulong("nr_writeback", bits("b", 26, 6)), ulong("nr_congested", bits("b", 32, 6)),
            ulong("nr_immediate", bits("b", 38, 6)), unsigned("nr_activate0", bits("b", 44, 6)),
            unsigned("nr_activate1", bits("b", 50, 6)), ulong("nr_ref_keep", bits("b", 56, 6)),
            ulong("nr_unmap_fail", col("migratetype")), integer("priority", bits("b", 8, 8)),
            integer("reclaim_flags", of_file("b", 16)),
        ),
        "nid=%d nr_scanned=%ld nr_reclaimed=%ld nr_dirty=%ld nr_writeback=%ld nr_congested=%ld nr_immediate=%ld "
        "nr_activate_anon=%d nr_activate_file=%d nr_ref_keep=%ld nr_unmap_fail=%ld priority=%d flags=%s",
        "nid", "nr_scanned", "nr_reclaimed", "nr_dirty", "nr_writeback", "nr_congested", "nr_immediate",
        "nr_activate0", "nr_activate1", "nr_ref_keep", "nr_unmap_fail", "priority", show_reclaim_flags(),
    )  # fmt: skip


def shrink_active() -> EventType:
    """``mm_vmscan_lru_shrink_active``"""
    return event(
        EV_LRU_SHRINK_ACTIVE, "vmscan", "mm_vmscan_lru_shrink_active",
        (
            integer("nid", bits("b", 0, 8)), ulong("nr_taken", bits("a", 0, 32)), ulong("nr_active", bits("b", 20, 6)),
            ulong("nr_deactivated", bits("a", 32, 32)), ulong("nr_referenced", bits("b", 26, 6)),
            integer("priority", bits("b", 8, 8)), integer("reclaim_flags", of_file("b", 16)),
        ),
        "nid=%d nr_taken=%ld nr_active=%ld nr_deactivated=%ld nr_referenced=%ld priority=%d flags=%s",
        "nid", "nr_taken", "nr_active", "nr_deactivated", "nr_referenced", "priority", show_reclaim_flags(),
    )  # fmt: skip


def shrinker(offset: int) -> Source:
    """An address for each cache."""
    return lambda rows, _: ((rows["b"] >> 48 & 0xFF) * FUNCTION_SIZE).astype("u8") + offset


def scan_objects() -> Arg:
    """``%pS`` of the shrinker's function."""
    words = {at: f"{function}+0x0/{FUNCTION_SIZE:#x}" for at, function in SYMBOLS.items()}
    return rec("shrink", "{}", lambda at: words.get(at, f"{at:#x}"))


def shrink_slab() -> dict[int, EventType]:
    """``mm_shrink_slab_start``, ``mm_shrink_slab_end``"""
    shr = unsigned("shr", shrinker(SHRINKERS), "struct shrinker *", 8)
    shrink = unsigned("shrink", shrinker(SCAN_OBJECTS), "void *", 8)
    nid = integer("nid", col("migratetype"))
    start = event(
        EV_SHRINK_SLAB_START, "vmscan", "mm_shrink_slab_start",
        (
            shr, shrink, nid, integer("nr_objects_to_shrink", col("pfn"), "long", 8), gfp(),
            ulong("cache_items", bits("a", 0, 32)), unsigned("delta", bits("a", 32, 32), "unsigned long long", 8),
            ulong("total_scan", bits("b", 0, 48)), integer("priority", col("order")),
        ),
        "%pS %p: nid: %d objects to shrink %ld gfp_flags %s cache items %ld delta %lld total_scan %ld priority %d",
        scan_objects(), "shr", "nid", "nr_objects_to_shrink", show_gfp(), "cache_items", "delta", "total_scan",
        "priority",
    )  # fmt: skip
    end_ = event(
        EV_SHRINK_SLAB_END, "vmscan", "mm_shrink_slab_end",
        (
            shr, nid, shrink, integer("unused_scan", col("pfn"), "long", 8),
            integer("new_scan", bits("b", 0, 48), "long", 8), integer("retval", bits("a", 0, 32)),
            integer("total_scan", bits("a", 32, 32), "long", 8),
        ),
        "%pS %p: nid: %d unused scan count %ld new scan count %ld total_scan %ld last shrinker return val %d",
        scan_objects(), "shr", "nid", "unused_scan", "new_scan", "total_scan", "retval",
    )  # fmt: skip
    return {EV_SHRINK_SLAB_START: start, EV_SHRINK_SLAB_END: end_}


VMSCAN = {
    EV_KSWAPD_SLEEP: event(
        EV_KSWAPD_SLEEP, "vmscan", "mm_vmscan_kswapd_sleep", (integer("nid", col("a")),), "nid=%d"
    ),
    EV_KSWAPD_WAKE: event(
        EV_KSWAPD_WAKE, "vmscan", "mm_vmscan_kswapd_wake",
        (integer("nid", col("a")), integer("zid", col("b")), ORDER), "nid=%d order=%d", "nid", "order",
    ),
    EV_WAKEUP_KSWAPD: event(
        EV_WAKEUP_KSWAPD, "vmscan", "mm_vmscan_wakeup_kswapd",
        (integer("nid", col("a")), integer("zid", col("b")), ORDER, gfp()), "nid=%d order=%d gfp_flags=%s",
        "nid", "order", show_gfp(),
    ),
    EV_DIRECT_RECLAIM_BEGIN: begin(EV_DIRECT_RECLAIM_BEGIN, "mm_vmscan_direct_reclaim_begin"),
    EV_DIRECT_RECLAIM_END: end(EV_DIRECT_RECLAIM_END, "mm_vmscan_direct_reclaim_end"),
    EV_MEMCG_RECLAIM_BEGIN: begin(EV_MEMCG_RECLAIM_BEGIN, "mm_vmscan_memcg_reclaim_begin"),
    EV_MEMCG_RECLAIM_END: end(EV_MEMCG_RECLAIM_END, "mm_vmscan_memcg_reclaim_end"),
    **shrink_slab(),
    EV_LRU_ISOLATE: isolate(),
    EV_WRITEPAGE: event(
        EV_WRITEPAGE, "vmscan", "mm_vmscan_writepage",
        (ulong("pfn", col("pfn")), integer("reclaim_flags", col("a"))),
        "page=%p pfn=%lu flags=%s", page(), "pfn", show_reclaim_flags(),
    ),
    EV_LRU_SHRINK_INACTIVE: shrink_inactive(),
    EV_LRU_SHRINK_ACTIVE: shrink_active(),
    EV_NODE_RECLAIM_BEGIN: event(
        EV_NODE_RECLAIM_BEGIN, "vmscan", "mm_vmscan_node_reclaim_begin", (integer("nid", col("a")), ORDER, gfp()),
        "nid=%d order=%d gfp_flags=%s", "nid", "order", show_gfp(),
    ),
    EV_NODE_RECLAIM_END: end(EV_NODE_RECLAIM_END, "mm_vmscan_node_reclaim_end"),
}  # fmt: skip
