"""The processes that play a scenario: forked once, they play schedule after schedule.

All of them are pinned to one core: only one runs at a time, and handing the baton to a process that sleeps on another
core costs seven times as much.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType

from emu.race.arena import CHUNK, MAX_ACCESSES, MAX_CHECKS, MAX_CHUNKS, MAX_RACES, MAX_SYNC, Arena
from emu.race.contexts import run_player
from emu.race.judge import JUDGE_ENTRIES, begin_batch, digest_all, learn_chunks, put_back
from emu.race.noise import checker_words, noise_words
from emu.race.scenario import Scenario, ScenarioError
from emu.race.variables import site_variables
from emu.race.world import WORLD_ENTRIES, World
from emu.reclaim.kswapd import KSWAPD_ASLEEP, kswapd_round
from emu.zone.init_vm import kswapd_party, vm_of
from shm import loader
from shm.parent import end_with_parent
from shm.atomic import clock_ns, futex_wait, load_acquire
from shm.baton import MAX_SEATS, MAX_STEPS, SEAT_ABSENT, SEAT_READY, VERDICT_CRASH, VERDICT_HANG, Baton
from shm.play import BATON_ENTRIES, play, play_interpreted, start, stop_all
from shm.core import INSTRUMENTED, INTERPRETED, Entry, as_entries
from shm.point import SCHEDULED
from shm.segment import Segment
from shm.struct import address_of, offset_of, record_at, size_of

__all__ = ["RACE_ENTRIES", "Players", "load_race"]

RACE_ENTRIES: tuple[Entry, ...] = as_entries(*BATON_ENTRIES, *JUDGE_ENTRIES, *WORLD_ENTRIES, kswapd_round)
BODIES = (run_player,)
START_NS = 1_000_000_000  # virtual time at the start of a schedule
HANG_S = 20.0 if INTERPRETED else 5.0  # without a step
LOOK_NS = 20_000_000
LEARN = 16


def load_race() -> None:
    """Bind native code to what the race engine calls. In the emulator's own program it is there already."""
    if any(entry.native is None for entry in RACE_ENTRIES):
        loader.load(RACE_ENTRIES)


