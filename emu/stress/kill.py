"""``emu stress kill``: CPU processes are killed at random instants, and each death is judged.

A killer, a process of its own, stops its victim, looks at what shared memory says of it, and kills it; some victims are
killed outright. The parent does what the parent of any machine does. What it notices, when, and what it makes of it is
compared with what the killer saw: locks held with their call sites, interrupts, sleeping locks, sections that nobody
else can finish. If the machine goes on, all invariants must hold once the dead CPU is offline, with every page
accounted for; it is brought online again then. If it is stopped, nothing of it may be left, and the next one begins.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import psutil

from emu.config import MachineConfig, make_config
from emu.cpu.irq import IRQ_NET, raise_irq
from emu.death import Death
from emu.machine import CMD_WORKLOAD, MachineError
from emu.run import WorkloadRun
from emu.salvage import salvage
from emu.stress.sight import KINDS, Sight, freeze, glance, look, process_state
from emu.zone.validate import validate
from shm.segment import PREFIX, directory

__all__ = ["KillReport", "stress_kill"]

LIMIT_MS = 1000.0  # a death that takes longer to be noticed is late
LOOKING = 0.25  # s, then the killer takes its victim as it is: who is stopped again and again may never run in between
REST = 0.0002  # s that a victim has at least between two looks
LATEST = 0.004  # s: the killer strikes at a random instant up to then
AIMS = (("", 25), ("holds a lock", 18), ("irqs off", 5), ("in an interrupt", 5), ("waits for a lock", 10), ("idle", 4),
        ("runs", 25), ("outright", 8))  # fmt: skip


@dataclass(frozen=True)
class KillReport:
    """What became of the kills. Times in ms."""

    seed: int
    cpus: int
    memory: int
    workload: str
    kills: int
    seconds: float
    kinds: dict[str, int]  # what the victims were doing
    locks: dict[str, int]  # and which locks they held, where they had taken them
    stopped: int
    offlined: int
    in_flight: int  # pages that the victims had in hand
    detection: dict[str, float]  # from the end of the process until its parent knew
    takedown: dict[str, float]  # from the kill until the CPU was offline
    restart: dict[str, float]  # a new machine after a stop, until its CPUs run
    late: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    unclean: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """All noticed in time and judged rightly, all invariants hold, nothing is left."""
        return not (self.late or self.wrong or self.unclean or self.left)


@dataclass
class _Tally:
    """The report in the making."""

    kinds: Counter[str] = field(default_factory=Counter)
    locks: Counter[str] = field(default_factory=Counter)
    stopped: int = 0
    offlined: int = 0
    in_flight: int = 0
    detection: list[float] = field(default_factory=list)
    takedown: list[float] = field(default_factory=list)
    restart: list[float] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unclean: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def percentiles(times: list[float]) -> dict[str, float]:
    """The median, 90 %, 99 % and the longest."""
    if not times:
        return {}
    ordered = sorted(times)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(int(part * len(ordered)), len(ordered) - 1)], 2) for name, part in at.items()}


def _strike(work: WorkloadRun, index: int, pid: int, aim: str, delay: float, out: int) -> None:
    """The killer's life: wait, look, kill, and say when that was, when the process was gone, and what was seen."""
    m, cpu = work.machine.m, work.machine.board.cpu(index)
    time.sleep(delay)
    sight: Sight | None = None
    if aim != "outright":
        until = time.monotonic() + LOOKING
        while True:
            if aim == "in an interrupt":
                raise_irq(cpu, IRQ_NET)
            if not freeze(pid) or glance(m, index, aim) or time.monotonic() >= until:
                break
            os.kill(pid, signal.SIGCONT)
            time.sleep(max(delay / 50, REST))
        sight = look(m, index)
    when = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    while process_state(pid) not in "ZX":  # an exit takes its time, which is not the parent's
        time.sleep(0)
    os.write(out, msgpack.packb((when, time.monotonic_ns(), vars(sight) if sight else None)))


def _send_killer(work: WorkloadRun, index: int, pid: int, aim: str, delay: float) -> tuple[int, int]:
    """Fork it. Its pid, and where it reports."""
    into, out = os.pipe()
    killer = os.fork()
    if killer == 0:
        try:
            _strike(work, index, pid, aim, delay, out)
        finally:
            os._exit(0)
    os.close(out)
    return killer, into


