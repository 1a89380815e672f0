"""What there is to see of a machine at one moment, and how fast it changes between two.

Everything is read from shared memory without a lock, so numbers of one sample may be a few microseconds apart.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emu.cpu.process import STATE_BUSY, STATE_STARTING
from emu.death import waits_for
from emu.proc.lock_stat import LockClass, lock_classes, symbol
from emu.top.free_blocks import free_blocks
from emu.workload.user_tasks import tasks_of
from emu.zone.init import party_of, zones_of
from emu.zone.init_vm import kcompactd_party, kswapd_party
from emu.zone.locks import locks_of, party_name
from emu.zone.mmzone import MIGRATETYPE_NAMES, ZONE_NAMES, Machine, Zone
from emu.zone.task_stats import slowpath_total
from emu.zone.vmstat_items import VM_EVENT_NAMES
from shm.waitqueue import waitqueue_active

__all__ = ["CpuView", "DaemonView", "LockView", "Sample", "View", "ZoneView", "sample", "view"]

MOST_LOCKS = 6
PGALLOC = slice(VM_EVENT_NAMES.index("pgalloc_dma"), VM_EVENT_NAMES.index("pgalloc_movable") + 1)
ALLOCSTALL = slice(VM_EVENT_NAMES.index("allocstall_dma"), VM_EVENT_NAMES.index("allocstall_movable") + 1)
PGFREE = VM_EVENT_NAMES.index("pgfree")
SHOWN_EVENTS = (
    "pgscan_kswapd", "pgsteal_kswapd", "pgscan_direct", "pgsteal_direct", "compact_stall", "compact_success",
    "compact_fail", "pgmigrate_success", "pswpin", "pswpout", "oom_kill",
)  # fmt: skip


@dataclass(frozen=True)
class ZoneView:
    """A zone in pages. ``blocks``: free blocks, ``[order][migratetype]``; the marks are without the boost."""

    name: str
    free: int
    managed: int
    min: int
    low: int
    high: int
    boost: int
    blocks: tuple[tuple[int, ...], ...]

    @property
    def state(self) -> str:
        """Where its free pages are: ``ok`` above high, ``low``, ``min``, ``below min``."""
        marks = ((self.high, "ok"), (self.low, "low"), (self.min, "min"))
        return next((word for mark, word in marks if self.free > mark + self.boost), "below min")


@dataclass(frozen=True)
class CpuView:
    """A CPU: what it does, and pages or events a second."""

    name: str
    state: str
    allocated: float
    freed: float
    slowpaths: float  # entries into the slow path by its own task and the user tasks that it runs
    stalls: float  # entries into direct reclaim


@dataclass(frozen=True)
class DaemonView:
    """kswapd or kcompactd of a node."""

    name: str
    state: str  # asleep, or awake and what for


@dataclass(frozen=True)
class LockView:
    """A class of locks. Contentions a second, and in all; the call site where most waited."""

    name: str
    contended: float
    contentions: int
    acquisitions: int
    at: str


@dataclass(frozen=True)
class Sample:
    """Counters at one moment."""

    at: float
    events: "np.ndarray[Any, Any]"  # [CPU or daemon][VM event]
    slowpaths: "np.ndarray[Any, Any]"  # [CPU]
    locks: tuple[LockClass, ...]
    slowpath: dict[str, Any]


@dataclass(frozen=True)
class View:
    """What a screen shows: the present, and rates since an earlier sample."""

    seconds: float
    cpus: tuple[CpuView, ...]
    zones: tuple[ZoneView, ...]
    daemons: tuple[DaemonView, ...]
    locks: tuple[LockView, ...]
    events: dict[str, float]  # of SHOWN_EVENTS, a second
    slowpaths: float  # a second
    retries: dict[str, float]  # by reason, a second, those that occur
    slowpath: dict[str, Any]  # in all

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "migratetypes": list(MIGRATETYPE_NAMES)}


def sample(m: Machine) -> Sample:
    """The counters now."""
    events = np.array([party_of(m, i).vm_events[:] for i in range(m.nr_parties)], np.int64)
    slowpaths = np.array([sum(task.slowpaths for task in tasks_of(m, i)) for i in range(m.nr_cpus)], np.int64)
    return Sample(time.monotonic(), events, slowpaths, tuple(lock_classes(locks_of(m))), slowpath_total(m))


def view(m: Machine, before: Sample, now: Sample) -> View:
    """The machine between two samples."""
    seconds = max(now.at - before.at, 1e-9)
    rates = (now.events - before.events) / seconds
    slowpaths = (now.slowpaths - before.slowpaths) / seconds
    total = rates.sum(axis=0)
    passes = {
        f"{kind[:-3]}: {reason}": (number - before.slowpath[kind][reason]) / seconds
        for kind in ("retries_by", "restarts_by") for reason, number in now.slowpath[kind].items()
    }  # fmt: skip
    return View(
        seconds,
        tuple(_cpu(m, i, rates[i], float(slowpaths[i])) for i in range(m.nr_cpus)),
        tuple(_zone(m, zone) for zone in zones_of(m)),
        tuple(_daemons(m)),
        tuple(_locks(before, now, seconds)),
        {name: float(total[VM_EVENT_NAMES.index(name)]) for name in SHOWN_EVENTS},
        (now.slowpath["slowpaths"] - before.slowpath["slowpaths"]) / seconds,
        {name: rate for name, rate in passes.items() if rate},
        now.slowpath,
    )


def _cpu(m: Machine, index: int, rates: "np.ndarray[Any, Any]", slowpaths: float) -> CpuView:
    return CpuView(
        party_name(m, index), _state(m, index), float(rates[PGALLOC].sum()), float(rates[PGFREE]), slowpaths,
        float(rates[ALLOCSTALL].sum()),
    )  # fmt: skip


def _state(m: Machine, index: int) -> str:
    cpu = party_of(m, index)
    party = cpu.party
    if not party.pid or party.dead:
        return "offline"
    if party.waits[party.context].lock:
        return waits_for(m, index)
    if party.state == STATE_STARTING:
        return "starting"
    if party.state != STATE_BUSY:
        return "idle"
    return "interrupt" if cpu.irq_nesting else "irqs off" if party.irqs_off else "running"


def _zone(m: Machine, zone: Zone) -> ZoneView:
    lowest, low, high = zone.watermark[0:3]
    return ZoneView(
        f"{zone.node} {ZONE_NAMES[zone.zid]}", max(zone.vm_stat[0].counter, 0), zone.managed_pages,
        lowest, low, high, zone.watermark_boost, free_blocks(m, zone),
    )  # fmt: skip


def _daemons(m: Machine) -> list[DaemonView]:
    views = []
    for nid in range(m.nr_nodes):
        node = m.nodes[nid]
        asleep = waitqueue_active(node.kswapd_wait)
        failures = f", {node.kswapd_failures} failures" if node.kswapd_failures else ""
        state = "asleep" if asleep else f"awake for order {node.kswapd_order}"
        views.append(DaemonView(party_name(m, kswapd_party(m, nid)), state + failures))
        asleep = waitqueue_active(node.kcompactd_wait)
        state = "asleep" if asleep else f"awake for order {node.kcompactd_max_order}"
        views.append(DaemonView(party_name(m, kcompactd_party(m, nid)), state))
    return views


def _locks(before: Sample, now: Sample, seconds: float) -> list[LockView]:
    views, contentions = [], {what.name: what.waits.nr for what in before.locks}
    for what in now.locks:
        if what.waits.nr:
            at = symbol(what.contention_points[0].site).partition("+")[0] if what.contention_points else ""
            rate = (what.waits.nr - contentions.get(what.name, 0)) / seconds
            views.append(LockView(what.name, rate, what.waits.nr, what.holds.nr, at))
    return sorted(views, key=lambda lock: (-lock.contended, -lock.contentions))[:MOST_LOCKS]
