"""Who plays the parts of an exploration: this process, or workers forked from it.

A worker has players of its own, pinned to a core of its own, and plays one batch of parts after another. What goes to
and fro is plain data. A cluster is a crew, too (``emu.stress.cluster``).
"""

import json
import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Protocol

from emu.race.parts import Values, play_part
from emu.race.players import Players, load_race
from emu.race.scenario import Scenario, ScenarioError
from shm.parent import end_with_parent
from shm.segment import directory, segments

__all__ = ["Batch", "Crew", "Here", "Played", "Stage", "Workers"]

GRACE_S = 30.0  # a schedule that hangs takes 20 s to be recognised where the core is interpreted

Batch = list[tuple[int, Values]]
"""Parts with their tickets, in order."""
Played = list[tuple[int, Values | None]]
"""The answers; None: it wasn't played, after a failure or for lack of time."""


class Crew(Protocol):
    """Plays batches of at most ``batch`` parts, ``size`` batches at a time."""

    size: int
    batch: int

    def give(self, batch: Batch) -> None:
        """Somebody is to play these; never more than ``size`` batches before they have been taken."""
        ...

    def take(self, seconds: float) -> list[Played]:
        """Batches that have been played; empty if none was in that time. Raises ScenarioError for a part that can't
        be."""
        ...


class Stage:
    """Players that are made when the first part comes."""

    def __init__(self, scenario: Scenario, unfixed: bool) -> None:
        self.scenario, self.unfixed = scenario, unfixed
        self.players: Players | None = None
        self.leaving = False

    def play(self, batch: Batch) -> Played:
        """One part after the other, up to the first that fails if the exploration ends there."""
        if self.players is None:
            self.players = Players(self.scenario, self.unfixed)
        began, played, over = time.monotonic(), Played(), False
        for ticket, part in batch:
            left = part["left"] - (time.monotonic() - began)
            if over or left <= 0:
                played.append((ticket, None))
                continue
            part = {**part, "seconds": min(left, part["slice"])}
            answer = play_part(self.players, part, lambda: self.leaving)
            over = self.leaving or (bool(answer["failures"]) and (part["stop"] or not answer["alive"]))
            played.append((ticket, answer))
        return played

    def leave(self) -> None:
        """Nobody wants any more: what is being played ends with its schedule."""
        self.leaving = True
        if self.players is not None:
            self.players.arena.plan.limit = 0

    def close(self) -> None:
        """Remove the players."""
        if self.players is not None:
            self.players.close()


class _Closing:
    """A crew is used as a context manager."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Here(_Closing):
    """This process plays."""

    size = batch = 1

    def __init__(self, scenario: Scenario, unfixed: bool) -> None:
        self.stage = Stage(scenario, unfixed)
        self.played: list[Played] = []

    def give(self, batch: Batch) -> None:
        """At once."""
        self.played.append(self.stage.play(batch))

    def take(self, seconds: float) -> list[Played]:
        """What was just given."""
        played, self.played = self.played, []
        return played

    def close(self) -> None:
        """Remove the players."""
        self.stage.close()


def _work(
    scenario: Scenario, unfixed: bool, pipe: Connection, others: list[Connection], parent: int, core: int
) -> None:
    """A worker: parts in, answers out, until the pipe is closed."""
    for other in others:  # the parent's ends, which the fork has copied
        other.close()
    stage = Stage(scenario, unfixed)
    signal.signal(signal.SIGTERM, lambda *_: stage.leave())  # memory is removed on the usual way out
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return
    os.sched_setaffinity(0, {core})
    try:
        while True:
            batch = json.loads(pipe.recv_bytes())
            answer: dict[str, Any]
            try:
                answer = {"played": stage.play(batch)}
            except ScenarioError as err:
                answer = {"error": str(err)}
            pipe.send_bytes(json.dumps(answer).encode())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        stage.close()


class Workers(_Closing):
    """Processes of this machine, forked now: load native code first."""

    batch = 1

    def __init__(self, scenario: Scenario, unfixed: bool, jobs: int) -> None:
        load_race()
        self.size = jobs
        self.busy: set[Connection] = set()
        self.processes: dict[Connection, Any] = {}
        context = get_context("fork")
        cores = sorted(os.sched_getaffinity(0))
        for i in range(jobs):
            ours, theirs = context.Pipe()
            args = scenario, unfixed, theirs, [*self.processes, ours], os.getpid(), cores[i % len(cores)]
            process = context.Process(target=_work, args=args, name=f"race-{i}", daemon=False)
            process.start()
            theirs.close()
            self.processes[ours] = process

    def give(self, batch: Batch) -> None:
        """To a worker that has nothing to do."""
        pipe = next(pipe for pipe in self.processes if pipe not in self.busy)
        self.busy.add(pipe)
        pipe.send_bytes(json.dumps(batch).encode())

    def take(self, seconds: float) -> list[Played]:
        """From those that are through."""
        answers = []
        for pipe in wait(list(self.busy), seconds):
            assert isinstance(pipe, Connection)
            try:
                answer = json.loads(pipe.recv_bytes())
            except (EOFError, OSError):
                process = self.processes[pipe]
                process.join(GRACE_S)
                raise ScenarioError(f"a worker ended with status {process.exitcode}") from None
            if "error" in answer:
                raise ScenarioError(answer["error"])
            self.busy.discard(pipe)
            answers.append(answer["played"])
        return answers

    def close(self) -> None:
        """End the workers; they remove what they have. What one that was killed has left is removed here."""
        for pipe, process in self.processes.items():
            pipe.close()
            process.terminate()
        for process in self.processes.values():
            process.join(GRACE_S)
            if process.exitcode is None:
                process.kill()
                process.join()
        killed = {process.pid for process in self.processes.values() if process.exitcode}
        self.processes.clear()
        for found in segments() if killed else ():
            if found.facts["pid"] in killed and not found.alive:
                (directory() / found.name).unlink(missing_ok=True)
