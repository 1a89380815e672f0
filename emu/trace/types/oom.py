"""``include/trace/events/oom.h`` (5.10): the retries of the slow path, and the OOM killer."""

import numpy as np

from emu.trace.event_type import (
    Column,
    EventType,
    Rows,
    Source,
    bits,
    boolean,
    char_array,
    col,
    event,
    integer,
    nid_of,
    plain,
    string,
    symbol,
    task_comm,
    task_pid,
    ulong,
    unsigned,
    zid_of,
    zone,
)  # fmt: skip
from emu.trace.facts import TASK_COMM_LEN, Facts
from emu.zone.event import (
    EV_COMPACT_RETRY,
    EV_FINISH_REAPING,
    EV_MARK_VICTIM,
    EV_OOM_SCORE_ADJ,
    EV_RECLAIM_RETRY,
    EV_SKIP_REAPING,
    EV_START_REAPING,
    EV_WAKE_REAPER,
)  # fmt: skip

__all__ = ["OOM", "VICTIM", "kib", "score_adj"]

PRIORITIES = dict(enumerate(("COMPACT_PRIO_SYNC_FULL", "COMPACT_PRIO_SYNC_LIGHT", "COMPACT_PRIO_ASYNC")))
FAILED, WITHDRAWN, PROGRESS = 1, 2, 3
FEEDBACK = {FAILED: "failed", WITHDRAWN: "withdrawn", PROGRESS: "progress"}
# compact_result_to_feedback(): complete; skipped, deferred, partial_skipped and contended; anything else
FEEDBACK_OF = np.full(256, PROGRESS)
FEEDBACK_OF[5] = FAILED
FEEDBACK_OF[[1, 2, 6, 7]] = WITHDRAWN

VICTIM = bits("gfp", 0, 16)


def kib(name: str, low: int) -> Source:
    """``PG_COUNT_TO_KB()`` of half a column."""
    return lambda rows, _: (rows[name] >> low & 0xFFFFFFFF) << 2


def score_adj(rows: Rows, _: Facts) -> Column:
    """``oom_score_adj`` of a record of a task's memory."""
    return (rows["gfp"].astype(np.int64) >> 16) - 1000


def reaping(kind: int, name: str) -> EventType:
    """Of the OOM reaper's work."""
    return event(kind, "oom", name, (integer("pid", task_pid(col("a"))),), "pid=%d")


def reclaim_retry_zone() -> EventType:
    """``reclaim_retry_zone``: would this zone do if all that can be reclaimed were free?"""
    where = bits("b", 0, 8)
    return event(
        EV_RECLAIM_RETRY, "oom", "reclaim_retry_zone",
        (
            integer("node", nid_of(where)), integer("zone_idx", zid_of(where)), integer("order", col("order")),
            ulong("reclaimable", bits("a", 0, 32)), ulong("available", bits("a", 32, 32)),
            ulong("min_wmark", bits("b", 20, 44)), integer("no_progress_loops", bits("b", 8, 8)),
            boolean("wmark_check", bits("b", 16, 1)),
        ),
        "node=%d zone=%-8s order=%d reclaimable=%lu available=%lu min_wmark=%lu no_progress_loops=%d wmark_check=%d",
        "node", zone("zone_idx"), "order", "reclaimable", "available", "min_wmark", "no_progress_loops", "wmark_check",
    )  # fmt: skip


def compact_retry() -> EventType:
    """``compact_retry``: is another round of compaction worth it?"""
    return event(
        EV_COMPACT_RETRY, "oom", "compact_retry",
        (
            integer("order", col("order")), integer("priority", bits("a", 0, 8)),
            integer("result", lambda rows, _: FEEDBACK_OF[rows["a"] >> 8 & 0xFF]),
            integer("retries", bits("b", 0, 32)), integer("max_retries", bits("b", 32, 32)),
            boolean("ret", bits("a", 16, 1)),
        ),
        "order=%d priority=%s compaction_result=%s retries=%d max_retries=%d should_retry=%d",
        "order", symbol("priority", PRIORITIES), symbol("result", FEEDBACK), "retries", "max_retries", "ret",
    )  # fmt: skip


def mark_victim() -> EventType:
    """``mark_victim``, which has told of the victim's memory since 5.10.212."""
    return event(
        EV_MARK_VICTIM, "oom", "mark_victim",
        (
            integer("pid", task_pid(VICTIM)), string("comm", task_comm(VICTIM)), ulong("total_vm", kib("pfn", 0)),
            ulong("anon_rss", kib("a", 0)), ulong("file_rss", kib("a", 32)), ulong("shmem_rss", kib("b", 0)),
            unsigned("uid", bits("gfp", 0, 0), "uid_t"), ulong("pgtables", kib("pfn", 32)),
            integer("oom_score_adj", score_adj, "short", 2),
        ),
        "pid=%d comm=%s total-vm=%lukB anon-rss=%lukB file-rss:%lukB shmem-rss:%lukB uid=%u pgtables=%lukB "
        "oom_score_adj=%hd",
        "pid", plain("comm"), "total_vm", "anon_rss", "file_rss", "shmem_rss", "uid", "pgtables", "oom_score_adj",
    )  # fmt: skip


OOM = {
    EV_RECLAIM_RETRY: reclaim_retry_zone(),
    EV_COMPACT_RETRY: compact_retry(),
    EV_MARK_VICTIM: mark_victim(),
    EV_WAKE_REAPER: reaping(EV_WAKE_REAPER, "wake_reaper"),
    EV_START_REAPING: reaping(EV_START_REAPING, "start_task_reaping"),
    EV_FINISH_REAPING: reaping(EV_FINISH_REAPING, "finish_task_reaping"),
    EV_SKIP_REAPING: reaping(EV_SKIP_REAPING, "skip_task_reaping"),
    EV_OOM_SCORE_ADJ: event(
        EV_OOM_SCORE_ADJ, "oom", "oom_score_adj_update",
        (
            integer("pid", task_pid(col("a")), "pid_t"), char_array("comm", TASK_COMM_LEN, task_comm(col("a"))),
            integer("oom_score_adj", col("b"), "short", 2),
        ),
        "pid=%d comm=%s oom_score_adj=%hd", "pid", plain("comm"), "oom_score_adj",
    ),
}  # fmt: skip
