"""Reports of the happens-before checker (:mod:`emu.race.kcsan`), in KCSAN's format."""

from collections.abc import Hashable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from emu.race.explore import play_batch
from emu.race.players import RACE_ENTRIES, Players
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import actor_name
from emu.race.words import field_at
from shm.access import ACCESS_ACQUIRE, ACCESS_ATOMIC, ACCESS_ONCE, ACCESS_RELEASE, ACCESS_WRITE
from shm.core import INSTRUMENTED
from shm.program import closure
from shm.seen import function_number

__all__ = ["DataRace", "Side", "data_races", "kcsan_text"]

RULE = "=" * 66
BOOKS = ("scenario.ghost", "scenario.slots")  # what scenarios keep for themselves


@dataclass(frozen=True)
class Side:
    """One of the two accesses."""

    function: str
    access: str  # as KCSAN says it: "read", "write", "read-write", with "(marked)"
    actor: str


@dataclass(frozen=True)
class DataRace:
    """Two accesses to one field that nothing orders, one of them plain; and in how many schedules it was seen."""

    field: str
    nr_bytes: int
    first: Side
    second: Side
    count: int

    @property
    def pair(self) -> Hashable:
        """What one report is for: the field and the two functions, whichever came first (``rate_limit_report()``)."""
        sides = frozenset((side.function, side.access) for side in (self.first, self.second))
        return self.field, self.nr_bytes, sides

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


@cache
def _functions() -> dict[int, str]:
    return {function_number(info.body.__name__): info.body.__name__ for info in closure(RACE_ENTRIES).values()}


def _access(flags: int) -> str:
    what = "read-write" if flags & ACCESS_ATOMIC else "write" if flags & ACCESS_WRITE else "read"
    marked = flags & (ACCESS_ONCE | ACCESS_ACQUIRE | ACCESS_RELEASE | ACCESS_ATOMIC)
    return f"{what} (marked)" if marked else what


def data_races(
    scenario: Scenario, *, unfixed: bool = True, strategy: str = "random", seed: int = 1, schedules: int = 1000,
    seconds: float = 10.0,
) -> tuple[list[DataRace], bool]:  # fmt: skip
    """Play schedules and return the data races that they had, by field, and whether there was room for all of them.

    Needs EMU_MODE=instrumented.
    """
    if not INSTRUMENTED:
        raise ScenarioError("data races: need EMU_MODE=instrumented, which sees what steps access")
    with Players(scenario, unfixed) as players:
        players.arena.kcsan.on = 1
        play_batch(players, strategy, seed=seed, schedules=schedules, seconds=seconds, stop_at_failure=False)
        m, kcsan = players.world.m, players.arena.kcsan
        found: dict[Hashable, DataRace] = {}
        for race in kcsan.races[: kcsan.nr]:
            if field_at(m, race.at).startswith(BOOKS):
                continue
            one = Side(_functions().get(race.other_where, "-"), _access(race.other_flags),
                       actor_name(scenario, race.other_actor))  # fmt: skip
            two = Side(_functions().get(race.where, "-"), _access(race.flags), actor_name(scenario, race.actor))
            seen = DataRace(field_at(m, race.at), int(race.nr_bytes), one, two, int(race.count))
            before = found.get(seen.pair)
            found[seen.pair] = replace(before, count=before.count + seen.count) if before else seen
        ordered = sorted(found.values(), key=lambda race: (race.field, race.first.function, race.second.function))
        return ordered, not kcsan.cut


def kcsan_text(race: DataRace) -> str:
    """As the kernel prints it; an address is a field's name, and there are no offsets into functions."""
    lines = [RULE, f"BUG: KCSAN: data-race in {race.first.function} / {race.second.function}", ""]
    for side in (race.first, race.second):
        what, marked, _ = side.access.partition(" (marked)")
        lines.append(f"{what}{marked} to {race.field} of {race.nr_bytes} bytes by {side.actor}:")
        lines += [f" {side.function}", ""]
    return "\n".join([*lines[:-1], RULE])
