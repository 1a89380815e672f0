"""Streams for tests: a few types of events that are the tests' own, and events given one by one."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emu.trace.event_type import EventType, Field
from emu.trace.stream import HARDIRQ, IRQS_OFF, Batch, Stream, rows_of


class Event(NamedTuple):
    ts: int
    cpu: int
    type: EventType
    values: tuple[Any, ...]
    lost: int = 0


def u64(name: str) -> Field:
    return Field(name, "unsigned long", 8, False)


def u32(name: str) -> Field:
    return Field(name, "unsigned int", 4, False)


def i32(name: str) -> Field:
    return Field(name, "int", 4, True)


NAME, ADDRESS = Field("name", "__data_loc char[]", 4, False), Field("lockdep_addr", "void *", 8, False)

FREE = EventType("kmem", "mm_page_free", 71, (u64("pfn"), u32("order")), '"pfn=%lu order=%d", REC->pfn, REC->order')
ALLOC = EventType(
    "kmem", "mm_page_alloc", 72, (u64("pfn"), u32("order"), u32("gfp_flags"), i32("migratetype")),
    '"pfn=%lu order=%d migratetype=%d gfp_flags=%s", REC->pfn, REC->order, REC->migratetype, (REC->gfp_flags) ? '
    '__print_flags(REC->gfp_flags, "|", {(unsigned long)0xcc0, "GFP_KERNEL"}, {(unsigned long)0x100, "__GFP_ZERO"}) '
    ': "none"',
)  # fmt: skip
WAKE = EventType("vmscan", "mm_vmscan_kswapd_wake", 81, (i32("nid"), i32("order")), '"nid=%d", REC->nid')
SLEEP = EventType("vmscan", "mm_vmscan_kswapd_sleep", 82, (i32("nid"),), '"nid=%d", REC->nid')
COMM = Field("comm", "char[16]", 16, True)
VICTIM = EventType("oom", "mark_victim", 91, (COMM, i32("pid")), '"%s pid=%d", REC->comm, REC->pid')
LONG = EventType("emu", "long", 99, tuple(u64(f"f{i}") for i in range(20)), '"f0=%lu f19=%lu", REC->f0, REC->f19')
BEGIN = EventType(
    "compaction", "mm_compaction_begin", 60,
    (u64("zone_start"), u64("migrate_pfn"), u64("free_pfn"), u64("zone_end"), Field("sync", "bool", 1, False)),
    '"zone_start=0x%lx", REC->zone_start',
)  # fmt: skip
END = EventType("compaction", "mm_compaction_end", 61, (*BEGIN.fields, i32("status")), '"status=%d", REC->status')
MIGRATE = EventType(
    "compaction", "mm_compaction_migratepages", 62, (u64("nr_migrated"), u64("nr_failed")),
    '"nr_migrated=%lu nr_failed=%lu", REC->nr_migrated, REC->nr_failed',
)  # fmt: skip
LOCK = '"%p %s", REC->lockdep_addr, __get_str(name)'
ACQUIRE = EventType("lock", "lock_acquire", 41, (u32("flags"), NAME, ADDRESS), LOCK)
ACQUIRED, CONTENDED, RELEASE = (
    EventType("lock", name, 42 + i, (NAME, ADDRESS), LOCK)
    for i, name in enumerate(("lock_acquired", "lock_contended", "lock_release"))
)
ZONE_LOCK, LRU_LOCK = (b"&zone->lock", 0xFFFF888000000140), (b"&lruvec->lru_lock", 0xFFFF888000000280)


def stream_of(events: Sequence[Event], nr_cpus: int = 2) -> Stream:
    """As if from a recording. The task on CPU n has the pid 1000 + n; CPU 0 has interrupts off, CPU 1 is in one."""
    ts, cpu, lost = (np.array([event[i] for event in events], np.int64) for i in (0, 1, 4))
    pid = 1000 + cpu
    flags, preempt = np.where(cpu == 0, IRQS_OFF, HARDIRQ), np.where(cpu == 0, 1, 0)
    batches = []
    for type_ in dict.fromkeys(event.type for event in events):
        index = np.array([i for i, event in enumerate(events) if event.type is type_])
        columns = list(zip(*(events[i].values for i in index), strict=True))
        batches.append(Batch(type_, index, rows_of(type_, columns, pid[index], flags[index], preempt[index])))
    return Stream(ts, cpu, pid, lost, tuple(batches), {1000 + n: f"emu_cpu{n}" for n in range(nr_cpus)}, nr_cpus)


def alternating(count: int, gap: int = 1000) -> list[Event]:
    """Allocations and frees, the CPUs in turn."""
    return [
        Event(10**9 + i * gap, i % 2, ALLOC, (4096 + i, i % 4, 0xDC0, i % 3))
        if i // 2 % 2 == 0
        else Event(10**9 + i * gap, i % 2, FREE, (4096 + i - 2, (i - 2) % 4))
        for i in range(count)
    ]


def handing_over() -> list[Event]:
    """CPU 1 waits 900 ns for the lock that CPU 0 holds for 999 ns; then it holds it for 990 ns."""
    return [
        Event(1000, 0, ACQUIRE, (0, *ZONE_LOCK)), Event(1001, 0, ACQUIRED, ZONE_LOCK),
        Event(1100, 1, ACQUIRE, (0, *ZONE_LOCK)), Event(1110, 1, CONTENDED, ZONE_LOCK),
        Event(1120, 0, ACQUIRE, (0, *LRU_LOCK)), Event(1130, 0, ACQUIRED, LRU_LOCK), Event(1140, 0, RELEASE, LRU_LOCK),
        Event(2000, 0, RELEASE, ZONE_LOCK), Event(2010, 1, ACQUIRED, ZONE_LOCK), Event(3000, 1, RELEASE, ZONE_LOCK),
    ]  # fmt: skip