def _report_of(killer: int, into: int) -> tuple[int, int, Sight | None]:
    """What the killer says."""
    with os.fdopen(into, "rb") as pipe:
        packed = pipe.read()
    os.waitpid(killer, 0)
    when, ended, seen = msgpack.unpackb(packed)
    if seen is not None:
        seen["locks"] = tuple((name, where) for name, where in seen["locks"])
    return when, ended, Sight(**seen) if seen is not None else None


def misjudged(death: Death, sight: Sight) -> str:
    """How a verdict differs from what was there; empty: it doesn't."""
    facts = (
        ("locks", death.locks, sight.locks), ("irqs off", death.irqs_off, sight.irqs_off),
        ("interrupt", death.in_interrupt, sight.interrupt), ("mutexes", len(death.mutexes), sight.owns),
        ("reclaim", death.reclaiming, sight.reclaims), ("section", bool(death.inside), sight.critical),
        ("stop", death.fatal, sight.fatal),
    )  # fmt: skip
    return "; ".join(f"{name}: judged {judged}, seen {seen}" for name, judged, seen in facts if judged != seen)


class _Rounds:
    """Machines, one after another, whose CPUs are killed."""

    def __init__(self, config: MachineConfig, tally: _Tally) -> None:
        self.config, self.tally = config, tally
        self.random = random.Random(config.seed)
        self.before = {child.pid for child in psutil.Process().children(recursive=True)}
        self.work: WorkloadRun | None = None

    def begin(self) -> WorkloadRun:
        """The machine that runs, or a new one."""
        if self.work is None:
            began = time.monotonic()
            self.work = WorkloadRun(self.config)
            self.work.machine.start()
            self._resume(range(self.config.cpus))
            self.tally.restart.append((time.monotonic() - began) * 1000)
        return self.work

    def _resume(self, indices: Iterator[int] | range) -> None:
        assert self.work is not None
        for run in self.work.runs():
            run.deadline = run.target = 0
        for i in indices:
            self.work.machine.post(i, CMD_WORKLOAD)

    def _pause(self) -> None:
        """All CPUs end their slices."""
        assert self.work is not None
        for run in self.work.runs():
            run.deadline = 1
        machine = self.work.machine
        machine.wait_for(lambda: all(machine.idle(i) for i in range(self.config.cpus)))

    def kill(self, number: int) -> None:
        """One victim, and what comes of it."""
        work = self.begin()
        machine = work.machine
        aim = self.random.choices([name for name, _ in AIMS], [weight for _, weight in AIMS])[0]
        index, delay = self.random.randrange(self.config.cpus), self.random.random() * LATEST
        if aim == "idle":
            self._pause()
            self._resume(i for i in range(self.config.cpus) if i != index)
        pid = next(child.pid for child in machine.children if child.index == index)
        killer, into = _send_killer(work, index, pid, aim, delay)
        error, noticed = "", len(machine.deaths)
        try:
            while len(machine.deaths) == noticed:
                machine.wait(range(self.config.cpus), tick=lambda: self._dead(noticed))
        except _Noticed:
            pass
        except MachineError as err:
            error = str(err)
        when, ended, sight = _report_of(killer, into)
        title = f"kill {number} of cpu{index}"
        found = [(at, death) for at, death in machine.deaths[noticed:] if death.index == index]
        if found:
            self._time(title, ended, found[0][0])
        self._judge(title, index, when, sight, error, [death for _, death in found])

    def _dead(self, noticed: int) -> None:
        assert self.work is not None
        if len(self.work.machine.deaths) > noticed:
            raise _Noticed

    def _time(self, title: str, ended: int, noticed: int) -> None:
        took = max(noticed - ended, 0) / 1e6  # the killer may see the end after the parent
        self.tally.detection.append(took)
        if took >= LIMIT_MS:
            self.tally.late.append(f"{title}: noticed after {took:.0f} ms")

    def _judge(
        self, title: str, index: int, when: int, sight: Sight | None, error: str, deaths: list[Death]
    ) -> None:  # fmt: skip
        work, tally = self.begin(), self.tally
        if not deaths:
            tally.wrong.append(f"{title}: {error or 'not noticed'}")
            return self._end()
        death = deaths[0]
        if sight is None and error:  # nobody has touched what it left
            sight = look(work.machine.m, index)
        tally.kinds[sight.kind if sight else "outright"] += 1
        for name, where in sight.locks if sight else ():
            tally.locks[f"{name}, {where}"] += 1
        wrong = misjudged(death, sight) if sight else ""
        if bool(error) != death.fatal or (error and str(death) not in error):
            wrong = f"{wrong}; the machine says {error or 'nothing'}".removeprefix("; ")
        if wrong:
            tally.wrong.append(f"{title}: {wrong}")
        if error:
            tally.stopped += 1
            return self._end()
        return self._go_on(title, index, when)

    def _go_on(self, title: str, index: int, when: int) -> None:
        """The CPU goes offline, everything is accounted for, and it comes back."""
        work = self.begin()
        machine = work.machine
        try:
            machine.wait_for(lambda: not any(child.index == index for child in machine.children))
            self.tally.takedown.append((time.monotonic_ns() - when) / 1e6)
            self.tally.offlined += 1
            self._pause()
            work.release_orphans()
            self.tally.in_flight += salvage(machine, *work.held())
            self.tally.unclean += [f"{title}: {text}" for text in validate(machine.m, from_boot=True)]
            machine.online_cpu(index)
            work.restart(index)
            self._resume(i for i in range(self.config.cpus) if i != index)
        except MachineError as err:
            self.tally.wrong.append(f"{title}: taking it offline and online again: {err}")
            self._end()

    def _end(self) -> None:
        """The machine's end; what it leaves is told."""
        if self.work is None:
            return
        self.work.machine.stop()
        self.work = None
        self.tally.left += left_behind(self.before)

    def close(self) -> None:
        """The end of the last one."""
        self._end()


