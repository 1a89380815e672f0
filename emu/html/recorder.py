"""All that a page shows of how a run went, recorded while it goes on.

::

    recorder = Recorder(machine, runs, failed)   # before the machine's processes do anything
    machine.wait(cpus, tick=recorder)            # every 10 ms or so it may look
    recording = recorder.finish()
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from emu.html.incidents import Incident, Incidents
from emu.html.memory_map import Frame, MemoryMap
from emu.html.phases import Phases
from emu.html.sample import Sample, Sampler, Thinned
from emu.machine import Machine
from emu.workload.run import Run

__all__ = ["Recorder", "Recording"]

MOST = 200
EVERY = 10_000_000  # ns
MOST_VALUES = 400_000  # cells of all frames together


@dataclass(frozen=True)
class Recording:
    """What was recorded. Times are CLOCK_MONOTONIC ns; ``began``: the first sample's."""

    began: int
    samples: list[Sample]
    frames: list[tuple[int, Frame]]
    memory: MemoryMap
    spans: dict[str, list[tuple[int, int]]]
    wakes: dict[str, int]
    incidents: list[Incident]
    left_out: int  # incidents beyond those
    looking: int  # ns of CPU time that all looks took


class Recorder:
    """Called again and again while a machine runs."""

    def __init__(self, machine: Machine, runs: Iterable[tuple[int, Run]], failed: Callable[[], int]) -> None:
        """``runs``: the workloads with their CPUs; ``failed``: allocations that they couldn't get so far."""
        m = machine.m
        self._incidents, self._phases = Incidents(machine), Phases(m)
        self._sampler, self._memory = Sampler(m, failed), MemoryMap(m, runs)
        self._samples = Thinned[Sample](MOST, EVERY)
        self._frames = Thinned[tuple[int, Frame]](max(min(MOST, MOST_VALUES // self._memory.nr_cells), 8), EVERY)
        self._looking = 0

    def __call__(self) -> None:
        """Look, if it is time to."""
        now, spent = time.monotonic_ns(), -time.thread_time_ns()
        self._phases.look(now)
        if self._samples.due(now):
            self._samples.take(self._sampler.sample)
        if self._frames.due(now):
            self._frames.take(self._frame)
        self._looking += spent + time.thread_time_ns()

    def _frame(self) -> tuple[int, Frame]:
        return time.monotonic_ns(), self._memory.frame()

    def finish(self) -> Recording:
        """The last look: how everything is now."""
        self._phases.look(time.monotonic_ns())
        samples, frames = [*self._samples.items, self._sampler.sample()], [*self._frames.items, self._frame()]
        incidents = self._incidents
        return Recording(
            samples[0].at, samples, frames, self._memory, self._phases.spans(), self._phases.wakes(),
            sorted(incidents.kept, key=lambda one: one.at), incidents.left_out, self._looking,
        )  # fmt: skip
