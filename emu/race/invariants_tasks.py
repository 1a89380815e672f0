"""Invariants of tasks: no request fails, and nobody is killed, while there is memory for it; no retry without end."""

from emu.cpu.mempolicy import MPOL_BIND
from emu.race.area import RaceArea
from emu.race.scenario import Invariant
from emu.zone.gfp import ALLOC_OOM, ALLOC_WMARK_HIGH
from emu.zone.kswapd_wake import MAX_RECLAIM_RETRIES
from emu.zone.mm_types import vm_at
from emu.zone.mmzone import CPU_SIZE, WMARK_MIN, ZONE_NORMAL, Cpu, Machine, Zone, cpu_record
from emu.zone.nodemask import online_mask
from emu.zone.sched import RETRY_RECLAIM, task_at
from emu.zone.slow_types import FAILED_AVOIDABLE, FAILED_RESERVE
from emu.zone.vmstat import zone_page_state
from emu.zone.vmstat_items import NR_FREE_PAGES, OOM_KILL
from emu.zone.watermark import __zone_watermark_ok, wmark_pages
from shm.core import core

BASE = 64
(CHECK_NEEDLESS, CHECK_KILL_WITH_MEMORY, CHECK_KILL_ABOVE_HIGH, CHECK_VICTIM, CHECK_SLEEPS, CHECK_ROUNDS,
 CHECK_AVOIDABLE, CHECK_ONE_ROUND, CHECK_HOPELESS_KILL, CHECK_BELOW_MIN,
 CHECK_RESERVE) = range(BASE, BASE + 11)  # fmt: skip

# places in RaceArea.ghost
G_NEEDLESS = 0  # a request failed although this zone (its number + 1) had what it asked for
G_VICTIM = 1  # a victim's request failed although its share of the reserves was there
G_BELOW_MIN = 2  # a request that may not reclaim was served although no zone was above the min watermark
G_KILLS = 16  # by CPU: kills that have been looked at

failed_needlessly = Invariant(
    "failed_needlessly", CHECK_NEEDLESS,
    "A request fails only if no zone that its task may use is above the min watermark.",
)  # fmt: skip
killed_needlessly = Invariant(
    "killed_needlessly", CHECK_KILL_WITH_MEMORY,
    "Nobody is killed for a request for which a zone was above the min watermark when it went to the OOM killer.",
    always=True,
)  # fmt: skip
kill_above_high = Invariant(
    "kill_above_high", CHECK_KILL_ABOVE_HIGH,
    "A process is killed only while no zone that the killer may use has more free pages than its high watermark.",
    always=True,
)  # fmt: skip
victim_gets_its_share = Invariant(
    "victim_gets_its_share", CHECK_VICTIM,
    "The request of an OOM victim fails only if the reserves that victims may use are empty too.",
)  # fmt: skip
nobody_sleeps_with_oom_lock = Invariant(
    "nobody_sleeps_with_oom_lock", CHECK_SLEEPS,
    "Who has oom_lock doesn't sleep: all others take the lock being held for progress and go round.", always=True,
)  # fmt: skip
rounds_are_bounded = Invariant(
    "rounds_are_bounded", CHECK_ROUNDS,
    "A task goes round in the slow path for reclaim's sake no more than 16 times while a zone that it may use is above "
    "its high watermark.", always=True, verdict="livelock",
)  # fmt: skip
failure_was_avoidable = Invariant(
    "failure_was_avoidable", CHECK_AVOIDABLE,
    "A request fails only if the pages on all CPUs' pcp lists would not have served it.",
)  # fmt: skip
next_round_gets_it = Invariant(
    "next_round_gets_it", CHECK_ONE_ROUND,
    "Where should_reclaim_retry() sees enough free, the next round gets it: one round is enough. (Those without a "
    "bound are rounds_are_bounded's.)",
)  # fmt: skip
kill_that_can_help = Invariant(
    "kill_that_can_help", CHECK_HOPELESS_KILL,
    "A process is killed only if the killer's cpuset has a zone that its request may use.", always=True,
)  # fmt: skip
nobody_goes_below_min = Invariant(
    "nobody_goes_below_min", CHECK_BELOW_MIN,
    "A request that may not use the reserves is served only if a zone is above the min watermark.",
)  # fmt: skip
reserve_is_there_to_be_used = Invariant(
    "reserve_is_there_to_be_used", CHECK_RESERVE,
    "An atomic request fails only if it would also fail with the pages of the highatomic reserve.",
)  # fmt: skip
TASK_INVARIANTS = (
    failed_needlessly, killed_needlessly, kill_above_high, victim_gets_its_share, nobody_sleeps_with_oom_lock,
    rounds_are_bounded, failure_was_avoidable, next_round_gets_it, kill_that_can_help, nobody_goes_below_min,
    reserve_is_there_to_be_used,
)  # fmt: skip


