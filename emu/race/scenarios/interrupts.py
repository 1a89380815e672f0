"""Races of a task with an interrupt on its own CPU (``mm/page_alloc.c``, ``compaction.c``, ``vmstat.c`` (5.10))."""

from emu.race.invariants_pages import SOUND, mlock_counted
from emu.race.ops_pages import alloc, compact, count, free
from emu.race.scenario import Commit, Scenario, small
from emu.race.world import World
from emu.zone.boot import Tuning
from emu.zone.deviations import R18 as NO_PCP_PROTECTION
from emu.zone.gfp import GFP_ATOMIC, GFP_KERNEL
from shm.point import NO_IRQSAVE

__all__ = ["SCENARIOS"]

QUIET = Tuning(min_free_kbytes=0, watermark_boost_factor=0)


def filled_pcp_list(w: World) -> None:
    """Three unmovable pages on CPU0's list."""
    w.pcp(batch=3, high=6)
    w.run(alloc(slot=0, gfp=GFP_KERNEL))
    w.run(free(0))
    if w.m.deviations & NO_PCP_PROTECTION:
        w.cpu(0).party.scheduled |= NO_IRQSAVE


R18 = Scenario(
    id="R18",
    title="an interrupt re-enters the pcp list: the same page is handed out twice",
    story="""
    A task allocates: it has read the first page of its CPU's list, and is about to take it off.
    An interrupt comes in on the same CPU and allocates, too: it takes that page off and returns with it.
    The task takes the page off a second time, from between neighbours that aren't its neighbours any more.
    Both have the page, and pcp->count is one too low.
    5.10 has interrupts off around every use of the lists. Attempts to do with less (4.11, 6.1 without SMP) met this.
    """,
    shape=small(cpus=1),
    tuning=QUIET,
    programs={"cpu0": (alloc(1, gfp=GFP_KERNEL),)},
    irqs={"cpu0": ((alloc(2, gfp=GFP_ATOMIC),),)},
    invariants=SOUND,
    setup=filled_pcp_list,
    commits=(
        Commit("374ad05ab64d", "mm, page_alloc: only use per-cpu allocator for irq-safe requests"),
        Commit("d34b0733b452", 'Revert "mm, page_alloc: only use per-cpu allocator for irq-safe requests"'),
        Commit("038a102535eb", "mm/page_alloc: prevent pcp corruption with SMP=n"),
    ),
    switch="R18",
    tags=("pcp", "interrupt", "list corruption"),
)


def page_with_free_buddy(w: World) -> None:
    """Slot 0 has one page of an unmovable block; its buddy is free, and so is much else."""
    w.run(alloc(slot=0, gfp=GFP_KERNEL))


R19 = Scenario(
    id="R19",
    title="an interrupt frees a page into capture_control when nobody looks there any more: it is lost",
    story="""
    A task compacts for a block of two pages. Until it is done, what it frees and needs is captured for it.
    Compaction is over; nothing was captured, the task has seen that, but it hasn't taken its capture_control away yet.
    An interrupt frees a page, which merges with its buddy to a block of two: captured.
    The task goes on without it. The block is on no list and nobody's.
    The fix takes capture_control away first and looks for a page then; it also shows it only once it is filled in.
    """,
    shape=small(cpus=1),
    tuning=QUIET,
    programs={"cpu0": (compact(1, order=1),)},
    irqs={"cpu0": ((free(0),),)},
    invariants=SOUND,
    setup=page_with_free_buddy,
    commits=(Commit("b9e20f0da1f5", "mm, compaction: make capture control handling safe wrt interrupts", "V*"),),
    switch="R19",
    tags=("compaction", "interrupt", "leak"),
)

R33 = Scenario(
    id="R33",
    title="an interrupt between reading and writing a per-cpu counter: its own update is lost",
    story="""
    A task adds to a zone counter: it has read its CPU's differential and knows what to write.
    An interrupt on the same CPU adds to the same counter: it reads the old value, writes a new one, and is done.
    The task writes what it had worked out before. What the interrupt counted is gone for good.
    Nothing notices: the counter is wrong by one from then on.
    The rule is that nobody else of this CPU can come between, by interrupts off or by an atomic update.
    """,
    shape=small(cpus=1),
    tuning=QUIET,
    programs={"cpu0": (count(1),)},
    irqs={"cpu0": ((count(1),),)},
    invariants=(*SOUND, mlock_counted),
    commits=(Commit("c68ed7945701", "mm/vmstat: protect per cpu variables with preempt disable on RT"),),
    switch="R33",
    tags=("vmstat", "interrupt"),
)

SCENARIOS = (R18, R19, R33)
