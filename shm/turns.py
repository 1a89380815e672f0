"""Whose turn is it? Who could go on, how a schedule begins and ends, and the hand-over (see ``shm.baton``)."""

from shm.atomic import address, fetch_add, load_acquire, park, store_release, unpark
from shm.baton import (
    CONTEXT_BUFFER, CONTEXT_IRQ, CONTEXT_TASK, CONTEXT_WORK, SEAT_ABSENT, SEAT_DONE, SEAT_READY, SEAT_SPINS,
    SEAT_WAITS_CHANGE, SEAT_WAITS_CLEAR, S_SLEEP, S_START, VERDICT_DEADLOCK, VERDICT_INVARIANT, VERDICT_LIVELOCK,
    VERDICT_OK, VERDICT_PRUNED, VERDICT_STEPS, WORD, Baton, Seat, buffered_stores, choose, commit_store, lowest,
    pending_contexts, run_context, schedule_over, stand_of, step_over, word_at,
)  # fmt: skip
from shm.core import core
from shm.jump import long_jump
from shm.waitqueue import NEVER

__all__ = [
    "begin_schedule", "call_parent", "can_run", "deliver", "grant_to", "hand_over", "look", "next_actor", "note",
    "prologue_actor", "wait_turn", "wake", "yield_baton",
]  # fmt: skip

MAX_ADVANCES = 1000  # of time, in one schedule


# --- who can run ------------------------------------------------------------------------------------------------------


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
        seat.straight = 0
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
    seat.straight += 1
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
