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

Prior art: CHESS, shuttle and loom hand a baton between threads; here they are processes, as everywhere in this
program, which costs 2 us a hand-over when they share one core (a futex wake-up and a switch) and is why all of them are
pinned to the same one.
"""

from shm.atomic import address, fetch_add, fls, load_acquire, park, store_release, unpark
from shm.access import access_range
from shm.core import INSTRUMENTED, as_entries, core, entry, implements, seam
from shm.here import HereRecord, here, set_here
from shm.jump import JUMP_WORDS, Jump, long_jump, set_jump
from shm.point import Party, schedule_lock, schedule_loop, schedule_point, schedule_relax, schedule_wait, site
from shm.struct import Array, At, Struct, address_of, array, fixed, i32, i64, struct, u32
from shm.waitqueue import NEVER

__all__ = [
    "BATON_ENTRIES", "CONTEXTS", "CONTEXT_BUFFER", "CONTEXT_IRQ", "CONTEXT_TASK", "CONTEXT_WORK", "MAX_SEATS",
    "MAX_STEPS", "SEAT_ABSENT", "SEAT_DONE", "SEAT_READY", "SEAT_SPINS", "SEAT_WAITS_CHANGE", "SEAT_WAITS_CLEAR",
    "S_START", "VERDICTS", "VERDICT_CRASH", "VERDICT_DEADLOCK", "VERDICT_HANG", "VERDICT_INVARIANT", "VERDICT_LIVELOCK",
    "VERDICT_OK", "VERDICT_PRUNED", "VERDICT_STEPS", "Baton", "Seat", "Step", "baton_at", "begin_schedule",
    "buffered_stores", "choose", "commit_store", "fallback", "grant", "lowest", "memory_digest", "mix", "new_schedule",
    "observe", "pending_contexts", "play", "play_interpreted", "run_context", "run_seat", "schedule_over", "seat_here",
    "stand_of", "start", "step_over", "stop_all", "word_at",
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
MASK63 = (1 << 63) - 1
MAX_ADVANCES = 1000  # of time, in one schedule
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


# --- who can run ------------------------------------------------------------------------------------------------------


@core(inline=True)
def lowest(mask: int) -> int:
    """Number of the lowest bit that is set."""
    return fls(mask & -mask) - 1


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


@core
def can_run(b: Baton, seat: Seat) -> bool:
    """Whether what the seat waits for is so."""
    if seat.state == SEAT_READY:
        return True
    if seat.state == SEAT_SPINS:
        return b.steps - seat.steps > seat.others
    if seat.state != SEAT_WAITS_CHANGE and seat.state != SEAT_WAITS_CLEAR:
        return False
    value = load_acquire(word_at(b, seat.word - address(b)), "value") & seat.mask
    if seat.state == SEAT_WAITS_CLEAR:
        return value == 0
    return value != seat.value or 0 <= seat.deadline <= b.clock_ns


@core
def enabled_actors(b: Baton) -> int:
    """Who could make the next step, as a mask."""
    mask = 0
    for i in range(b.nr_seats):
        seat = b.seats[i]
        if seat.state == SEAT_ABSENT:
            continue
        if can_run(b, seat):
            mask |= 1 << (i + 16 * seat.context)
        if seat.context == CONTEXT_TASK:
            kinds = pending_contexts(b, seat)
            if kinds & 1 << CONTEXT_IRQ != 0:
                mask |= 1 << (i + 16)
            if kinds & 1 << CONTEXT_WORK != 0:
                mask |= 1 << (i + 32)
        if b.buffers != 0 and buffered_stores(b, i) != 0:
            mask |= 1 << (i + 48)
    return mask


@core
def advance(b: Baton) -> bool:
    """Nobody can run: time passes until the first deadline. False if there is none."""
    first = NEVER
    for i in range(b.nr_seats):
        seat = b.seats[i]
        if seat.state == SEAT_WAITS_CHANGE and 0 <= seat.deadline < first:
            first = seat.deadline
    if first == NEVER or b.advances == MAX_ADVANCES:
        return False
    b.clock_ns = first
    b.advances += 1
    return True


@core
def rest(b: Baton) -> None:
    """Nobody can run, and time changes nothing: all is done, or what is it that they wait for?"""
    for i in range(b.nr_seats):
        seat = b.seats[i]
        if seat.state == SEAT_ABSENT or seat.state == SEAT_DONE or (seat.daemon != 0 and seat.context == CONTEXT_TASK):
            if seat.context == CONTEXT_TASK:
                continue
        b.verdict = VERDICT_LIVELOCK if seat.state == SEAT_SPINS and seat.loop != 0 else VERDICT_DEADLOCK
        b.culprit = i + 16 * seat.context
        return


# --- the schedule -----------------------------------------------------------------------------------------------------


@core
def begin_schedule(b: Baton) -> None:
    """All seats at the start, in memory that is as it was then. Daemons go to sleep first, and nobody chooses."""
    b.generation += 1
    b.clock_ns = b.start_ns
    b.steps = 0
    b.decisions = 0
    b.preemptions = 0
    b.advances = 0
    b.current = -1
    b.prologue = 0
    b.verdict = VERDICT_OK
    b.culprit = -1
    b.detail = 0
    for i in range(b.nr_seats):
        seat = b.seats[i]
        if seat.state == SEAT_ABSENT:
            continue
        seat.state = SEAT_READY
        seat.site = S_START
        seat.context = CONTEXT_TASK
        seat.deliver = 0
        seat.loop = 0
        seat.steps = 0
        seat.last_step = -1
        seat.nr_loops = 0
        seat.deadline = -1
        if seat.asleep_at != 0:
            seat.state = SEAT_WAITS_CHANGE
            seat.site = S_SLEEP
            seat.word = seat.asleep_at
            seat.mask = WORD
            seat.value = seat.asleep_value
        elif seat.daemon != 0:
            b.prologue = 1


@core
def prologue_actor(b: Baton) -> int:
    """A daemon that hasn't gone to sleep yet, or -1."""
    for i in range(b.nr_seats):
        seat = b.seats[i]
        if seat.daemon != 0 and seat.state != SEAT_ABSENT and can_run(b, seat):
            return i
    b.prologue = 0
    return -1