@core(cold=True)
def nodes_for(m: Machine, cpu: Cpu) -> int:
    """The nodes that the CPU's task may have memory on: its cpuset's, and of them its policy's if that binds."""
    task = task_at(m, cpu.current)
    nodes = online_mask(m)
    if m.cpusets_enabled != 0:
        nodes &= task.mems_allowed
    if task.has_policy != 0 and task.mempolicy.mode == MPOL_BIND and task.mempolicy.nodes & nodes != 0:
        nodes &= task.mempolicy.nodes
    return nodes


@core(cold=True)
def serves(m: Machine, zone: Zone, order: int, highest_zoneidx: int, which: int) -> bool:
    """Whether a zone is above a watermark (ALLOC_WMARK_*) by a request of the order, and has a block for it."""
    if zone.present_pages == 0 or zone.zid > highest_zoneidx:
        return False
    free = zone_page_state(zone, NR_FREE_PAGES)
    return __zone_watermark_ok(m, zone, order, wmark_pages(zone, which), highest_zoneidx, 0, free)


@core(cold=True)
def zone_that_serves(m: Machine, cpu: Cpu, order: int, highest_zoneidx: int, which: int) -> int:
    """Number + 1 of a zone that the CPU's task may use for a request; 0: none."""
    nodes = nodes_for(m, cpu)
    for nid in range(m.nr_nodes):
        if nodes >> nid & 1 != 0:
            for zid in range(highest_zoneidx + 1):
                if serves(m, m.nodes[nid].node_zones[zid], order, highest_zoneidx, which):
                    return m.nodes[nid].node_zones[zid].zone_id + 1
    return 0


@core(cold=True)
def has_victims_share(m: Machine, cpu: Cpu, order: int, highest_zoneidx: int) -> bool:
    """Whether some zone would do for a request with ``ALLOC_OOM``."""
    nodes = nodes_for(m, cpu)
    for nid in range(m.nr_nodes):
        for zid in range(highest_zoneidx + 1):
            zone = m.nodes[nid].node_zones[zid]
            if nodes >> nid & 1 != 0 and zone.present_pages != 0:
                free = zone_page_state(zone, NR_FREE_PAGES)
                mark = wmark_pages(zone, WMARK_MIN)
                if __zone_watermark_ok(m, zone, order, mark, highest_zoneidx, ALLOC_OOM, free):
                    return True
    return False


@core(cold=True)
def new_killer(m: Machine, a: RaceArea) -> int:
    """Index + 1 of a CPU that has killed since the last look; 0: none. One of a scenario's invariants may ask."""
    for i in range(m.nr_cpus):
        cpu = cpu_record(m, m.cpus + i * CPU_SIZE)
        if cpu.vm_events[OOM_KILL] != a.ghost[G_KILLS + i]:
            a.ghost[G_KILLS + i] = cpu.vm_events[OOM_KILL]
            return i + 1
    return 0


