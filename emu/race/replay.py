"""Replaying a schedule: at full speed, or step by step with everything that it writes."""

import ctypes
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from emu.race.explore import Result, play_batch
from emu.race.plan import MAX_SWITCHES
from emu.race.players import Players
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import Schedule, Switch, actor_name, actor_number, fallback, site_number
from emu.race.stepper import Stepper
from emu.race.verdict import Verdict
from emu.race.witness import Did, Witness
from emu.race.words import place_of
from emu.zone.page import link_to_pfn
from shm.baton import S_START
from shm.point import site_name
from shm.struct import address_of

__all__ = [
    "MachineMemory",
    "Recording",
    "ReplayDrift",
    "Seen",
    "Write",
    "from_log",
    "load_schedule",
    "record",
    "replay",
]


class ReplayDrift(ScenarioError):
    """A schedule can't be played as it is written: which switch, and what was found instead."""


def load_schedule(players: Players, schedule: Schedule, lenient: bool = False) -> None:
    """Put a schedule's switches into the plan."""
    scenario = players.scenario
    if schedule.scenario != scenario.id:
        raise ScenarioError(f"schedule: it is one of {schedule.scenario}, not of {scenario.id}")
    if len(schedule.switches) > MAX_SWITCHES:
        raise ScenarioError(f"schedule: {len(schedule.switches)} switches, {MAX_SWITCHES} is the most")
    plan = players.arena.plan
    plan.nr_switches, plan.lenient = len(schedule.switches), int(lenient)
    for record, switch in zip(plan.switches, schedule.switches, strict=False):
        record.actor = actor_number(scenario, switch.actor)
        record.site, record.visit = site_number(switch.site), switch.visit
        record.target = actor_number(scenario, switch.target)


def replay(players: Players, schedule: Schedule, lenient: bool = False) -> Result:
    """Play a schedule once. Raises ReplayDrift if it can't be played as written, unless ``lenient``."""
    load_schedule(players, schedule, lenient)
    result = play_batch(players, "replay", seed=schedule.seed, schedules=1, may_drift=True)
    drift = players.arena.plan.drift
    if drift:
        raise ReplayDrift(_drift_text(players, schedule, drift - 1))
    return result


def _drift_text(players: Players, schedule: Schedule, index: int) -> str:
    switch = schedule.switches[index]
    what = f"{schedule.scenario}: switch {index + 1} of {len(schedule.switches)}, {switch}"
    stepper = Stepper(players)
    stands = stepper.where(switch.actor) if switch.actor != "start" else "start"
    if stands == switch.site and players.baton.verdict:
        return f"{what}: {switch.target} can't go on there, it stands at {stepper.where(switch.target)}"
    if _came(players, switch):
        return f"{what}: {switch.target} could not go on there"
    return f"{what}: never came; {switch.actor} went on to {stands}"


def _came(players: Players, switch: Switch) -> bool:
    """Whether the switch's actor stood where it is to be made, in the schedule that was played last."""
    if switch.actor == "start":
        return True
    actor, site = actor_number(players.scenario, switch.actor), site_number(switch.site)
    b = players.baton
    return sum(step.before == actor and step.stand == site for step in b.log[: b.steps]) >= switch.visit


@dataclass(frozen=True)
class Write:
    """A field of shared memory that a step changed. Values of a link of a list are pfns; -1: the list's head."""

    name: str
    old: int
    new: int


@dataclass(frozen=True)
class Seen:
    """One step: the actor, the point it went on from, and what it wrote up to its next point.

    ``preempts``: the actor before could have gone on. ``value``: of the variable that the point is named after.
    ``did``: the operations that it began or ended. ``stands``: why the actor can't go on after it (``end``, ``waits for
    zone lock, held by cpu1``); empty: it can.
    """

    actor: str
    point: str
    preempts: str = ""
    enabled: tuple[str, ...] = ()
    writes: tuple[Write, ...] = ()
    value: str = ""
    did: tuple[Did, ...] = ()
    stands: str = ""


