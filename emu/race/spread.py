"""Exploration over several workers, with the same result whatever their number.

Sampling is cut into parts of :data:`CHUNK` schedules with seeds of their own, an exhaustive search by prefix (see
``emu.race.parts``). Parts are kept in the order in which one worker would play them, and their results are added up in
that order: up to the first that failed, as if nobody had begun the later ones. So one worker or ten explore the same
schedules and find the same failure, unless time runs out.
"""

import time
from dataclasses import dataclass, field

from emu.race.crew import Batch, Crew, Here, Workers
from emu.race.explore import ALL, Result, bounded, explore
from emu.race.parts import Path, Values
from emu.race.plan import STRATEGIES
from emu.race.scenario import Scenario, ScenarioError
from emu.race.schedule import Schedule
from emu.race.verdict import Verdict

__all__ = ["CHUNK", "CLUSTER_SLICE_S", "MAX_JOBS", "SLICE_S", "seed_of", "spread"]

CHUNK = 1000  # schedules of a part that samples
SLICE_S = 0.25  # how long a worker searches before it gives the rest of its subtree back
CLUSTER_SLICE_S = 2.0  # one that has to be started for it
FIRST_SLICE_S = 0.02  # of a search: short, so that there soon is something for everybody
MAX_JOBS = 256
ONE_WORKER = ("dpor", "robin", "replay")
SEED_BITS = 62


def seed_of(seed: int, part: int) -> int:
    """The seed of a part that samples: the exploration's own for the first. Neighbouring seeds share no part."""
    return (seed + (part << 32)) & (1 << SEED_BITS) - 1


@dataclass
class _Part:
    values: Values
    ticket: int = -1  # it is being played
    answer: Values | None = None


@dataclass
class _Sum:
    """What the parts add up to, in order."""

    schedules: int = 0
    failures: int = 0
    pruned: int = 0
    steps: int = 0
    most_steps: int = 0
    handoffs: int = 0
    cut: int = 0
    last: Values = field(default_factory=dict)
    seed: int = 0  # of the first that failed

    def add(self, part: _Part) -> None:
        answer = part.answer
        assert answer is not None
        if answer["failures"] and not self.failures:
            self.seed = part.values["seed"]
        for name in ("schedules", "failures", "pruned", "steps", "handoffs"):
            setattr(self, name, getattr(self, name) + answer[name])
        self.most_steps = max(self.most_steps, answer["most_steps"])
        self.cut |= answer["cut"]
        self.last = answer


@dataclass
class _Exploration:
    """Parts in order: played ones at the front have been added up and are gone."""

    common: Values
    limit: int
    slice_s: float
    deadline: float
    parts: list[_Part] = field(default_factory=list)
    sum: _Sum = field(default_factory=_Sum)
    made: int = 0  # parts that sample
    tickets: int = 0
    over: bool = False  # nothing that is still to be played counts

    def __post_init__(self) -> None:
        if self.searches:
            self.parts.append(self._search([], FIRST_SLICE_S))

    @property
    def searches(self) -> bool:
        return bool(self.common["strategy"] == "exhaustive")

    @property
    def stops(self) -> bool:
        return bool(self.common["stop"])

    def _search(self, path: Path, slice_s: float) -> _Part:
        return _Part({**self.common, "path": path, "schedules": self.limit, "slice": slice_s})

    def _sample(self) -> _Part | None:
        """The next part of a sampling exploration, if the budget leaves one."""
        left = min(self.limit - self.made * CHUNK, CHUNK)
        if left <= 0:
            return None
        seed = seed_of(self.common["seed"], self.made)
        self.made += 1
        return _Part({**self.common, "seed": seed, "schedules": left, "slice": ALL})

    def next_part(self) -> _Part | None:
        """The first that nobody plays yet; None: there is nothing to do at the moment."""
        if self.over:
            return None
        for part in self.parts:
            if part.answer is not None and part.answer["failures"] and self.stops:
                return None  # later ones can't count
            if part.ticket < 0 and part.answer is None:
                return part
        if self.searches:
            return None
        more = self._sample()
        if more is not None:
            self.parts.append(more)
        return more

    def given(self, part: _Part) -> tuple[int, Values]:
        """The part is being played from now on."""
        self.tickets += 1
        part.ticket = self.tickets
        return part.ticket, {**part.values, "left": max(self.deadline - time.monotonic(), 0.001)}

    def taken(self, ticket: int, answer: Values | None) -> None:
        """It has been played, or not; what it left over comes right behind it."""
        at = next((i for i, part in enumerate(self.parts) if part.ticket == ticket), -1)
        if at < 0:
            return  # a failure before it has ended the exploration
        part = self.parts[at]
        part.ticket, part.answer = -1, answer
        if answer is None:
            return
        self.parts[at + 1 : at + 1] = [self._search(path, self.slice_s) for path in answer.pop("rest")]
        self._add_up()

    def _add_up(self) -> None:
        while not self.over and self.parts and (answer := self.parts[0].answer) is not None:
            left = self.limit - self.sum.schedules
            if answer["schedules"] > left:  # it went beyond the budget: again, up to there
                self.parts[0].answer = None
                self.parts[0].values["schedules"] = left
                del self.parts[1:]
                return
            part = self.parts.pop(0)
            self.sum.add(part)
            failed = bool(answer["failures"]) and (self.stops or not answer["alive"])
            self.over = failed or self.sum.schedules == self.limit

    def time_is_up(self) -> None:
        """Whatever has been played counts, in order."""
        for part in self.parts:
            if part.answer is not None and not self.over:
                self.sum.add(part)
                self.over = bool(part.answer["failures"]) and self.stops


