"""Races around the OOM killer (``mm/oom_kill.c``, ``mm/page_alloc.c:__alloc_pages_may_oom() (5.10)``)."""

from emu.race.invariants_tasks import kill_above_high, nobody_sleeps_with_oom_lock, victim_gets_its_share
from emu.race.ops_pages import alloc, free
from emu.race.ops_tasks import cache, die, request, run_as, spawn, take
from emu.race.scenario import OPEN, Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.gfp import __GFP_NOWARN, GFP_KERNEL
from emu.zone.mmzone import WMARK_MIN

__all__ = ["SCENARIOS"]

QUIET = GFP_KERNEL | __GFP_NOWARN
TUNING = Tuning(watermark_boost_factor=0)


def little_left(w: World) -> None:
    """Free pages are so little short of the min watermark that one of two processes, killed, makes up for it. The one
    page that could be reclaimed is being read. (With none, free pages would count as reclaimable, and all would go
    round 16 times.) Counters are exact: what is freed counts at once."""
    for i in range(w.m.nr_parties):
        w.pageset(i).stat_threshold = 0
    for task in range(2):
        w.run(spawn(task=task, pages=3))
    w.run(cache(file=1, pages=1, locked=1))
    w.run(take(node=0, leave=w.zone().watermark[WMARK_MIN] - 2))


R27 = Scenario(
    id="R27",
    title="the holder of oom_lock sleeps, and all others take that for progress",
    story="""
    A task that has found no memory has oom_lock, kills a process and sleeps a jiffy, so that the victim can exit.
    All others that have found no memory meet a lock that is held: somebody makes progress for them.
    They go round, through reclaim that finds nothing, and ask for the lock again.
    With enough of them, or a holder of low priority, the holder doesn't get a processor any more to give the lock back.
    The fix takes the sleep away from under the lock. That the others go round is so to this day.
    """,
    shape=small(),
    tuning=TUNING,
    programs={"cpu0": (request(slot=0, order=1, gfp=QUIET),), "cpu1": (request(slot=1, order=1, gfp=QUIET),)},
    invariants=(nobody_sleeps_with_oom_lock,),
    setup=little_left,
    commits=(Commit("9bfe5ded054b", "mm, oom: remove sleep from under oom_lock"),),
    switch="R27",
    bound=2,
    preemptions=0,
    tags=("oom", "storm"),
)


def little_left_for_process(w: World) -> None:
    """The same, and cpu0 runs the process."""
    little_left(w)
    w.run(run_as(task=0), cpu=0)


R28 = Scenario(
    id="R28",
    title="a victim of the OOM killer fails before it has tried the reserves that it was given for dying",
    story="""
    cpu0's process looks for memory without success and is on its way to the OOM killer.
    cpu1 is there before it, kills just this process, and gives it access to half of the reserves.
    cpu0 asks for oom_lock, finds that it is a victim now, and fails: victims must not loop.
    The reserves were there, but it never tried: its flags are from before the kill. A second process may die for it.
    The fix lets a victim fail only if it has tried with ALLOC_OOM.
    """,
    shape=small(),
    tuning=TUNING,
    programs={"cpu0": (request(slot=0, gfp=QUIET), die(task=0)), "cpu1": (request(slot=1, gfp=QUIET),)},
    invariants=(victim_gets_its_share,),
    setup=little_left_for_process,
    commits=(
        Commit("c288983dddf7", "mm/page_alloc.c: make sure OOM victim can try allocations with no watermarks once"),
    ),
    switch="R28",
    bound=2,
    tags=("oom",),
)


def little_left_but_a_block(w: World) -> None:
    """The same, and slot 1 has a block of 512 pages."""
    w.run(alloc(slot=1, order=9))
    little_left(w)


R28B = Scenario(
    id="R28b",
    title="memory comes back between the last look and the kill",
    story="""
    A task has found no memory, has oom_lock, and takes a last look: nothing above the high watermark.
    It begins to look for a victim.
    On another CPU a process exits, or frees as much as that: 512 pages.
    The victim is killed all the same, with more memory free than the high watermark asks for.
    The remedy is to look once more just before the signal. No kernel does so; the last look only makes this rare.
    """,
    shape=small(),
    tuning=TUNING,
    programs={"cpu0": (request(slot=0, gfp=QUIET),), "cpu1": (free(slot=1, order=9),)},
    invariants=(kill_above_high,),
    setup=little_left_but_a_block,
    status=OPEN,
    switch="R28b",
    bound=2,
    tags=("oom",),
)

SCENARIOS = (R27, R28, R28B)