@core
def look(b: Baton) -> int:
    """Who could make the next step; 0: the schedule is over, and ``b.verdict`` says how it ended."""
    if b.verdict == VERDICT_OK and b.always != 0 and b.steps != 0:
        b.watching = b.every  # what is looked at belongs to the step's footprint
        b.detail = step_over(b)
        b.watching = 0
        if b.detail != 0:
            b.verdict = VERDICT_INVARIANT
            b.culprit = b.current
    if b.verdict != VERDICT_OK:
        return 0
    mask = enabled_actors(b)
    while mask == 0:
        if not advance(b):
            rest(b)
            return 0
        mask = enabled_actors(b)
    if b.steps >= b.max_steps:
        b.verdict = VERDICT_STEPS
        b.culprit = b.current
        return 0
    return mask


@core
def note(b: Baton, actor: int) -> None:
    """The next step is the actor's."""
    step = b.log[b.steps]
    seat = b.seats[actor & 15]
    step.site = seat.site
    step.actor = actor
    step.enabled = b.enabled
    step.before = b.current
    step.stand = stand_of(b, b.current)
    if b.current >= 0 and b.current != actor and b.enabled >> b.current & 1 != 0:
        b.preemptions += 1
    b.current = actor
    seat.steps += 1
    seat.last_step = b.steps
    b.steps += 1


@core
def next_actor(b: Baton) -> int:
    """Who goes on; between schedules, begin the next one. -1: that's all."""
    while b.stop == 0:
        if b.prologue != 0:
            actor = prologue_actor(b)
            if actor >= 0:
                return actor
        b.enabled = look(b)
        if b.enabled == 0:
            if not schedule_over(b):
                return -1
            continue
        actor = lowest(b.enabled)
        if b.enabled & (b.enabled - 1) != 0 or b.every != 0:
            b.decisions += 1
            actor = choose(b)
            if actor < 0:
                b.verdict = VERDICT_PRUNED
                continue
        note(b, actor)
        if actor >> 4 != CONTEXT_BUFFER:
            return actor
        commit_store(b, actor & 15)
    return -1


# --- handing over -----------------------------------------------------------------------------------------------------


@core
def grant_to(b: Baton, actor: int) -> None:
    """Tell the actor's seat what it is to do: to go on, or to run a context first."""
    seat = b.seats[actor & 15]
    kind = actor >> 4
    seat.deliver = kind if kind != seat.context else 0


@core(inline=True)
def wake(seat: Seat) -> None:
    """Its process has the baton now."""
    store_release(seat, "turn", 1)
    unpark(seat, "turn")


