"""Who plays the parts of an exploration: this process, or workers forked from it.

A worker has players of its own, pinned to a core of its own, and plays one part after another. What goes to and fro is
plain data. A cluster is a crew, too (``emu.stress.cluster``).
"""

import ctypes
import json
import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Protocol

from emu.race.parts import Values, play_part
from emu.race.players import Players, load_race
from emu.race.scenario import Scenario, ScenarioError

__all__ = ["Crew", "Here", "Workers"]

PR_SET_PDEATHSIG = 1
GRACE_S = 30.0  # a schedule that hangs takes 20 s to be recognised where the core is interpreted

Answer = tuple[int, Values]


class Crew(Protocol):
    """Plays parts, ``size`` of them at a time."""

    size: int

    def give(self, ticket: int, part: Values) -> None:
        """Somebody is to play this part; never more than ``size`` before they have been taken."""
        ...

    def take(self, seconds: float) -> list[Answer]:
        """Parts that have been played, by ticket; empty if none was in that time. Raises ScenarioError for a part
        that can't be."""
        ...


class _Stage:
    """Players that are made when the first part comes."""

    def __init__(self, scenario: Scenario, unfixed: bool) -> None:
        self.scenario, self.unfixed = scenario, unfixed
        self.players: Players | None = None

    def play(self, part: Values) -> Values:
        if self.players is None:
            self.players = Players(self.scenario, self.unfixed)
        return play_part(self.players, part)

    def close(self) -> None:
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

    size = 1

    def __init__(self, scenario: Scenario, unfixed: bool) -> None:
        self.stage = _Stage(scenario, unfixed)
        self.played: list[Answer] = []

    def give(self, ticket: int, part: Values) -> None:
        """At once."""
        self.played.append((ticket, self.stage.play(part)))

    def take(self, seconds: float) -> list[Answer]:
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
    stage = _Stage(scenario, unfixed)

    def leave(*_: object) -> None:  # after this schedule: memory is removed on the usual way out
        if stage.players is not None:
            stage.players.arena.plan.limit = 0

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return
    os.sched_setaffinity(0, {core})
    try:
        while True:
            part = json.loads(pipe.recv_bytes())
            try:
                answer = stage.play(part)
            except ScenarioError as err:
                answer = {"error": str(err)}
            pipe.send_bytes(json.dumps(answer).encode())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        stage.close()


class Workers(_Closing):
    """Processes of this machine, forked now: load native code first."""

    def __init__(self, scenario: Scenario, unfixed: bool, jobs: int) -> None:
        load_race()
        self.size = jobs
        self.tickets: dict[Connection, int] = {}
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

    def give(self, ticket: int, part: Values) -> None:
        """To a worker that has nothing to do."""
        pipe = next(pipe for pipe in self.processes if pipe not in self.tickets)
        self.tickets[pipe] = ticket
        pipe.send_bytes(json.dumps(part).encode())

    def take(self, seconds: float) -> list[Answer]:
        """From those that are through."""
        answers = []
        for pipe in wait(list(self.tickets), seconds):
            assert isinstance(pipe, Connection)
            try:
                answer = json.loads(pipe.recv_bytes())
            except (EOFError, OSError):
                process = self.processes[pipe]
                process.join(GRACE_S)
                raise ScenarioError(f"a worker ended with status {process.exitcode}") from None
            if "error" in answer:
                raise ScenarioError(answer["error"])
            answers.append((self.tickets.pop(pipe), answer))
        return answers

    def close(self) -> None:
        """End the workers; they remove what they have."""
        for pipe, process in self.processes.items():
            pipe.close()
            process.terminate()
        for process in self.processes.values():
            process.join(GRACE_S)
            if process.exitcode is None:
                process.kill()
                process.join()
        self.processes.clear()
