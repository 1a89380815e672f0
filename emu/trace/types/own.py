"""What the kernel has no trace point for: the steps of the slow path, blocks as they are listed, reports.

System ``emu``. Reports are the lines that the kernel logs (``emu.zone.report`` has their texts).
"""

import numpy as np

from emu.cpu.slowpath import STEP_NOPAGE, STEP_RESTART, STEP_RETRY, STEP_START
from emu.trace.event_type import (
    Column,
    EventType,
    Rows,
    bits,
    col,
    event,
    gfp,
    integer,
    nid_of,
    page,
    plain,
    show_gfp,
    string,
    symbol,
    task_comm,
    task_pid,
    ulong,
    unsigned,
    zid_of,
    zone,
)  # fmt: skip
from emu.trace.facts import Facts
from emu.trace.types.oom import VICTIM, kib, score_adj
from emu.zone.bad_page import BAD_REASONS
from emu.zone.event import (
    EV_ALLOC_FAILURE,
    EV_BAD_PAGE,
    EV_BALANCE_PGDAT,
    EV_BOOST,
    EV_BUDDY_FREE,
    EV_HOTPLUG,
    EV_ISOLATE_FREE,
    EV_OOM_KILL,
    EV_OOM_KILLED,
    EV_OOM_MESSAGE,
    EV_OOM_PANIC,
    EV_OOM_REAPED,
    EV_OOM_SUMMARY,
    EV_OOM_TASK,
    EV_POISON,
    EV_SET_ISOLATE,
    EV_SLOWPATH,
    EV_WARN,
    WARNINGS,
)  # fmt: skip
from emu.zone.mmzone import ZONE_NAMES
from emu.zone.report_hotplug import REASONS as HOTPLUG_REASONS
from emu.zone.report_oom import CONSTRAINTS, PANICS
from emu.zone.sched import RESTART_REASONS, RETRY_REASONS

__all__ = ["OWN", "REASONS", "STEPS"]

STEPS = {STEP_START: "start", STEP_RETRY: "retry", STEP_NOPAGE: "nopage", STEP_RESTART: "restart"}
REASONS = dict(enumerate(("none", *RETRY_REASONS, *(name.replace(" ", "_") for name in RESTART_REASONS))))
MESSAGES = dict(enumerate(("no_killable_processes", "victim_is_exiting", "mm_is_pinned", "unable_to_reap")))
ONLINE = 62  # the bit

PFN = ulong("pfn", col("pfn"))
ORDER = integer("order", col("order"))
MIGRATETYPE = integer("migratetype", col("migratetype"))


def reason(rows: Rows, _: Facts) -> Column:
    """Why the slow path comes through ``retry`` or ``restart``: a key of REASONS."""
    step = rows["migratetype"]
    restart = rows["b"] + 1 + len(RETRY_REASONS)
    return np.where(step == STEP_RETRY, rows["b"] >> 32, np.where(step == STEP_RESTART, restart, 0))


def loops(rows: Rows, _: Facts) -> Column:
    """``no_progress_loops``"""
    return np.where(rows["migratetype"] == STEP_RETRY, rows["b"] & 0xFFFFFFFF, 0)


def slowpath() -> EventType:
    """A step of ``__alloc_pages_slowpath()``."""
    return event(
        EV_SLOWPATH, "emu", "slowpath",
        (
            integer("step", col("migratetype")), ORDER, gfp(), unsigned("alloc_flags", col("a")),
            integer("no_progress_loops", loops), integer("reason", reason),
        ),
        "step=%s order=%d gfp_flags=%s alloc_flags=0x%x no_progress_loops=%d reason=%s",
        symbol("step", STEPS), "order", show_gfp(), "alloc_flags", "no_progress_loops", symbol("reason", REASONS),
    )  # fmt: skip


def memory_of(kind: int, name: str) -> EventType:
    """A report of a task's memory."""
    return event(
        kind, "emu", name,
        (
            integer("why", col("order")), integer("pid", task_pid(VICTIM)), string("comm", task_comm(VICTIM)),
            ulong("total_vm", kib("pfn", 0)), ulong("anon_rss", kib("a", 0)), ulong("file_rss", kib("a", 32)),
            ulong("shmem_rss", kib("b", 0)), ulong("swap", kib("b", 32)), ulong("pgtables", kib("pfn", 32)),
            integer("oom_score_adj", score_adj, "short", 2),
        ),
        "why=%d pid=%d comm=%s total-vm=%lukB anon-rss=%lukB file-rss=%lukB shmem-rss=%lukB swap=%lukB pgtables=%lukB "
        "oom_score_adj=%hd",
        "why", "pid", plain("comm"), "total_vm", "anon_rss", "file_rss", "shmem_rss", "swap", "pgtables",
        "oom_score_adj",
    )  # fmt: skip


def words(texts: tuple[str, ...]) -> dict[int, str]:
    """Texts as one word each, without what a print format can't hold."""
    return {i: text.replace('"', "'").replace(" ", "_") for i, text in enumerate(texts)}


def memory_hotplug() -> EventType:
    """A range of memory goes offline or online, or doesn't."""
    pages = bits("b", 0, ONLINE)
    return event(
        EV_HOTPLUG, "emu", "memory_hotplug",
        (
            ulong("start_pfn", col("a")), ulong("nr_pages", pages), integer("online", bits("b", ONLINE, 1)),
            integer("why", col("order")), PFN,
        ),
        "start_pfn=0x%lx nr_pages=%lu online=%d failed=%s pfn=0x%lx",
        "start_pfn", "nr_pages", "online", symbol("why", {**words(HOTPLUG_REASONS), 0: "no"}), "pfn",
    )  # fmt: skip