def _play(exploration: _Exploration, crew: Crew) -> None:
    """Until all parts are played or none counts any more."""
    busy, most = 0, 1 if exploration.searches else crew.batch  # parts of a search may be large
    while True:
        while busy < crew.size and time.monotonic() < exploration.deadline:
            batch: Batch = []
            while len(batch) < most and (part := exploration.next_part()) is not None:
                batch.append(exploration.given(part))
            if not batch:
                break
            crew.give(batch)
            busy += 1
        if exploration.over or not busy:
            break
        for played in crew.take(1.0):
            busy -= 1
            for ticket, answer in played:
                exploration.taken(ticket, answer)
    exploration.time_is_up()


def _result(scenario: Scenario, unfixed: bool, exploration: _Exploration) -> Result:
    total, common = exploration.sum, exploration.common
    coverage = f"sampled({total.schedules})"
    if exploration.searches and not exploration.parts and not (total.failures and exploration.over):
        coverage = bounded(common["bound"], common["delay"]) if total.cut else "exhaustive"
    verdict, line = Verdict.fine(), None
    if total.failures:  # of the last schedule, as explore() has it
        verdict, line = Verdict(**total.last["verdict"]), total.last["schedule"]
    return Result(
        scenario.id, unfixed, common["strategy"], total.seed if line else common["seed"], total.schedules,
        total.failures, total.pruned, 0.0, total.steps, total.most_steps, coverage, verdict,
        Schedule.parse(line) if line else None, total.handoffs,
    )  # fmt: skip


def spread(
    scenario: Scenario, *, jobs: int = 2, crew: Crew | None = None, unfixed: bool = True, strategy: str = "random",
    seed: int = 1, bound: int = -1, delay: int = -1, depth: int = 3, schedules: int = ALL, seconds: float = 1e9,
    stop_at_failure: bool = True, slice_s: float = SLICE_S,
) -> Result:  # fmt: skip
    """:func:`emu.race.explore.explore` over ``jobs`` processes, or over a crew that hasn't played yet.

    ``slice_s``: how long a worker searches before it gives the rest of its subtree back. A seed in the result is that
    of the part that failed. ``dpor``, whose parts depend on one another, and ``robin``, which is one schedule, have one
    worker whatever ``jobs`` says.
    """
    if strategy not in STRATEGIES:
        raise ScenarioError(f"strategy {strategy!r}: not one of {', '.join(STRATEGIES)}")
    if not 1 <= jobs <= MAX_JOBS:
        raise ScenarioError(f"jobs {jobs}: 1 to {MAX_JOBS}")
    if strategy in ONE_WORKER:
        return explore(
            scenario, unfixed=unfixed, strategy=strategy, seed=seed, bound=bound, delay=delay, depth=depth,
            schedules=schedules, seconds=seconds, stop_at_failure=stop_at_failure,
        )  # fmt: skip
    common: Values = {
        "strategy": strategy, "seed": seed, "bound": bound, "delay": delay, "depth": depth, "stop": stop_at_failure
    }  # fmt: skip
    began = time.monotonic()
    exploration = _Exploration(common, schedules, slice_s, began + seconds)
    if crew is not None:
        _play(exploration, crew)
    else:
        with Here(scenario, unfixed) if jobs == 1 else Workers(scenario, unfixed, jobs) as own:
            _play(exploration, own)
    result = _result(scenario, unfixed, exploration)
    result.seconds = time.monotonic() - began
    return result
