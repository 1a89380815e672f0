"""Scheduled mode: many processes, one baton.

Whoever has the baton runs; everybody else sleeps on a futex of his own. At every point (``shm.point``) the process that
runs may have to hand the baton on. Who is next is decided right there, by a compiled strategy in the process that holds
the baton: there is no broker, and a decision to go on costs no system call::

    cpu0     ...point......point  choose: cpu1 | sleep .............. | point
    cpu1     sleep ................. | point ... lock held: choose cpu0 | sleep

A process that would spin or sleep is *blocked* instead: it says what it waits for (a word of shared memory that must
change, a lock that must be free, anybody else's step) and isn't chosen before that is so. Time is virtual: it stands
still while somebody can run, and jumps to the next deadline when nobody can. When nobody can and there is no deadline,
the schedule is over: all is done, or it is a deadlock.

On top of a task a seat may run another *context*: an interrupt, or the work that was queued for its CPU. What these are
is the business of whoever gives :func:`pending_contexts` and :func:`run_context` their bodies; here they are actors of
their own, chosen like any other, which run to completion on the process of their seat.

With store buffers (``Baton.buffers``) the way of a store to memory is a step of its own, which no process makes.

An *actor* is therefore a number: the seat's, plus 16 for each kind of context. Sets of actors are bit masks.

Here: what there is in shared memory, and what others say. ``shm.turns`` decides who is next and hands over,
``shm.stops`` is what the model meets at a point, ``shm.play`` the processes and their parent.

Prior art: CHESS, shuttle and loom hand a baton between threads; here they are processes, as everywhere in this
program, which costs 2 us a hand-over when they share one core (a futex wake-up and a switch) and is why all of them are
pinned to the same one.
"""

from shm.atomic import fls
from shm.core import core, seam
from shm.here import HereRecord
from shm.jump import JUMP_WORDS
from shm.point import site
from shm.struct import Array, At, Struct, array, fixed, i32, i64, struct, u32

__all__ = [
    "CONTEXTS", "CONTEXT_BUFFER", "CONTEXT_IRQ", "CONTEXT_TASK", "CONTEXT_WORK", "LOOP_MEMORY", "MAX_SEATS",
    "MAX_STEPS", "SEAT_ABSENT", "SEAT_DONE", "SEAT_READY", "SEAT_SPINS", "SEAT_WAITS_CHANGE", "SEAT_WAITS_CLEAR",
    "S_END", "S_SLEEP", "S_SPIN", "S_START", "VERDICTS", "VERDICT_CRASH", "VERDICT_DEADLOCK", "VERDICT_HANG",
    "VERDICT_INVARIANT", "VERDICT_LIVELOCK", "VERDICT_OK", "VERDICT_PRUNED", "VERDICT_STEPS", "WORD", "Baton", "Seat",
    "Step", "baton_at", "buffered_stores", "choose", "commit_store", "fallback", "lowest", "memory_digest", "mix",
    "pending_contexts", "run_context", "run_seat", "schedule_over", "seat_here", "stand_of", "step_over", "word_at",
]  # fmt: skip

MAX_SEATS = 15  # with four kinds of actor on each, a mask is one signed word
MAX_STEPS = 4096
CONTEXT_TASK, CONTEXT_IRQ, CONTEXT_WORK, CONTEXT_BUFFER = 0, 1, 2, 3
CONTEXTS = ("", "irq", "work", "buffer")

# what a seat's process does while it hasn't the baton
SEAT_ABSENT = 0
SEAT_READY = 1
SEAT_WAITS_CHANGE = 2  # until (word & mask) != value
SEAT_WAITS_CLEAR = 3  # until (word & mask) == 0: a lock
SEAT_SPINS = 4  # until another actor has made a step
SEAT_DONE = 5

VERDICTS = (
    "ok", "invariant", "deadlock", "livelock", "lost wake-up", "too many steps", "crash", "hang", "pruned",
)  # fmt: skip
(VERDICT_OK, VERDICT_INVARIANT, VERDICT_DEADLOCK, VERDICT_LIVELOCK, VERDICT_LOST_WAKEUP, VERDICT_STEPS, VERDICT_CRASH,
 VERDICT_HANG, VERDICT_PRUNED) = range(9)  # fmt: skip

WORD = 0xFFFFFFFF
MASK62, MASK31 = (1 << 62) - 1, (1 << 31) - 1
FACTOR_HIGH, FACTOR_LOW = 0x1E3779B97F4A7C15 >> 31, 0x1E3779B97F4A7C15 & MASK31
LOOP_MEMORY = 32  # states of retry loops that are remembered for each seat
S_START = site("start")
S_SLEEP = site("sleep")
S_SPIN = site("spin")
S_END = site("end")


@struct
class LoopState(Struct):
    """What memory looked like at the head of a retry loop."""

    _raw_ = True

    digest: int = i64()
    step: int = i64()  # when
    advances: int = i64()  # and how often time had moved on by then


