"""The processes of a scheduled run, and what their parent may do with the baton (see ``shm.baton``)."""

from shm.atomic import address
from shm.baton import CONTEXT_BUFFER, SEAT_ABSENT, SEAT_DONE, S_END, Baton, Seat, commit_store, run_seat
from shm.core import as_entries, core, entry
from shm.here import set_here
from shm.jump import Jump, set_jump
from shm.stops import at_point
from shm.struct import address_of
from shm.turns import (
    begin_schedule, call_parent, deliver, grant_to, hand_over, look, next_actor, note, prologue_actor, wait_turn, wake,
    yield_baton,
)  # fmt: skip

__all__ = ["BATON_ENTRIES", "grant", "new_schedule", "observe", "play", "play_interpreted", "start", "stop_all"]

BODIES = (at_point,)  # of the seams of shm.point


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
