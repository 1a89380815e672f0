"""Playing a schedule many times: does it go the same way each time, to the last byte?"""

import ctypes
from dataclasses import dataclass
from hashlib import blake2b

from emu.race.players import Players
from emu.race.replay import replay
from emu.race.schedule import Schedule
from emu.race.verdict import Verdict
from shm.baton import Step
from shm.struct import address_of, size_of

__all__ = ["Again", "play_again"]


@dataclass(frozen=True)
class Again:
    """What replays had in common. ``log``: a digest of the scheduler's log - who went on, at which point, who could
    have; ``memory``: of all the machine's memory at the end."""

    verdict: Verdict
    log: str
    memory: str
    times: int
    differs: int = 0  # the number of the first replay that went otherwise

    @property
    def identical(self) -> bool:
        """Whether all of them were the same."""
        return not self.differs

    @property
    def alive(self) -> bool:
        """Whether the players are there still."""
        return self.verdict.kind not in ("crash", "hang")

    def __str__(self) -> str:
        if self.differs:
            return f"NOT deterministic: replay {self.differs:,} of {self.times:,} went otherwise"
        what = f"event log {self.log}, memory {self.memory}"
        return f"played {self.times:,} times, all identical: {what}" if self.times > 1 else f"played once: {what}"


def _log(players: Players) -> str:
    b = players.baton
    size = int(b.steps) * size_of(Step)
    return blake2b(ctypes.string_at(address_of(b.log[0]), size), digest_size=8).hexdigest()


def play_again(players: Players, schedule: Schedule, times: int = 1) -> Again:
    """Replay a schedule so often at full speed, up to the first that differs. Raises ReplayDrift as replay() does."""
    first: tuple[Verdict, str, str] | None = None
    for number in range(1, times + 1):
        verdict = replay(players, schedule).verdict
        seen = verdict, _log(players), f"{players.digest():016x}"
        first = first or seen
        if seen != first or verdict.kind in ("crash", "hang"):
            return Again(*first, times=number, differs=0 if seen == first else number)
    assert first is not None
    return Again(*first, times=times)
