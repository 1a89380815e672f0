"""A schedule as one line of text: where the baton went to somebody else than it would have by itself.

    emu-race/1 R12 unfixed seed=7 cpu0@free_unref_page_prepare:read+migratetype*1>cpu1 cpu1@end*1>cpu0

Each switch says who stood where, the how-manieth time, and who went on. Between two switches the same actor goes on as
long as it can, then the task below an interrupt, then the first actor that can. Points are named, not numbered, so a
schedule still means the same when points are added elsewhere.
"""

import re
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from emu.race.scenario import Scenario, ScenarioError
from shm.baton import CONTEXTS, S_START
from shm.point import site_name, site_names

if TYPE_CHECKING:
    from emu.race.players import Players

__all__ = ["VERSION", "Schedule", "Switch", "actor_name", "actor_number", "reduced", "schedule_of"]

VERSION = "emu-race/1"
_HEAD = re.compile(r"(emu-race/\d+) (\S+) (fixed|unfixed) seed=([0-9]{1,19})(?: drop=(\S+))?((?: \S+)*)")
_SWITCH = re.compile(r"([a-z_0-9]+)@(.+)\*([1-9][0-9]{0,8})>([a-z_0-9]+)")


@dataclass(frozen=True)
class Switch:
    """When ``actor`` stands at ``site`` for the ``visit``-th time, ``target`` goes on."""

    actor: str
    site: str
    visit: int
    target: str

    def __str__(self) -> str:
        return f"{self.actor}@{self.site.replace(' ', '+')}*{self.visit}>{self.target}"


@dataclass(frozen=True)
class Schedule:
    """A schedule of a scenario's variant."""

    scenario: str
    unfixed: bool
    seed: int
    switches: tuple[Switch, ...]
    dropped: tuple[str, ...] = ()  # of the scenario: actors ("cpu2", "irq0"), operations ("cpu0.1": its second)

    def __str__(self) -> str:
        head = f"{VERSION} {self.scenario} {'unfixed' if self.unfixed else 'fixed'} seed={self.seed}"
        drop = [f"drop={','.join(self.dropped)}"] if self.dropped else []
        return " ".join([head, *drop, *map(str, self.switches)])

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """From one line. Raises ScenarioError with what is wrong with it."""
        line = " ".join(text.split())
        head = _HEAD.fullmatch(line)
        if not head:
            raise ScenarioError(f"schedule: {line[:60]!r} does not begin with '{VERSION} ID fixed|unfixed seed=N'")
        if head[1] != VERSION:
            raise ScenarioError(f"schedule: version {head[1]}, this program knows {VERSION}")
        switches = []
        for word in head[6].split():
            found = _SWITCH.fullmatch(word)
            if not found:
                raise ScenarioError(f"schedule: {word!r} is no switch such as cpu0@rmqueue_bulk:lock*1>cpu1")
            switches.append(Switch(found[1], found[2].replace("+", " "), int(found[3]), found[4]))
        dropped = tuple(head[5].split(",")) if head[5] else ()
        return cls(head[2], head[3] == "unfixed", int(head[4]), tuple(switches), dropped)

    def without(self, drop: set[int]) -> "Schedule":
        """The same without some of its switches."""
        return replace(self, switches=tuple(s for i, s in enumerate(self.switches) if i not in drop))


def schedule_in(text: str) -> Schedule | None:
    """The first line of a text that is a schedule; None: there is none. Raises ScenarioError if it is a broken one."""
    lines = (line.strip() for line in text.splitlines())
    return next((Schedule.parse(line) for line in lines if line.startswith("emu-race/")), None)


def reduced(scenario: Scenario, dropped: tuple[str, ...]) -> Scenario:
    """The scenario without some of its actors and operations. Raises ScenarioError if it hasn't got them."""
    programs, irqs = dict(scenario.programs), {f"irq{cpu[3:]}": ops for cpu, ops in scenario.irqs.items()}
    kept: dict[str, list[Any]] = {
        **{name: list(ops) for name, ops in programs.items()}, **{name: list(ops) for name, ops in irqs.items()},
    }  # fmt: skip
    for what in dropped:
        name, _, number = what.partition(".")
        if name not in kept or (
            number and not (number.isascii() and number.isdigit() and len(number) < 6 and int(number) < len(kept[name]))
        ):
            raise ScenarioError(f"schedule: {scenario.id} has no {what} that could be dropped")
        if number:
            kept[name][int(number)] = None
        else:
            del kept[name]
    return replace(
        scenario, dropped=dropped,
        programs={n: tuple(o for o in ops if o is not None) for n, ops in kept.items() if n in programs},
        irqs={f"cpu{n[3:]}": tuple(o for o in ops if o is not None) for n, ops in kept.items() if n in irqs},
    )  # fmt: skip


def actor_name(scenario: Scenario, actor: int) -> str:
    """``cpu0``, ``kswapd0``, ``irq0``, ``work1``; ``start`` for nobody (-1)."""
    if actor < 0:
        return "start"
    seat, kind = actor & 15, actor >> 4
    if kind:
        return f"{CONTEXTS[kind]}{seat}"
    cpus, nodes = len(scenario.shape.cpu_node), scenario.shape.nodes
    if seat < cpus:
        return f"cpu{seat}"
    daemon = seat - cpus
    if daemon < 2 * nodes:
        return f"{('kswapd', 'kcompactd')[daemon // nodes]}{daemon % nodes}"
    return ("disk", "flusher", "oom_reaper")[daemon - 2 * nodes]


def actor_number(scenario: Scenario, name: str) -> int:
    """The number behind :func:`actor_name`."""
    for actor in range(-1, 3 * 16):
        if actor & 15 < 15 or actor < 0:
            try:
                if actor_name(scenario, actor) == name:
                    return actor
            except IndexError:
                continue
    raise ScenarioError(f"schedule: {scenario.id} has no actor {name!r}")


def site_number(name: str) -> int:
    """The number of a named point. Raises ScenarioError if there is none of this name."""
    number = zlib.crc32(name.encode()) & 0x7FFFFFFF
    if not any(known == number for known, _ in site_names()):
        raise ScenarioError(f"schedule: there is no point {name!r}")
    return number


def fallback(before: int, enabled: int) -> int:
    """Who goes on by itself: as ``shm.baton.fallback()``."""
    if before >= 0:
        if enabled >> before & 1:
            return before
        if enabled >> (before & 15) & 1:
            return before & 15
    return (enabled & -enabled).bit_length() - 1


def schedule_of(players: "Players", seed: int = 0) -> Schedule:
    """The schedule that was played last, from its log."""
    scenario, b = players.scenario, players.baton
    visits: Counter[tuple[int, int]] = Counter()
    switches = []
    for step in b.log[: b.steps]:
        where = step.stand if step.before >= 0 else S_START
        visits[step.before, where] += 1
        if step.actor != fallback(step.before, step.enabled):
            who, target = actor_name(scenario, step.before), actor_name(scenario, step.actor)
            switches.append(Switch(who, site_name(where), visits[step.before, where], target))
    return Schedule(scenario.id, players.unfixed, seed, tuple(switches), scenario.dropped)