class _Noticed(Exception):
    """A death was noticed."""


def left_behind(before: set[int]) -> list[str]:
    """Segments and processes of this process that outlive their machine; they are removed."""
    left = []
    for path in directory().glob(f"{PREFIX}{os.getpid()}-*"):
        left.append(f"segment {path.name}")
        path.unlink(missing_ok=True)
    for child in psutil.Process().children(recursive=True):
        if child.pid not in before:
            left.append(f"process {child.pid}")
            child.kill()
    return left


@contextmanager
def own_temporary_files(tally: _Tally) -> Iterator[None]:
    """Temporary files go into a directory of their own meanwhile; what is in it at the end was left behind."""
    old, old_variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="emu-stress-") as room:
        tempfile.tempdir = os.environ["TMPDIR"] = room
        try:
            yield
        finally:
            tally.left += [f"file {path.name}" for path in Path(room).rglob("*")]
            tempfile.tempdir = old
            os.environ.pop("TMPDIR") if old_variable is None else os.environ.update(TMPDIR=old_variable)


def stress_kill(
    kills: int = 1000, *, cpus: int = 4, seed: int = 1, workload: str = "bulk", memory: str = "64M",
    told: Callable[[str], None] = lambda _: None,
) -> KillReport:  # fmt: skip
    """Kill CPU processes one after another while they run a workload. ``told`` hears of the progress."""
    values = {"cpus": cpus, "memory": memory, "workload": workload, "seed": seed, "on_death": "offline", "pin": False}
    config = make_config(values, "stress kill")
    tally = _Tally()
    began = time.monotonic()
    with own_temporary_files(tally):
        rounds = _Rounds(config, tally)
        try:
            for number in range(1, kills + 1):
                rounds.kill(number)
                if number % 50 == 0:
                    told(f"{number:,} kills: {tally.stopped:,} stops, {tally.offlined:,} CPUs taken offline")
        finally:
            rounds.close()
    order = (*KINDS, "outright")
    return KillReport(
        seed, cpus, sum(config.node_bytes()), workload, kills, round(time.monotonic() - began, 2),
        {kind: tally.kinds[kind] for kind in order if tally.kinds[kind]}, dict(tally.locks.most_common()),
        tally.stopped, tally.offlined, tally.in_flight, percentiles(tally.detection), percentiles(tally.takedown),
        percentiles(tally.restart), tuple(tally.late), tuple(tally.wrong), tuple(tally.unclean), tuple(tally.left),
    )  # fmt: skip