class Players:
    """A scenario's machine, its arena and its processes. Use as a context manager."""

    def __init__(self, scenario: Scenario, unfixed: bool = True, *, buffers: bool = False) -> None:
        """``buffers``: stores reach memory through store buffers (x86-TSO; needs EMU_MODE=instrumented)."""
        if buffers and not INSTRUMENTED:
            raise ScenarioError("store buffers: need EMU_MODE=instrumented, which sees every store")
        load_race()
        self.scenario, self.unfixed, self.buffers = scenario, unfixed, buffers
        self.pids: dict[int, int] = {}
        self.broken = False  # a process has crashed or hangs
        self.world = World(scenario, unfixed)
        try:
            self._make_arena()
        except BaseException:
            self.world.close()
            raise
        try:
            self._fork()
        except BaseException:
            self.close()
            raise

    # --- setting up ---------------------------------------------------------------------------------------------------

    def _make_arena(self) -> None:
        world, scenario = self.world, self.scenario
        m = world.m
        actors = sorted(world.actor(name) for name in {*scenario.programs, *scenario.irqs})
        if not actors or max(actors) >= MAX_SEATS:
            raise ScenarioError(f"{scenario.id}: actors must be 1 to {MAX_SEATS} of CPUs and daemons")
        if scenario.max_steps > MAX_STEPS:
            raise ScenarioError(f"{scenario.id}: max_steps {scenario.max_steps}: {MAX_STEPS} is the most")
        for name in scenario.programs:
            if name.startswith("kswapd"):
                self._put_to_sleep(int(name.removeprefix("kswapd")))
        for index in range(m.nr_parties):
            world.cpu(index).party.heartbeat = 0  # how long a setup slept in real time is nobody's business
        for index in actors:
            world.cpu(index).party.scheduled |= SCHEDULED
        chunks = self.world.board.segment.size // CHUNK
        if chunks > MAX_CHUNKS:
            raise ScenarioError(f"{scenario.id}: its machine takes {chunks >> 11} MiB, {MAX_CHUNKS >> 11} is the most")
        self.segment = Segment.create(size_of(Arena) + chunks * CHUNK)
        self.arena = record_at(Arena, self.segment.base)
        self.baton: Baton = self.arena.baton
        memory = self.arena.memory
        memory.machine = address_of(m) - self.segment.base
        memory.image = size_of(Arena)
        memory.nr_chunks = chunks
        memory.learn_until = LEARN
        for masks, words in ((memory.noise, noise_words(world)), (memory.checker, checker_words(world))):
            for word in words:
                masks[word // 64] |= 1 << word % 64 if word % 64 < 63 else -(1 << 63)
        ctypes.memmove(self.segment.base + memory.image, address_of(m), chunks * CHUNK)
        self.arena.watch.base = address_of(m)
        self.baton.buffers = self.arena.watch.buffered = int(self.buffers)
        self.arena.watch.capacity = MAX_ACCESSES if INSTRUMENTED else 0
        self.arena.kcsan.nr_sync, self.arena.kcsan.capacity = MAX_SYNC, MAX_RACES
        self._seat(actors)
        self._ask(scenario)
        plan = self.arena.plan
        for i, (where, variable) in enumerate(site_variables()):
            plan.sites[i], plan.variables[i] = where, variable
            plan.nr_sites = i + 1

    def _ask(self, scenario: Scenario) -> None:
        checks = [i for i in scenario.invariants if not i.always]
        always = [i for i in scenario.invariants if i.always]
        if max(len(checks), len(always)) > MAX_CHECKS:
            raise ScenarioError(f"{scenario.id}: more than {MAX_CHECKS} invariants")
        self.arena.nr_checks, self.arena.nr_always = len(checks), len(always)
        for i, invariant in enumerate(checks):
            self.arena.checks[i] = invariant.code
        for i, invariant in enumerate(always):
            self.arena.always[i] = invariant.code
        self.baton.always = len(always)

    def _put_to_sleep(self, nid: int) -> None:
        m = self.world.m
        k = vm_of(m).kswapds[nid]
        cpu = self.world.cpu(kswapd_party(m, nid))
        for _ in range(100):
            if k.step == KSWAPD_ASLEEP:
                return
            kswapd_round(m, cpu, m.nodes[nid])
        raise ScenarioError(f"{self.scenario.id}: kswapd{nid} finds no sleep before the first schedule")

    def _seat(self, actors: list[int]) -> None:
        m, b = self.world.m, self.baton
        b.nr_seats = actors[-1] + 1
        b.max_steps = self.scenario.max_steps
        b.start_ns = START_NS
        for index in actors:
            seat = b.seats[index]
            seat.index = index
            seat.clock_at = address_of(b) + offset_of(Baton, "clock_ns")
            seat.baton = address_of(b) - address_of(seat)
            seat.state = SEAT_READY
            seat.daemon = int(index >= m.nr_cpus)
            seat.generation = -1
        for nid in range(m.nr_nodes):
            index = kswapd_party(m, nid)
            if index in actors and vm_of(m).kswapds[nid].step == KSWAPD_ASLEEP:
                wait = m.nodes[nid].kswapd_wait
                b.seats[index].asleep_at = address_of(wait) + 4  # its sequence
                b.seats[index].asleep_value = vm_of(m).kswapds[nid].cookie

    def _fork(self) -> None:
        parent = os.getpid()
        cores = sorted(os.sched_getaffinity(0))
        core_number = cores[parent % len(cores)]
        for index in range(self.baton.nr_seats):
            if self.baton.seats[index].state == SEAT_ABSENT:
                continue
            pid = os.fork()
            if pid == 0:
                status = 70
                try:
                    end_with_parent(signal.SIGKILL)
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    if os.getppid() == parent:
                        os.sched_setaffinity(0, {core_number})
                        (play_interpreted if INTERPRETED else play)(self.baton, index)
                    status = 0
                finally:
                    os._exit(status)
            self.pids[index] = pid

    # --- playing ------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Memory as it was before the first schedule."""
        put_back(self.baton)

    def wait(self, until: Callable[[], bool] = lambda: False, seen: int | None = None) -> bool:
        """Wait until the parent is wanted. False: ``until`` said so before, or a process is gone or stuck (then
        ``baton.verdict`` says which)."""
        b = self.baton
        known = b.parent if seen is None else seen
        progress, looks = (-1, -1), 0  # looks, not the clock: this process may be what stands still
        while load_acquire(b, "parent") == known:
            futex_wait(b, "parent", known, 0xFFFFFFFF, clock_ns() + LOOK_NS)
            if load_acquire(b, "parent") != known:
                break
            if self._dead():
                b.verdict, b.culprit, self.broken = VERDICT_CRASH, b.current, True
                return False
            now = (b.generation, b.steps)
            if now != progress:
                progress, looks = now, 0
            elif looks * LOOK_NS > HANG_S * 1e9:
                b.verdict, b.culprit, self.broken = VERDICT_HANG, b.current, True
                return False
            else:
                looks += 1
            if until():
                self.arena.plan.limit = 0  # the schedule that runs is the last
        return True

    def _dead(self) -> bool:
        for index, pid in list(self.pids.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del self.pids[index]
                return True
        return False

    def batch(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Play schedules until the plan says stop. False: a process crashed or hangs."""
        self.revive()
        seen = self.baton.parent
        begin_batch(self.baton)
        if not start(self.baton):
            return True
        return self.wait(until, seen)

    def revive(self) -> None:
        """New processes, if one has crashed or hung; the log stays until the next schedule begins."""
        if not self.broken:
            return
        self._kill()
        for seat in self.baton.seats[: self.baton.nr_seats]:
            seat.turn, seat.generation = 0, -1
        self.broken = False
        self._fork()

    def digest(self) -> int:
        """Of all the machine's memory as it is now."""
        return int(digest_all(self.baton))

    def learn(self) -> int:
        """Find what has changed and isn't put back yet."""
        return int(learn_chunks(self.baton))

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the processes, remove all memory."""
        if self.pids and not self.broken:
            stop_all(self.baton)
            deadline = time.monotonic() + 2
            while self.pids and time.monotonic() < deadline:
                self._dead()
                if self.pids:
                    time.sleep(0.0005)
        self._kill()
        self.segment.unlink()
        self.world.close()

    def _kill(self) -> None:
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pids.clear()

    def __enter__(self) -> "Players":
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