@struct
class Seat(Struct):
    """A process of a scheduled run, and where it stands."""

    _align_ = 64
    _raw_ = True

    clock_at: int = fixed(i64)  # address of Baton.clock_ns; first, since clock_ns() looks for it here
    baton: int = fixed(i64)  # offset of the Baton from this record
    index: int = fixed(i32)
    turn: int = u32()  # 1: it has the baton. The futex that it sleeps on
    state: int = i32()  # SEAT_*
    site: int = u32()  # the point at which it stands
    context: int = i32()  # CONTEXT_* of what runs
    deliver: int = i32()  # a context to run before anything else
    daemon: int = i32()  # may sleep when all is over
    asleep_at: int = i64()  # address of the word it sleeps on when a schedule begins; 0: it is ready
    asleep_value: int = i64()
    word: int = i64()  # address of the 32-bit word it waits for
    mask: int = i64()
    value: int = i64()
    deadline: int = i64()  # virtual ns; negative: none
    loop: int = i32()  # SEAT_SPINS at the head of a retry loop: its state was the same again
    others: int = i64()  # SEAT_SPINS: steps of others when it began
    steps: int = i64()  # its own, in this schedule
    last_step: int = i64()  # the number of the last of them
    straight: int = i64()  # those since it last slept, spun or stood at the head of a loop
    generation: int = i64()  # the schedule that it plays
    loops: Array[LoopState] = array(LoopState, LOOP_MEMORY)
    nr_loops: int = i64()
    jump: Array[int] = array(i64, JUMP_WORDS)


@struct
class Step(Struct):
    """One step of a schedule: who went on, from which point."""

    _raw_ = True

    site: int = u32()
    actor: int = i32()
    enabled: int = i64()  # who could have
    before: int = i32()  # the actor that made the step before; -1: none
    stand: int = u32()  # the point at which that one stood


@struct
class Word(Struct):
    """A 32-bit word anywhere."""

    _raw_ = True

    value: int = u32()


@struct
class Baton(Struct):
    """The scheduler's state."""

    _align_ = 64
    _raw_ = True

    nr_seats: int = fixed(i32)
    observed: int = i32()  # the parent chooses, and looks at memory between steps
    parent: int = u32()  # grows when the parent is wanted; its futex
    stop: int = i32()  # everybody leaves
    clock_ns: int = i64()
    start_ns: int = i64()
    generation: int = i64()  # of schedules: who finds another one than his own begins again
    steps: int = i64()
    max_steps: int = i64()
    decisions: int = i64()  # steps at which there was a choice
    preemptions: int = i64()  # steps that went to another actor although the last one could go on
    handoffs: int = i64()  # to another process, in all schedules
    advances: int = i64()  # of time, in this schedule
    enabled: int = i64()  # who can run, at the present decision
    current: int = i32()  # the actor that made the last step; -1: none yet
    prologue: int = i32()  # daemons go to sleep, nobody chooses
    verdict: int = i32()
    culprit: int = i32()  # the actor it was found at; -1: none
    detail: int = i64()
    always: int = i32()  # something is to be checked after every step
    buffers: int = i32()  # seats have store buffers
    every: int = i32()  # the strategy is asked also where there is no choice
    watching: int = i32()  # accesses are being seen: the model runs, not the scheduler
    log: Array[Step] = array(Step, MAX_STEPS)
    seats: Array[Seat] = array(Seat, MAX_SEATS)


baton_at = At(Baton)
word_at = At(Word)
seat_here = HereRecord(Seat)


# --- small tools -----------------------------------------------------------------------------------------------------


@core(inline=True)
def lowest(mask: int) -> int:
    """Number of the lowest bit that is set."""
    return fls(mask & -mask) - 1


@core(inline=True)
def mix(digest: int, value: int) -> int:
    """A step of a hash: a product modulo 2^62, folded. Made of pieces that don't overflow: compiled code takes it for
    granted that signed numbers don't, and would leave the masks out."""
    x = (digest ^ value) & MASK62
    low = x & MASK31
    high = x >> 31
    middle = (high * FACTOR_LOW + low * FACTOR_HIGH + (value >> 62 & 3)) & MASK31
    x = (low * FACTOR_LOW + (middle << 31)) & MASK62
    return x ^ x >> 31


@core
def fallback(b: Baton) -> int:
    """Who goes on if nobody says otherwise: the same actor as before; the task below a context that has ended; else
    the first who can."""
    current = b.current
    if current >= 0:
        if b.enabled >> current & 1 != 0:
            return current
        if b.enabled >> (current & 15) & 1 != 0:
            return current & 15
    return lowest(b.enabled)


@core
def stand_of(b: Baton, actor: int) -> int:
    """The point at which an actor stands; ``end`` for a context that has ended."""
    if actor < 0:
        return S_START
    seat = b.seats[actor & 15]
    return seat.site if seat.context == actor >> 4 else S_END


# --- what others say --------------------------------------------------------------------------------------------------


@seam
def choose(b: Baton) -> int:
    """The strategy: an actor of ``b.enabled``, or a negative number to give this schedule up (*pruned*)."""
    return fallback(b)


@seam
def schedule_over(b: Baton) -> bool:
    """A schedule has ended with ``b.verdict``. True: another one has been begun (:func:`begin_schedule`)."""
    return False


@seam
def step_over(b: Baton) -> int:
    """With ``b.always``: what is wrong after the last step, 0 if nothing."""
    return 0


@seam
def pending_contexts(b: Baton, seat: Seat) -> int:
    """Contexts that could run on top of a seat's task now: bits ``1 << CONTEXT_*``."""
    return 0


@seam
def run_context(b: Baton, seat: Seat, kind: int) -> None:
    """Run one."""


@seam
def run_seat(b: Baton, seat: Seat) -> None:
    """What the seat's process does in a schedule."""


@seam
def buffered_stores(b: Baton, index: int) -> int:
    """How many stores wait in a seat's store buffer."""
    return 0


@seam
def commit_store(b: Baton, index: int) -> None:
    """The oldest of them reaches memory; whoever has the baton may do it."""


@seam
def memory_digest(b: Baton) -> int:
    """A number that says what is in the memory that the processes share."""
    return b.steps
