"""``include/trace/events/kmem.h`` (5.10)."""

from emu.trace.event_type import (
    VMEMMAP_START,
    Arg,
    EventType,
    bits,
    col,
    event,
    gfp,
    integer,
    page,
    rec,
    show_gfp,
    ulong,
    unsigned,
)  # fmt: skip
from emu.zone.event import EV_ALLOC, EV_EXTFRAG, EV_FREE, EV_FREE_BATCHED, EV_PCPU_DRAIN, EV_ZONE_LOCKED
from emu.zone.mmzone import PAGEBLOCK_ORDER

__all__ = ["KMEM"]

NO_PFN = 0xFFFFFFFFFFFFFFFF

PFN = ulong("pfn", col("pfn"))
ORDER = unsigned("order", col("order"))
MIGRATETYPE = integer("migratetype", col("migratetype"))
BLOCK = (PFN, ORDER, MIGRATETYPE)


def page_or_null() -> tuple[Arg, Arg]:
    """The struct page and the pfn; both print as 0 where an allocation failed."""
    return (
        rec(
            "pfn", f"{{}} != -1UL ? {page().c} : ((void *)0)",
            lambda pfn: 0 if pfn == NO_PFN else VMEMMAP_START + (pfn << 6),
        ),
        rec("pfn", "{} != -1UL ? {} : 0", lambda pfn: 0 if pfn == NO_PFN else pfn),
    )  # fmt: skip


def fallback() -> EventType:
    """``mm_page_alloc_extfrag``"""
    return event(
        EV_EXTFRAG, "kmem", "mm_page_alloc_extfrag",
        (
            PFN, integer("alloc_order", col("order")), integer("fallback_order", bits("a", 0, 8)),
            integer("alloc_migratetype", col("migratetype")), integer("fallback_migratetype", col("b")),
            integer("change_ownership", bits("a", 8, 8)),
        ),
        "page=%p pfn=%lu alloc_order=%d fallback_order=%d pageblock_order=%d alloc_migratetype=%d "
        "fallback_migratetype=%d fragmenting=%d change_ownership=%d",
        page(), "pfn", "alloc_order", "fallback_order",
        rec("pfn", f"{PAGEBLOCK_ORDER}", lambda _: PAGEBLOCK_ORDER), "alloc_migratetype", "fallback_migratetype",
        rec("fallback_order", f"{{}} < {PAGEBLOCK_ORDER}", lambda order: order < PAGEBLOCK_ORDER), "change_ownership",
    )  # fmt: skip


KMEM = {
    EV_ALLOC: event(
        EV_ALLOC, "kmem", "mm_page_alloc", (PFN, ORDER, gfp(), MIGRATETYPE),
        "page=%p pfn=%lu order=%d migratetype=%d gfp_flags=%s", *page_or_null(), "order", "migratetype", show_gfp(),
    ),
    EV_FREE: event(EV_FREE, "kmem", "mm_page_free", (PFN, ORDER), "page=%p pfn=%lu order=%d", page(), "pfn", "order"),
    EV_FREE_BATCHED: event(
        EV_FREE_BATCHED, "kmem", "mm_page_free_batched", (PFN,), "page=%p pfn=%lu order=0", page(), "pfn"
    ),
    EV_ZONE_LOCKED: event(
        EV_ZONE_LOCKED, "kmem", "mm_page_alloc_zone_locked", BLOCK,
        "page=%p pfn=%lu order=%u migratetype=%d percpu_refill=%d", *page_or_null(), "order", "migratetype",
        rec("order", "{} == 0", lambda order: order == 0),
    ),
    EV_PCPU_DRAIN: event(
        EV_PCPU_DRAIN, "kmem", "mm_page_pcpu_drain", BLOCK, "page=%p pfn=%lu order=%d migratetype=%d",
        page(), "pfn", "order", "migratetype",
    ),
    EV_EXTFRAG: fallback(),
}  # fmt: skip
