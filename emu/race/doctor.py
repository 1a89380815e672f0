"""Does anything but the order of steps decide? Schedules are played twice and compared.

A schedule that is to be replayed tomorrow must not depend on the clock, on random numbers, on addresses, or on memory
that isn't put back between schedules. So each is played once by a strategy and once more by its own line of text, and
both must agree in the scheduler's log - who went on, at which point, who could have - and in the last byte of the
machine's memory. One that doesn't is played twice more, step by step, to say at which point it begins to differ.

Prior art: shuttle's ``uncontrolled_nondeterminism`` scheduler, which compares who could run, but no memory.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu.race.arena import CHUNK
from emu.race.explore import play_batch
from emu.race.players import Players
from emu.race.replay import ReplayDrift, replay
from emu.race.schedule import Schedule, actor_name, schedule_of
from emu.race.stepper import Stepper
from emu.race.words import field_at
from shm.baton import S_END, Step
from shm.point import site_name
from shm.struct import address_of, size_of

__all__ = ["Diagnosis", "Difference", "check_determinism"]

WORD = 8
MOST = 3  # fields that are named

Changes = dict[int, int]  # words of memory that aren't as at first


@dataclass(frozen=True)
class Difference:
    """Where a schedule went two ways.

    ``number``: of the schedule, from 1; ``step``: of its steps, from 1, the one that ``actor`` began at ``point``; 0:
    nobody knows which.
    """

    schedule: Schedule
    number: int
    step: int
    actor: str
    point: str
    what: str

    def __str__(self) -> str:
        where = f"step {self.step}, {self.actor} at {self.point}" if self.step else "at the end"
        return f"schedule {self.number}, {where}: {self.what}"


@dataclass(frozen=True)
class Diagnosis:
    """What came of it."""

    scenario: str
    schedules: int  # played twice
    difference: Difference | None = None
    ended: str = ""  # a schedule after which nobody was left to play

    @property
    def deterministic(self) -> bool:
        """Whether all of them went the same way twice."""
        return self.difference is None

    def __str__(self) -> str:
        if self.difference is None:
            ended = f"; then {self.ended}" if self.ended else ""
            return f"{self.scenario}: {self.schedules:,} schedules played twice, all identical{ended}"
        return (
            f"{self.scenario}: NOT deterministic: {self.difference}\n"
            "something besides the order of steps decides: the clock, a random number, an address, or memory that "
            "isn't put back\n"
            f"{self.difference.schedule}"
        )


@dataclass(frozen=True)
class _Played:
    verdict: str
    log: bytes
    changes: Changes


@dataclass(frozen=True)
class _Stepped:
    actor: str
    point: str
    stands: str
    enabled: tuple[str, ...]
    changes: Changes


class _Patient:
    """Players under examination."""

    def __init__(self, players: Players) -> None:
        self.players = players
        memory, base = players.arena.memory, players.segment.base
        size = memory.nr_chunks * CHUNK
        self.now = self._words(address_of(players.world.m), size)
        self.first = self._words(base + memory.image, size)

    @staticmethod
    def _words(at: int, size: int) -> Any:
        raw: Any = (ctypes.c_uint8 * size).from_address(at)
        return np.frombuffer(raw, dtype=np.int64)

    def changes(self) -> Changes:
        words = np.flatnonzero(self.now != self.first)
        return dict(zip(words.tolist(), self.now[words].tolist(), strict=True))

    def played(self, verdict: str) -> _Played:
        b = self.players.baton
        log = ctypes.string_at(address_of(b.log[0]), b.steps * size_of(Step))
        return _Played(verdict, log, self.changes())

    def step_by_step(self, actors: list[str]) -> Iterator[_Stepped]:
        """The schedule as its log has it, as far as it can be played."""
        stepper = Stepper(self.players)
        stepper.begin()
        enabled = stepper.enabled()
        for actor in actors:
            if actor not in enabled:
                break
            point = stepper.where(actor)
            stands = stepper.step(actor)
            enabled = stepper.enabled()
            yield _Stepped(actor, point, stands, tuple(enabled), self.changes())
        stepper.end()

    def words_of(self, one: Changes, two: Changes) -> str:
        """Fields in which two states differ."""
        m, first = self.players.world.m, self.first
        differ = sorted(word for word in one.keys() | two.keys() if one.get(word) != two.get(word))
        told = [
            f"{field_at(m, word * WORD)} is {one.get(word, int(first[word]))}, then {two.get(word, int(first[word]))}"
            for word in differ[:MOST]
        ]
        more = f" and {len(differ) - MOST:,} words more" if len(differ) > MOST else ""
        return "; ".join(told) + more


def _actors(players: Players, log: bytes) -> list[Step]:
    size = size_of(Step)
    return [Step.from_buffer_copy(log, i * size) for i in range(len(log) // size)]


def _at_step(patient: _Patient, names: list[str]) -> tuple[int, str, str, str] | None:
    """Step by step: the first step that differs, who made it, from which point, and how it differs."""
    one, two = list(patient.step_by_step(names)), list(patient.step_by_step(names))
    for i, (a, b) in enumerate(zip(one, two, strict=False)):
        how = ""
        if a.stands != b.stands:
            how = f"it comes to {a.stands}, then to {b.stands}"
        elif a.changes != b.changes:
            how = patient.words_of(a.changes, b.changes)
        elif a.enabled != b.enabled:
            how = f"{', '.join(a.enabled) or 'nobody'} can go on, then {', '.join(b.enabled) or 'nobody'}"
        if how:
            return i + 1, a.actor, a.point, how
    return None


def _in_log(players: Players, one: bytes, two: bytes) -> tuple[int, str, str, str] | None:
    """From the logs of two runs at full speed."""
    first, second = _actors(players, one), _actors(players, two)

    def told(step: Step) -> str:
        return f"{actor_name(players.scenario, step.actor)} at {site_name(step.site)}"

    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if bytes(a) != bytes(b):
            how = f"{told(a)} goes on, then {told(b)}" if told(a) != told(b) else "others can go on the second time"
            return i + 1, actor_name(players.scenario, a.actor), site_name(a.site), how
    if len(first) != len(second):
        last = (first or second)[-1]
        how = f"it takes {len(first)} steps, then {len(second)}"
        return min(len(first), len(second)), actor_name(players.scenario, last.actor), site_name(last.site), how
    return None


def _compare(patient: _Patient, schedule: Schedule, number: int, one: _Played) -> Difference | None:
    """Play a schedule that has just been played once more, by its line of text."""
    players = patient.players
    try:
        two = patient.played(str(replay(players, schedule).verdict))
        drift = ""
    except ReplayDrift as err:
        two, drift = one, str(err)
    if two == one and not drift:
        return None
    names = [actor_name(players.scenario, step.actor) for step in _actors(players, one.log)]
    found = _at_step(patient, names) or _in_log(players, one.log, two.log)
    if found is None:
        how = drift or patient.words_of(one.changes, two.changes) or f"{one.verdict}, then {two.verdict}"
        found = 0, "", site_name(S_END), how
    return Difference(schedule, number, *found)


def check_determinism(players: Players, schedules: int = 100, *, strategy: str = "random", seed: int = 1) -> Diagnosis:
    """Play so many schedules of a strategy, each with a seed of its own, twice; up to the first that
    differs, or that kills a process: nobody is left to play it again."""
    patient = _Patient(players)
    for number in range(1, schedules + 1):
        result = play_batch(players, strategy, seed=seed + number - 1, schedules=1, may_drift=True)
        if result.verdict.kind in ("crash", "hang"):
            return Diagnosis(players.scenario.id, number - 1, ended=str(result.verdict))
        one = patient.played(str(result.verdict))
        schedule = schedule_of(players, seed + number - 1)
        difference = _compare(patient, schedule, number, one)
        if difference is not None:
            return Diagnosis(players.scenario.id, number, difference)
    return Diagnosis(players.scenario.id, schedules)
