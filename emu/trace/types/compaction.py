"""``include/trace/events/compaction.h`` and ``migrate.h`` (5.10)."""

from emu.trace.event_type import (
    Arg,
    Column,
    EventType,
    Rows,
    bits,
    boolean,
    col,
    event,
    gfp,
    integer,
    nid_of,
    rec,
    show_gfp,
    symbol,
    ulong,
    unsigned,
    zid_of,
    zone,
    zone_type,
)  # fmt: skip
from emu.trace.facts import Facts
from emu.zone.event import (
    EV_COMPACTION_BEGIN,
    EV_COMPACTION_DEFERRED,
    EV_COMPACTION_END,
    EV_COMPACTION_FINISHED,
    EV_COMPACTION_SUITABLE,
    EV_DEFER_COMPACTION,
    EV_DEFER_RESET,
    EV_ISOLATE_FREEPAGES,
    EV_ISOLATE_MIGRATEPAGES,
    EV_KCOMPACTD_SLEEP,
    EV_KCOMPACTD_WAKE,
    EV_MIGRATE_PAGES,
    EV_MIGRATEPAGES,
    EV_TRY_TO_COMPACT_PAGES,
    EV_WAKEUP_KCOMPACTD,
)  # fmt: skip

__all__ = ["COMPACTION", "COMPACT_RESULTS"]

COMPACT_RESULTS = (  # enum compact_result
    "not_suitable_zone", "skipped", "deferred", "no_suitable_page", "continue", "complete", "partial_skipped",
    "contended", "success",
)  # fmt: skip
STATUS = dict(enumerate(COMPACT_RESULTS))
MODES = dict(enumerate(("MIGRATE_ASYNC", "MIGRATE_SYNC_LIGHT", "MIGRATE_SYNC")))
REASONS = dict(enumerate((
    "compaction", "memory_failure", "memory_hotplug", "syscall_or_cpuset", "mempolicy_mbind", "numa_misplaced",
    "contig_range",
)))  # fmt: skip

ORDER = integer("order", col("order"))
IN_B = bits("b", 0, 8)
PASS = bits("b", 8, 8)


def zone_start(rows: Rows, facts: Facts) -> Column:
    """``zone->zone_start_pfn`` of the zone that is compacted."""
    return facts.zone_starts(PASS(rows, facts))


def zone_end(rows: Rows, facts: Facts) -> Column:
    """``zone_end_pfn()`` of it."""
    return facts.zone_ends(PASS(rows, facts))


def isolate(kind: int, name: str) -> EventType:
    """Pages taken from where they were."""
    return event(
        kind, "compaction", name,
        (
            ulong("start_pfn", col("pfn")), ulong("end_pfn", col("a")), ulong("nr_scanned", bits("b", 0, 32)),
            ulong("nr_taken", bits("b", 32, 32)),
        ),
        "range=(0x%lx ~ 0x%lx) nr_scanned=%lu nr_taken=%lu",
    )  # fmt: skip


def scanners(kind: int, name: str, ended: bool) -> EventType:
    """The beginning of a zone's compaction, and its end."""
    fields = (
        ulong("zone_start", zone_start), ulong("migrate_pfn", col("pfn")), ulong("free_pfn", col("a")),
        ulong("zone_end", zone_end), boolean("sync", bits("b", 0, 8)),
    )  # fmt: skip
    form = "zone_start=0x%lx migrate_pfn=0x%lx free_pfn=0x%lx zone_end=0x%lx, mode=%s"
    mode = rec("sync", '{} ? "sync" : "async"', lambda sync: "sync" if sync else "async")
    shown: tuple[Arg | str, ...] = ("zone_start", "migrate_pfn", "free_pfn", "zone_end", mode)
    if ended:
        last = integer("status", bits("b", 16, 8))
        return event(
            kind, "compaction", name, (*fields, last), f"{form} status=%s", *shown, symbol("status", STATUS)
        )  # fmt: skip
    return event(kind, "compaction", name, fields, form, *shown)


def suitable(kind: int, name: str) -> EventType:
    """What compaction thinks of a zone."""
    return event(
        kind, "compaction", name,
        (integer("nid", nid_of(IN_B)), zone_type("idx", zid_of(IN_B)), ORDER, integer("ret", col("a"))),
        "node=%d zone=%-8s order=%d ret=%s", "nid", zone("idx"), "order", symbol("ret", STATUS),
    )  # fmt: skip