@core(inline=True)
def wait_turn(seat: Seat) -> None:
    """Until this process has the baton."""
    while load_acquire(seat, "turn") == 0:
        park(seat, "turn", 0)
    store_release(seat, "turn", 0)


@core(inline=True)
def call_parent(b: Baton) -> None:
    """The parent has the baton."""
    fetch_add(b, "parent", 1)
    unpark(b, "parent")


@core(cold=True)
def hand_over(b: Baton, seat: Seat) -> None:
    """Whoever is next goes on. Comes back when it is this process's turn, if its schedule still is."""
    b.watching = 0
    if b.observed != 0:
        call_parent(b)
        wait_turn(seat)
    else:
        actor = next_actor(b)
        if actor < 0:
            call_parent(b)
            wait_turn(seat)
        elif actor & 15 != seat.index:
            b.handoffs += 1
            grant_to(b, actor)
            wake(b.seats[actor & 15])
            wait_turn(seat)
        else:
            grant_to(b, actor)
    if seat.generation != b.generation or b.stop != 0:
        long_jump(seat, 1)
    b.watching = 1


@core(cold=True)
def deliver(b: Baton, seat: Seat) -> None:
    """Run a context on top of whatever the seat's process does or waits for."""
    state = seat.state
    where = seat.site
    word = seat.word
    mask = seat.mask
    value = seat.value
    deadline = seat.deadline
    loop = seat.loop
    kind = seat.deliver
    seat.deliver = 0
    seat.context = kind
    seat.state = SEAT_READY
    run_context(b, seat, kind)
    seat.context = CONTEXT_TASK
    seat.state = state
    seat.site = where
    seat.word = word
    seat.mask = mask
    seat.value = value
    seat.deadline = deadline
    seat.loop = loop
    seat.others = -1  # what it spins for may be so now


@core(cold=True)
def yield_baton(b: Baton, seat: Seat) -> None:
    """This process stands at a point, or waits: others may go first."""
    hand_over(b, seat)
    while seat.deliver != 0:
        deliver(b, seat)
        hand_over(b, seat)


# --- what the model calls ---------------------------------------------------------------------------------------------


@implements(schedule_point)
def at_point(me: Party, where: int) -> None:
    """Anybody may go first."""
    if here() == 0:
        me.last_site = where
        return
    seat = seat_here()
    seat.state = SEAT_READY
    seat.site = where
    yield_baton(baton_at(seat, seat.baton), seat)


@implements(schedule_lock)
def at_lock(me: Party, where: int, word: int, mask: int) -> None:
    """Anybody may go first; this process can't while the lock is held."""
    if here() == 0:
        me.last_site = where
        return
    seat = seat_here()
    seat.state = SEAT_WAITS_CLEAR
    seat.site = where
    seat.word = word
    seat.mask = mask
    yield_baton(baton_at(seat, seat.baton), seat)


