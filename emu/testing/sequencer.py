"""An order of CPUs, forced by hand.

A race is an order of steps. When it is known which one, a test says so, from point to point, and looks at memory in
between::

    with Sequencer("R8", unfixed=True) as s:
        s.run("cpu0")
        s.run("kswapd0", until="kswapd:write kswapd_order")
        s.run("cpu1")
        assert s.finish().kind == "invariant"

Prior art: ``trio.testing.Sequencer`` orders blocks of code that the test itself has written; here they are the points
of the model (``emu race replay`` shows which an operation comes to).
"""

import difflib
from collections.abc import Sequence
from types import TracebackType

from emu.programs import load_all
from emu.race.players import Players
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import Schedule, actor_name, actor_number, fallback, schedule_of
from emu.race.stepper import Stepper
from emu.race.verdict import Verdict
from emu.race.words import waits_for
from emu.race.world import World
from emu.testing.clock import Clock
from emu.testing.runs import scenario_named
from shm.baton import SEAT_ABSENT, SEAT_DONE, SEAT_READY, SEAT_SPINS
from shm.point import site_names

__all__ = ["Sequencer"]


class Sequencer:
    """One schedule of a scenario, step by step. Use as a context manager; after :meth:`restart` another one.

    Actors are ``cpu0``, ``kswapd0``, ``irq0`` (the next interrupt of cpu0), ``work0`` (what is queued for it).

    >>> from emu.race.ops_litmus import add, require
    >>> with Sequencer(litmus([add(0)], [add(0)], setup=require(v0=2))) as s:
    ...     s.run("cpu0", until="litmus:write v0")
    ...     s.run("cpu1")
    ...     print(s.finish())
    ...     print(s.schedule)
    'litmus:write v0'
    'end'
    invariant: the variables are not as they must be in the end (found 1)
    emu-race/1 LITMUS unfixed seed=0 cpu0@litmus:write+v0*1>cpu1
    """

    def __init__(self, scenario: Scenario | str, *, unfixed: bool = True) -> None:
        self.scenario, self.unfixed = scenario_named(scenario), unfixed
        self._players: Players | None = None
        self.verdict: Verdict | None = None  # once it has been finished

    # --- going on -----------------------------------------------------------------------------------------------------

    def step(self, actor: str) -> str:
        """One step: up to the actor's next point, whose name is returned; ``end`` when it is through.

        >>> from emu.race.ops_litmus import read, write
        >>> with Sequencer(litmus([write(0), read(1)])) as s:
        ...     s.step("cpu0"), s.step("cpu0"), s.step("cpu0")
        ('litmus:write v0', 'litmus:read v1', 'end')
        """
        stands = self._open().step(self._known(actor))
        if not self._stepper.alive:
            raise ScenarioError(f"{self.scenario.id}: {actor} went on from {stands} and did not come back")
        return stands

    def run(self, actor: str, until: str = "", visit: int = 1) -> str:
        """Let an actor go on until it stands at a point - for the ``visit``-th time from now on - or, without one,
        until it has ended or can't go on. Returns where it stands. Raises ScenarioError if it never comes there."""
        self._open()
        if until:
            self._check_point(until)
        if actor not in self.enabled:
            return self.step(actor)  # which says why it can't
        visits = 0
        while actor in self.enabled:
            stands = self.step(actor)
            visits += stands == until
            if until and visits == visit:
                return stands
        stands = self.where(actor)
        if until:
            seen = f"{visits} times at {until}" if visits else f"never came to {until}"
            why = self.waiting.get(actor)
            raise ScenarioError(
                f"{self.scenario.id}: {actor} {seen}: " + (f"it waits for {why}" if why else f"it stands at {stands}")
            )
        return stands

    def run_until_blocked(self, *actors: str) -> dict[str, str]:
        """Let actors go on, one after the other and all over again, until none of them can, or those that can do
        nothing but spin; all of them if none is named. Returns what those wait for that haven't ended.

        >>> from emu.race.ops_litmus import nap, signal
        >>> with Sequencer(litmus([nap(0)], [signal(0)])) as s:
        ...     print(s.run_until_blocked("cpu0"))
        ...     print(s.run_until_blocked())
        {'cpu0': 'node0.pfmemalloc_wait: no wake-up'}
        {}
        """
        self._open()
        for actor in actors:
            self._known(actor)
        spun: set[str] = set()  # since anybody did anything else
        while able := [actor for actor in self.enabled if actor not in spun and (not actors or actor in actors)]:
            self.step(able[0])
            seat = self._stepper.baton.seats[actor_number(self.scenario, able[0]) & 15]
            spun = {*spun, able[0]} if seat.state == SEAT_SPINS else set()
        waiting = self.waiting
        return {actor: why for actor, why in waiting.items() if not actors or actor in actors}

    def finish(self) -> Verdict:
        """Everybody goes on as without a strategy - the same actor as long as it can - to the end: how it ended.

        >>> with Sequencer("R13", unfixed=False) as s:
        ...     s.finish().ok
        True
        """
        stepper = self._open()
        while enabled := self.enabled:
            mask = sum(1 << actor_number(self.scenario, name) for name in enabled)
            stepper.step(actor_name(self.scenario, fallback(int(stepper.baton.current), mask)))
        self._line = self._schedule()
        self.verdict = stepper.end()
        return self.verdict

    def restart(self) -> None:
        """From the beginning: memory is as it was then."""
        if self._players is None:
            raise ScenarioError(f"{self.scenario.id}: a Sequencer is a context manager: with Sequencer(...) as s")
        if self.verdict is None:
            self._stepper.end()
        self._begin()

    # --- looking ------------------------------------------------------------------------------------------------------

    def where(self, actor: str) -> str:
        """The point at which an actor stands; ``start``, ``end``, ``sleep``.

        >>> with Sequencer("R13") as s:
        ...     s.where("cpu0")
        'start'
        """
        if self._players is None:
            self._open()
        return self._stepper.where(self._known(actor))

    @property
    def enabled(self) -> tuple[str, ...]:
        """Who could make the next step. When nobody can, time passes to the next deadline; nobody at all: all is
        over."""
        return tuple(self._open().enabled())

    @property
    def waiting(self) -> dict[str, str]:
        """Who has begun, hasn't ended and can't go on, and what it waits for."""
        stepper, enabled = self._open(), self.enabled
        found = {}
        for seat in stepper.baton.seats[: stepper.baton.nr_seats]:
            actor = actor_name(self.scenario, seat.index + 16 * seat.context)
            if seat.state == SEAT_SPINS or (
                actor not in enabled and seat.state not in (SEAT_ABSENT, SEAT_DONE, SEAT_READY)
            ):
                found[actor] = waits_for(stepper.players, seat)
        return found

    @property
    def world(self) -> World:
        """The machine, to be looked at: ``s.world.zone().nr_reserved_highatomic``.

        >>> with Sequencer("R13") as s:
        ...     s.world.m.nr_cpus
        2
        """
        return self._open().players.world

    @property
    def schedule(self) -> Schedule:
        """What has been played so far, as a line that replays it. Raises ScenarioError if time was moved by hand."""
        if self.clock.moved:
            raise ScenarioError(f"{self.scenario.id}: time was moved by hand, which no schedule can say")
        return self._line if self.verdict is not None else self._schedule()

    def _schedule(self) -> Schedule:
        return schedule_of(self._stepper.players)

    # --- beginning and end --------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        assert self._players is not None
        self.verdict = None
        self._stepper = Stepper(self._players)
        self._stepper.begin()
        self.clock = Clock(self._stepper)

    def _open(self) -> Stepper:
        if self._players is None:
            raise ScenarioError(f"{self.scenario.id}: a Sequencer is a context manager: with Sequencer(...) as s")
        if self.verdict is not None:
            raise ScenarioError(f"{self.scenario.id}: the schedule is finished; restart() begins another")
        return self._stepper

    def _known(self, actor: str) -> str:
        actors: Sequence[str] = (
            *self.scenario.programs,
            *(f"{kind}{cpu.removeprefix('cpu')}" for kind in ("irq", "work") for cpu in self.scenario.programs),
            *(f"irq{cpu.removeprefix('cpu')}" for cpu in self.scenario.irqs),
        )
        if actor not in actors:
            raise ScenarioError(
                f"{self.scenario.id}: no actor {actor!r}; there are {', '.join(self.scenario.programs)}"
            )
        return actor

    def _check_point(self, name: str) -> None:
        names = ["end", *(known for _, known in site_names())]
        if name not in names:
            near = difflib.get_close_matches(name, names, 3)
            raise ScenarioError(
                f"no point {name!r}" + (f"; do you mean {' or '.join(map(repr, near))}?" if near else "")
            )

    def __enter__(self) -> "Sequencer":
        load_all()
        self._players = Players(self.scenario, self.unfixed)
        try:
            self._begin()
        except BaseException:
            self._players.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        if self._players is not None:
            self._players.close()
            self._players = None