OWN = {
    EV_SLOWPATH: slowpath(),
    EV_BUDDY_FREE: event(
        EV_BUDDY_FREE, "emu", "buddy_free",
        (
            PFN, ORDER, MIGRATETYPE, ulong("freed_pfn", col("a")), integer("freed_order", bits("b", 0, 8)),
            integer("tail", bits("b", 8, 8)),
        ),
        "page=%p pfn=%lu order=%d migratetype=%d freed_pfn=%lu freed_order=%d tail=%d",
        page(), "pfn", "order", "migratetype", "freed_pfn", "freed_order", "tail",
    ),
    EV_BOOST: event(
        EV_BOOST, "emu", "watermark_boost",
        (
            integer("nid", nid_of(col("a"))), integer("idx", zid_of(col("a"))), ulong("old", bits("b", 0, 32)),
            ulong("boost", bits("b", 32, 32)),
        ),
        "node=%d zone=%-8s old=%lu boost=%lu", "nid", zone("idx"), "old", "boost",
    ),
    EV_BALANCE_PGDAT: event(
        EV_BALANCE_PGDAT, "emu", "balance_pgdat",
        (
            integer("nid", bits("b", 0, 8)), ORDER, integer("priority", bits("b", 8, 8)),
            ulong("nr_reclaimed", col("a")),
        ),
        "nid=%d order=%d priority=%d nr_reclaimed=%lu",
    ),
    EV_ISOLATE_FREE: event(
        EV_ISOLATE_FREE, "emu", "isolate_free_page", (PFN, ORDER, MIGRATETYPE),
        "page=%p pfn=%lu order=%d migratetype=%d", page(), "pfn", "order", "migratetype",
    ),
    EV_SET_ISOLATE: event(
        EV_SET_ISOLATE, "emu", "set_migratetype_isolate",
        (PFN, MIGRATETYPE, integer("isolated", col("a")), integer("unmovable", col("b"), "long", 8)),
        "page=%p pfn=%lu migratetype=%d isolated=%d unmovable=%ld", page(), "pfn", "migratetype", "isolated",
        "unmovable",
    ),
    EV_WARN: event(
        EV_WARN, "emu", "warn", (integer("which", col("a")), ORDER, gfp()), "warning=%s order=%d gfp_flags=%s",
        symbol("which", words(WARNINGS)), "order", show_gfp(),
    ),
    EV_BAD_PAGE: event(
        EV_BAD_PAGE, "emu", "bad_page", (PFN, integer("reason", col("a"))), "page=%p pfn=%lu reason=%s",
        page(), "pfn", symbol("reason", words(BAD_REASONS)),
    ),
    EV_ALLOC_FAILURE: event(
        EV_ALLOC_FAILURE, "emu", "page_alloc_failure",
        (ORDER, gfp(), MIGRATETYPE, ulong("nodemask", col("a")), integer("highest_zoneidx", col("b"))),
        "order=%d gfp_flags=%s migratetype=%d nodemask=0x%lx highest_zone=%s",
        "order", show_gfp(), "migratetype", "nodemask", symbol("highest_zoneidx", dict(enumerate(ZONE_NAMES))),
    ),
    EV_POISON: event(
        EV_POISON, "emu", "poison", (PFN, ORDER, ulong("content", col("a"))), "page=%p pfn=%lu order=%d content=0x%lx",
        page(), "pfn", "order", "content",
    ),
    EV_OOM_KILL: event(
        EV_OOM_KILL, "emu", "oom_invoked", (ORDER, gfp(), ulong("nodemask", col("pfn")), integer("memcg", col("b"))),
        "order=%d gfp_flags=%s nodemask=0x%lx memcg=%d", "order", show_gfp(), "nodemask", "memcg",
    ),
    EV_OOM_PANIC: event(
        EV_OOM_PANIC, "emu", "oom_panic", (integer("which", col("order")),), "panic=%s", symbol("which", words(PANICS))
    ),
    EV_HOTPLUG: memory_hotplug(),
    EV_OOM_TASK: memory_of(EV_OOM_TASK, "oom_task"),
    EV_OOM_SUMMARY: event(
        EV_OOM_SUMMARY, "emu", "oom_summary",
        (
            integer("pid", task_pid(col("a"))), string("comm", task_comm(col("a"))),
            integer("constraint", bits("b", 0, 8)), integer("memcg", bits("b", 8, 8)),
        ),
        "pid=%d comm=%s constraint=%s memcg=%d",
        "pid", plain("comm"), symbol("constraint", dict(enumerate(CONSTRAINTS))), "memcg",
    ),
    EV_OOM_KILLED: memory_of(EV_OOM_KILLED, "oom_killed"),
    EV_OOM_REAPED: memory_of(EV_OOM_REAPED, "oom_reaped"),
    EV_OOM_MESSAGE: event(
        EV_OOM_MESSAGE, "emu", "oom_message",
        (integer("which", col("order")), integer("pid", task_pid(col("a")))),
        "message=%s pid=%d", symbol("which", MESSAGES), "pid",
    ),
}  # fmt: skip