@dataclass
class Recording:
    """A schedule as it was seen."""

    scenario: str
    title: str
    unfixed: bool
    schedule: str
    verdict: Verdict
    steps: list[Seen] = field(default_factory=list)
    digest: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class MachineMemory:
    """The machine's memory, to see what a step has changed."""

    def __init__(self, players: Players) -> None:
        self.m = players.world.m
        memory = players.arena.memory
        size = memory.nr_chunks * 512
        raw: Any = (ctypes.c_uint8 * size).from_address(address_of(self.m))
        self.now = np.frombuffer(raw, dtype=np.int64)
        masks = np.array(memory.noise[: memory.nr_chunks], dtype=np.int64)
        bits = (masks[:, None] >> np.arange(64, dtype=np.int64)) & 1
        self.matters = bits.reshape(-1) == 0
        self.before = self.now.copy()

    def changes(self) -> tuple[Write, ...]:
        """Fields that differ from the last time, by name."""
        words = np.flatnonzero((self.now != self.before) & self.matters)
        old, new = self.before[words].tobytes(), self.now[words].tobytes()
        self.before[words] = self.now[words]
        found: dict[str, Write] = {}
        for i, word in enumerate(words):
            at = 0
            while at < 8:
                name, ctype, inside = place_of(self.m, int(word) * 8 + at)
                size = ctypes.sizeof(ctype) - inside if ctype is not None else 1
                piece = slice(8 * i + at, 8 * i + at + size)
                if old[piece] != new[piece] and _is_shown(name):
                    signed = ctype is not None and ctype(-1).value < 0
                    values = [int.from_bytes(b[piece], "little", signed=signed) for b in (old, new)]
                    if name.endswith((".next", ".prev")):
                        values = [self._linked(value) for value in values]
                    if values[0] != values[1]:  # else: one head for another
                        found.setdefault(name, Write(name, *values))
                at += size
        return tuple(found.values())

    def _linked(self, link: int) -> int:
        pfn = link_to_pfn(self.m, link)
        return pfn if 0 <= pfn < self.m.max_pfn else -1


_HIDDEN = (".acquisitions", "scenario.programs", "scenario.ops", ".lock.word", "_lock.word", ".last_site")


def _is_shown(name: str) -> bool:
    return name != "m" and not any(hidden in name for hidden in _HIDDEN)


def record(players: Players, schedule: Schedule) -> Recording:
    """Play a schedule step by step. Raises ReplayDrift as :func:`replay` does."""
    result = replay(players, schedule)
    if result.verdict.kind in ("crash", "hang"):  # there is nobody left to play it step by step
        return from_log(players, schedule, result.verdict)
    scenario = players.scenario
    out = Recording(scenario.id, scenario.title, players.unfixed, str(schedule), result.verdict)
    switches = list(schedule.switches)
    visits: Counter[tuple[str, str]] = Counter()
    stepper = Stepper(players)
    stepper.begin()
    memory, witness = MachineMemory(players), Witness(players)
    before = -1
    names = stepper.enabled()
    while names:
        mask = _mask(scenario, names)
        who = actor_name(scenario, before)
        where = stepper.where(who) if before >= 0 else site_name(S_START)
        visits[who, where] += 1
        actor = fallback(before, mask)
        due = switches[0] if switches else None
        if due and (due.actor, due.site, due.visit) == (who, where, visits[who, where]):
            actor = actor_number(scenario, switches.pop(0).target)
        name = actor_name(scenario, actor)
        preempts = who if before >= 0 and before != actor and mask >> before & 1 else ""
        point = stepper.where(name)
        if point == "end" and actor >> 4:
            point = "interrupt" if actor >> 4 == 1 else "work"
        value, slots = witness.value(actor, name, point), witness.slots()
        stepper.step(name)
        writes, did = memory.changes(), tuple(witness.operations(actor, slots))
        enabled, names = tuple(names), stepper.enabled()
        stands = witness.stands(actor, _mask(scenario, names))
        out.steps.append(Seen(name, point, preempts, enabled, writes, value, did, stands))
        before = actor
    out.digest = players.digest()
    verdict = stepper.end()
    if verdict.kind != result.verdict.kind:
        raise ReplayDrift(f"{scenario.id}: step by step it ends with {verdict}, at full speed with {result.verdict}")
    out.verdict = verdict
    return out


def from_log(players: Players, schedule: Schedule, verdict: Verdict) -> Recording:
    """What the scheduler has written down of the schedule that was played last: who went on, and where."""
    scenario, b = players.scenario, players.baton
    out = Recording(scenario.id, scenario.title, players.unfixed, str(schedule), verdict)
    on: dict[int, int] = {}  # seat -> its actor so far
    for step in b.log[: b.steps]:
        seat, kind = step.actor & 15, step.actor >> 4
        begins = kind and on.get(seat) != step.actor
        on[seat] = step.actor
        could = tuple(actor_name(scenario, a) for a in range(step.enabled.bit_length()) if step.enabled >> a & 1)
        preempted = step.before >= 0 and step.before != step.actor and step.enabled >> step.before & 1
        point = ("interrupt" if kind == 1 else "work") if begins else site_name(step.site)
        name = actor_name(scenario, step.actor)
        out.steps.append(Seen(name, point, actor_name(scenario, step.before) if preempted else "", could))
    return out


def _mask(scenario: Scenario, names: Iterable[str]) -> int:
    """A set of actors as a mask."""
    return sum(1 << actor_number(scenario, name) for name in names)