def defer(kind: int, name: str) -> EventType:
    """How long a zone is left alone."""
    return event(
        kind, "compaction", name,
        (
            integer("nid", nid_of(IN_B)), zone_type("idx", zid_of(IN_B)), ORDER,
            unsigned("considered", bits("a", 0, 32)), unsigned("defer_shift", bits("a", 32, 32)),
            integer("order_failed", bits("b", 16)),
        ),
        "node=%d zone=%-8s order=%d order_failed=%d consider=%u limit=%lu",
        "nid", zone("idx"), "order", "order_failed", "considered",
        rec("defer_shift", "1UL << {}", lambda shift: 1 << shift),
    )  # fmt: skip


def kcompactd(kind: int, name: str) -> EventType:
    """Woken, and awake."""
    return event(
        kind, "compaction", name,
        (integer("nid", col("a")), ORDER, zone_type("highest_zoneidx", col("b"))),
        "nid=%d order=%d classzone_idx=%-8s", "nid", "order", zone("highest_zoneidx"),
    )  # fmt: skip


def migrate_pages() -> EventType:
    """``mm_migrate_pages``: no huge page is ever migrated here."""
    none = bits("a", 0, 0)
    return event(
        EV_MIGRATE_PAGES, "migrate", "mm_migrate_pages",
        (
            ulong("succeeded", bits("a", 0, 32)), ulong("failed", bits("a", 32, 32)), ulong("thp_succeeded", none),
            ulong("thp_failed", none), ulong("thp_split", none),
            unsigned("mode", bits("b", 0, 8), "enum migrate_mode"), integer("reason", bits("b", 8, 8)),
        ),
        "nr_succeeded=%lu nr_failed=%lu nr_thp_succeeded=%lu nr_thp_failed=%lu nr_thp_split=%lu mode=%s reason=%s",
        "succeeded", "failed", "thp_succeeded", "thp_failed", "thp_split", symbol("mode", MODES),
        symbol("reason", REASONS),
    )  # fmt: skip


COMPACTION = {
    EV_COMPACTION_BEGIN: scanners(EV_COMPACTION_BEGIN, "mm_compaction_begin", False),
    EV_COMPACTION_END: scanners(EV_COMPACTION_END, "mm_compaction_end", True),
    EV_COMPACTION_FINISHED: suitable(EV_COMPACTION_FINISHED, "mm_compaction_finished"),
    EV_COMPACTION_SUITABLE: suitable(EV_COMPACTION_SUITABLE, "mm_compaction_suitable"),
    EV_COMPACTION_DEFERRED: defer(EV_COMPACTION_DEFERRED, "mm_compaction_deferred"),
    EV_DEFER_COMPACTION: defer(EV_DEFER_COMPACTION, "mm_compaction_defer_compaction"),
    EV_DEFER_RESET: defer(EV_DEFER_RESET, "mm_compaction_defer_reset"),
    EV_ISOLATE_MIGRATEPAGES: isolate(EV_ISOLATE_MIGRATEPAGES, "mm_compaction_isolate_migratepages"),
    EV_ISOLATE_FREEPAGES: isolate(EV_ISOLATE_FREEPAGES, "mm_compaction_isolate_freepages"),
    EV_MIGRATEPAGES: event(
        EV_MIGRATEPAGES, "compaction", "mm_compaction_migratepages",
        (ulong("nr_migrated", col("a")), ulong("nr_failed", col("b"))), "nr_migrated=%lu nr_failed=%lu",
    ),
    EV_TRY_TO_COMPACT_PAGES: event(
        EV_TRY_TO_COMPACT_PAGES, "compaction", "mm_compaction_try_to_compact_pages",
        (ORDER, gfp("gfp_mask"), integer("prio", col("a"))), "order=%d gfp_mask=%s priority=%d",
        "order", show_gfp("gfp_mask"), "prio",
    ),
    EV_KCOMPACTD_SLEEP: event(
        EV_KCOMPACTD_SLEEP, "compaction", "mm_compaction_kcompactd_sleep", (integer("nid", col("a")),), "nid=%d"
    ),
    EV_KCOMPACTD_WAKE: kcompactd(EV_KCOMPACTD_WAKE, "mm_compaction_kcompactd_wake"),
    EV_WAKEUP_KCOMPACTD: kcompactd(EV_WAKEUP_KCOMPACTD, "mm_compaction_wakeup_kcompactd"),
    EV_MIGRATE_PAGES: migrate_pages(),
}  # fmt: skip