@implements(schedule_wait)
def at_wait(word: int, expected: int, deadline_ns: int) -> int:
    """Asleep until the word changes or the deadline is reached."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    futex = word_at(b, word - address(b))
    if load_acquire(futex, "value") != expected:
        return -1
    seat.state = SEAT_WAITS_CHANGE
    seat.site = S_SLEEP
    seat.word = word
    seat.mask = WORD
    seat.value = expected
    seat.deadline = deadline_ns
    yield_baton(b, seat)
    if INSTRUMENTED:
        access_range(word, 4, 0)  # its waking depends on who wrote that word
    return 0 if load_acquire(futex, "value") != expected else -1


@implements(schedule_relax)
def at_relax() -> None:
    """Somebody else has to make a step first."""
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    seat.state = SEAT_SPINS
    seat.site = S_SPIN
    seat.loop = 0
    seat.others = b.steps - seat.steps
    yield_baton(b, seat)


@core
def stands_digest(b: Baton) -> int:
    """Where everybody stands, and what is in memory."""
    digest = memory_digest(b)
    for i in range(b.nr_seats):
        seat = b.seats[i]
        digest = mix(digest, seat.state << 8 | seat.context)
        digest = mix(digest, seat.site)
    return digest


@core(inline=True)
def mix(digest: int, value: int) -> int:
    """A step of a hash (FNV-1a over words, folded to 63 bits)."""
    x = ((digest ^ value) * 0x100000001B3) & MASK63
    return x ^ x >> 29


@core
def all_have_run(b: Baton, seat: Seat, since: int, advances: int) -> bool:
    """Whether everybody else who could run has done so since a step, and time has nothing to bring that it hasn't
    brought since."""
    for i in range(b.nr_seats):
        other = b.seats[i]
        if other.state == SEAT_ABSENT:
            continue
        if other.state == SEAT_WAITS_CHANGE and 0 <= other.deadline < NEVER and b.advances == advances:
            return False
        if other.context == CONTEXT_TASK and pending_contexts(b, other) != 0:
            return False
        if i != seat.index and other.last_step <= since and can_run(b, other):
            return False
    return True


@implements(schedule_loop)
def at_loop(me: Party, where: int, state: int) -> None:
    """The head of a loop: if everything is as it was here before, others must go first; if they have, it is a
    livelock."""
    if here() == 0:
        me.last_site = where
        return
    seat = seat_here()
    b = baton_at(seat, seat.baton)
    b.watching = 0
    seat.state = SEAT_READY
    seat.site = where
    digest = mix(stands_digest(b), state)
    since = -1
    advances = 0
    for i in range(min(seat.nr_loops, LOOP_MEMORY)):
        if seat.loops[i].digest == digest:
            since = seat.loops[i].step
            advances = seat.loops[i].advances
    if since >= 0:
        if all_have_run(b, seat, since, advances):
            b.verdict = VERDICT_LIVELOCK
            b.culprit = seat.index + 16 * seat.context
        seat.state = SEAT_SPINS
        seat.loop = 1
        seat.others = b.steps - seat.steps
    else:
        kept = seat.loops[seat.nr_loops % LOOP_MEMORY]
        kept.digest = digest
        kept.step = b.steps
        kept.advances = b.advances
        seat.nr_loops += 1
    yield_baton(b, seat)


# --- processes --------------------------------------------------------------------------------------------------------


@core
def play_schedule(b: Baton, seat: Seat) -> None:
    """A seat's part in a schedule, from the top. It ends by a jump, when another schedule has begun."""
    seat.generation = b.generation
    b.watching = 1
    while seat.deliver != 0:
        deliver(b, seat)
        hand_over(b, seat)
    run_seat(b, seat)
    b.watching = 0
    seat.state = SEAT_DONE
    seat.site = S_END
    while b.stop == 0:
        yield_baton(b, seat)


@entry
def play(b: Baton, index: int) -> None:
    """A seat's process: schedule after schedule, until the parent stops it."""
    seat = b.seats[index]
    set_here(address(seat))
    if set_jump(seat) == 0:
        wait_turn(seat)
    if b.stop == 0:
        play_schedule(b, seat)
    set_here(0)


def play_interpreted(b: Baton, index: int) -> None:
    """:func:`play` in interpreted mode, where a jump is an exception."""
    seat = b.seats[index]
    set_here(address_of(seat))
    wait_turn(seat)
    while not b.stop:
        try:
            play_schedule(b, seat)
        except Jump:
            pass
    set_here(0)


@entry
def start(b: Baton) -> bool:
    """The parent hands the baton to the first actor of a schedule that has been begun; false: there is none."""
    actor = next_actor(b)
    if actor < 0:
        return False
    grant_to(b, actor)
    wake(b.seats[actor & 15])
    return True


@entry
def observe(b: Baton) -> int:
    """For a parent that chooses: who could make the next step; 0: the schedule is over."""
    if b.prologue != 0:
        actor = prologue_actor(b)
        if actor >= 0:
            return 1 << actor
    b.enabled = look(b)
    return b.enabled


@entry
def grant(b: Baton, actor: int) -> None:
    """For a parent that chooses: an actor makes a step. The parent has the baton back when ``b.parent`` has grown."""
    if b.prologue == 0:
        note(b, actor)
    if actor >> 4 == CONTEXT_BUFFER:
        commit_store(b, actor & 15)
        call_parent(b)
        return
    grant_to(b, actor)
    wake(b.seats[actor & 15])


@entry
def new_schedule(b: Baton) -> None:
    """:func:`begin_schedule` for the parent."""
    begin_schedule(b)


@entry
def stop_all(b: Baton) -> None:
    """Every process leaves its schedule, and :func:`play`."""
    b.stop = 1
    for i in range(b.nr_seats):
        if b.seats[i].state != SEAT_ABSENT:
            wake(b.seats[i])


BATON_ENTRIES = as_entries(play, start, observe, grant, new_schedule, stop_all)
