"""A scenario: a small machine, a program for each CPU, what must hold, and the story of the race.

A scenario is data, so that one of your own needs no compiler: see ``emu race show --source R8`` and
``emu race run FILE``.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from emu.zone.boot import Shape, Tuning, ZoneShape
from emu.zone.deviations import RACES
from emu.zone.mmzone import ZONE_NORMAL
from shm.baton import MAX_STEPS, VERDICTS

if TYPE_CHECKING:
    from emu.race.world import World

__all__ = ["Commit", "Invariant", "Op", "OpKind", "Scenario", "ScenarioError", "small"]

STATUSES = FIXED, OPEN, NOT_APPLICABLE, PLANTED = "fixed", "open", "n/a", "planted"


class ScenarioError(ValueError):
    """A scenario can't be: one line that says what and where."""


@dataclass(frozen=True)
class Op:
    """One operation of a program."""

    kind: "OpKind"
    args: tuple[int, ...]

    def __str__(self) -> str:
        named = [
            f"{name}={value:#x}" if name == "gfp" else f"{name}={value}"
            for (name, default), value in zip(self.kind.params, self.args, strict=True)
            if value != default or name == "slot"
        ]
        return f"{self.kind.name}({', '.join(named)})"


@dataclass(frozen=True)
class OpKind:
    """An operation that programs can ask for: its name, its code and its parameters with their defaults.

    Calling it makes an :class:`Op`: ``alloc(slot=0, order=1)``.
    """

    name: str
    code: int
    params: tuple[tuple[str, int], ...]
    doc: str = ""

    def __call__(self, *args: int, **named: int) -> Op:
        values = dict(self.params)
        names = list(values)
        if len(args) > len(names):
            raise ScenarioError(f"{self.name}: takes {len(names)} arguments, {len(args)} given")
        for name, value in [*zip(names, args, strict=False), *named.items()]:
            if name not in values:
                raise ScenarioError(f"{self.name}: no argument {name!r}; there are {', '.join(names) or 'none'}")
            values[name] = int(value)
        return Op(self, tuple(values.values()))


@dataclass(frozen=True)
class Invariant:
    """What must hold: its code, a name, and the sentence that a report prints when it doesn't.

    ``always``: at every point; else when all programs have ended and the machine is at rest. ``verdict``: what a
    violation is called.
    """

    name: str
    code: int
    sentence: str
    always: bool = False
    verdict: str = "invariant"


@dataclass(frozen=True)
class Commit:
    """A commit of the kernel. ``mark`` says how sure the id is: V V* S M I, as in the catalogue's key."""

    id: str
    subject: str
    mark: str = "V"


def _is_program(ops: object) -> bool:
    return isinstance(ops, tuple | list) and all(isinstance(op, Op) for op in ops)


@dataclass(frozen=True)
class Scenario:
    """One race. Names of actors: ``cpu0``..., ``kswapd0``..., ``kcompactd0``...; ``irqs`` are those of a CPU."""

    id: str
    title: str
    story: str
    shape: Shape
    programs: Mapping[str, tuple[Op, ...]]
    invariants: tuple[Invariant, ...]
    tuning: Tuning = field(default_factory=Tuning)
    irqs: Mapping[str, tuple[tuple[Op, ...], ...]] = field(default_factory=dict)
    setup: "Callable[[World], None] | None" = None  # runs once, before the first schedule
    commits: tuple[Commit, ...] = ()
    status: str = FIXED  # in 5.10.262: "fixed", "open", "n/a" (needs later code), "planted" (no kernel had it)
    switch: str = ""  # the race's name in emu.zone.deviations, if the model has both variants
    kind: str = "invariant"  # what goes wrong: invariant, deadlock, livelock, "lost wake-up"
    bound: int = 0  # preemptions up to which the fixed variant is explored; 0: exhausted
    trace: bool = False  # the invariants look at trace events
    max_steps: int = 2000  # a schedule that takes more is a verdict of its own
    preemptions: int = 1  # the fewest that show it
    tags: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()  # what a minimiser has taken away

    def __post_init__(self) -> None:
        if wrong := next(self._mistakes(), None):
            raise ScenarioError(f"scenario {self.id!r}: {wrong}")

    def _mistakes(self) -> Iterator[str]:
        """What no scenario can have; what a machine hasn't got is found out when it is made."""
        if not isinstance(self.id, str) or not re.fullmatch(r"[\w.+-]+", self.id):
            yield "an id is one word: it stands in schedules"
        if not isinstance(self.programs, Mapping) or not isinstance(self.irqs, Mapping):
            yield "programs and irqs are dicts, by the name of an actor"
            return
        for name, ops in self.programs.items():
            if not _is_program(ops):
                yield f"programs[{name!r}] is no tuple of operations"
        for name, programs in self.irqs.items():
            if not isinstance(programs, tuple | list) or not all(_is_program(ops) for ops in programs):
                yield f"irqs[{name!r}] is no tuple of tuples of operations"
        if not all(isinstance(invariant, Invariant) for invariant in self.invariants):
            yield "invariants is no tuple of Invariant"
        if self.status not in STATUSES or self.kind not in VERDICTS:
            yield f"status {self.status!r}, kind {self.kind!r}: there are {', '.join((*STATUSES, *VERDICTS))}"
        if self.switch and self.switch not in RACES:
            yield f"switch {self.switch!r}: the model has none of that name (emu race list)"
        if self.setup is not None and not callable(self.setup):
            yield "setup is no function"
        if not 0 < self.max_steps <= MAX_STEPS:
            yield f"max_steps {self.max_steps}: 1 to {MAX_STEPS}"

    def named(self, **changes: object) -> "Scenario":
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def small(cpus: int = 2, pages: int = 2048, nodes: int = 1, zid: int = ZONE_NORMAL, mms: int = 2) -> Shape:
    """A machine of one zone a node, ``pages`` each (a multiple of 1024); CPUs are spread over the nodes."""
    zones = tuple(ZoneShape(n, zid, n * pages, pages, pages, pages) for n in range(nodes))
    return Shape(tuple(c * nodes // cpus for c in range(cpus)), zones, nodes, files=2, mms=mms)