@core(cold=True)
def killed_with_memory(m: Machine, a: RaceArea) -> int:
    """What a killer's request could have had when it went for ``oom_lock``, as noted then (``SlowStat.measured``)."""
    killer = new_killer(m, a)
    if killer == 0:
        return 0
    return task_at(m, cpu_record(m, m.cpus + (killer - 1) * CPU_SIZE).current).slow.oom_zone


@core(cold=True)
def killed_above_high(m: Machine, a: RaceArea) -> int:
    """Looked at when the first step after a kill has been made; until then only the killer did something."""
    killer = new_killer(m, a)
    if killer == 0:
        return 0
    return zone_that_serves(m, cpu_record(m, m.cpus + (killer - 1) * CPU_SIZE), 0, ZONE_NORMAL, ALLOC_WMARK_HIGH)


@core(cold=True)
def killed_in_vain(m: Machine, a: RaceArea) -> int:
    """Whether who has just killed has no zone in its cpuset that a kernel allocation may use: 1 + CPU."""
    killer = new_killer(m, a)
    if killer == 0:
        return 0
    nodes = nodes_for(m, cpu_record(m, m.cpus + (killer - 1) * CPU_SIZE))
    for nid in range(m.nr_nodes):
        for zid in range(ZONE_NORMAL + 1):
            if nodes >> nid & 1 != 0 and m.nodes[nid].node_zones[zid].managed_pages != 0:
                return 0
    return killer


@core(cold=True)
def sleeper_with_oom_lock(m: Machine) -> int:
    """Index + 1 of the CPU."""
    holder = vm_at(m, m.vm).oom_lock
    if holder != 0 and cpu_record(m, m.cpus + (holder - 1) * CPU_SIZE).asleep != 0:
        return holder
    return 0


@core(cold=True)
def too_many_rounds(m: Machine, most: int, plenty: int) -> int:
    """How often a CPU's task has gone round for reclaim's sake, if more often than that; ``plenty``: while a zone has
    more free than its high watermark."""
    for i in range(m.nr_cpus):
        cpu = cpu_record(m, m.cpus + i * CPU_SIZE)
        rounds = task_at(m, cpu.current).retries_by[RETRY_RECLAIM]
        if rounds > most and (plenty == 0 or zone_that_serves(m, cpu, 0, ZONE_NORMAL, ALLOC_WMARK_HIGH) != 0):
            return rounds
    return 0


@core(cold=True)
def failures_for(m: Machine, which: int) -> int:
    """Failures that something (FAILED_*) would have avoided, counted when they happened (``SlowStat.measured``)."""
    failures = 0
    for i in range(m.nr_cpus):
        failures += task_at(m, cpu_record(m, m.cpus + i * CPU_SIZE).current).slow.failed_for[which]
    return failures


@core(cold=True)
def check_tasks(m: Machine, a: RaceArea, code: int) -> int:
    """One of this family: 0 if it holds."""
    if code == CHECK_NEEDLESS:
        return a.ghost[G_NEEDLESS]
    if code == CHECK_KILL_WITH_MEMORY:
        return killed_with_memory(m, a)
    if code == CHECK_KILL_ABOVE_HIGH:
        return killed_above_high(m, a)
    if code == CHECK_VICTIM:
        return a.ghost[G_VICTIM]
    if code == CHECK_SLEEPS:
        return sleeper_with_oom_lock(m)
    if code == CHECK_ROUNDS:
        return too_many_rounds(m, MAX_RECLAIM_RETRIES, 1)
    if code == CHECK_AVOIDABLE:
        return failures_for(m, FAILED_AVOIDABLE)
    if code == CHECK_ONE_ROUND:
        return too_many_rounds(m, 1, 0) if too_many_rounds(m, MAX_RECLAIM_RETRIES, 1) == 0 else 0
    if code == CHECK_HOPELESS_KILL:
        return killed_in_vain(m, a)
    if code == CHECK_BELOW_MIN:
        return a.ghost[G_BELOW_MIN]
    if code == CHECK_RESERVE:
        return failures_for(m, FAILED_RESERVE)
    return 0
