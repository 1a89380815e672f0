"""How a schedule ended, in words."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from emu.race.invariants import INVARIANTS
from emu.race.schedule import actor_name
from emu.race.words import waits_for
from shm.baton import (
    SEAT_ABSENT, SEAT_DONE, VERDICT_CRASH, VERDICT_DEADLOCK, VERDICT_HANG, VERDICT_INVARIANT, VERDICT_LIVELOCK,
    VERDICT_OK, VERDICT_STEPS, VERDICTS,
)  # fmt: skip
from shm.point import site_name

if TYPE_CHECKING:
    from emu.race.players import Players

__all__ = ["Verdict", "verdict_of"]


@dataclass(frozen=True)
class Verdict:
    """``kind``: one of ``shm.baton.VERDICTS``; ``who``: the actor it was found at; ``text``: what is wrong."""

    kind: str
    who: str = ""
    invariant: str = ""
    text: str = ""
    value: int = 0

    @classmethod
    def fine(cls) -> "Verdict":
        """Nothing is wrong."""
        return cls("ok")

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.kind == "ok"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return self.kind if self.ok else f"{self.kind}: {self.text}"


def verdict_of(players: "Players") -> Verdict:
    """The verdict on the schedule that was played last."""
    b, scenario = players.baton, players.scenario
    who = actor_name(scenario, b.culprit) if b.culprit >= 0 else ""
    if b.verdict == VERDICT_OK or b.verdict >= len(VERDICTS) - 1:
        return Verdict.fine()
    if b.verdict == VERDICT_INVARIANT:
        code, value = (b.detail >> 32) - 1, (b.detail & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)  # the low half has a sign
        invariant = next(i for i in (*scenario.invariants, *INVARIANTS.values()) if i.code == code)
        return Verdict(invariant.verdict, who, invariant.name, f"{invariant.sentence} (found {value})", int(value))
    if b.verdict == VERDICT_DEADLOCK:
        blocked = [seat for seat in b.seats[: b.nr_seats] if seat.state not in (SEAT_ABSENT, SEAT_DONE)]
        waits = {
            actor_name(scenario, seat.index + 16 * seat.context): waits_for(players, seat)
            for seat in blocked
            if not seat.daemon or seat.context
        }
        lost = all(wait.endswith("wake-up") for wait in waits.values())
        text = "; ".join(f"{name} waits for {what}" for name, what in waits.items())
        return Verdict("lost wake-up" if lost else "deadlock", who, text=text)
    stand = site_name(b.seats[b.culprit & 15].site) if b.culprit >= 0 else "-"
    texts = {
        VERDICT_LIVELOCK: f"{who} comes to {stand} again and again, and finds everything as it was",
        VERDICT_STEPS: f"more than {b.max_steps} steps",
        VERDICT_CRASH: f"a process died after {who} went on from {stand}",
        VERDICT_HANG: f"{who} went on from {stand} and reaches no other point",
    }
    return Verdict(VERDICTS[b.verdict], who, text=texts[b.verdict])
