"""Real processes over one segment, for tests."""

import ctypes
import gc
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shm
from shm.atomic import load_acquire, store_release
from shm.core import INTERPRETED
from shm.point import Party
from shm.segment import Segment
from shm.struct import Struct, record_at, size_of

STRIDE = size_of(Party)
PR_SET_PDEATHSIG = 1
CRASHED = 99  # exit status of a child that raised

_libc = ctypes.CDLL(None)


def scaled(rounds: int) -> int:
    """As many rounds as take about the same time in this mode."""
    return max(rounds // 500, 10) if INTERPRETED else rounds


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Poll until the condition holds; give up loudly."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        os.sched_yield()


class Crew:
    """A party table and one shared record in a segment of their own, and the processes that use them.

    ``settings`` are fields of every party. Party 0 is the test itself by custom; :meth:`fork` makes the others.
    """

    def __init__(self, kind: type[Struct], parties: int = 3, **settings: int) -> None:
        table = (parties + 1) * STRIDE  # it ends with an empty party
        self.segment = Segment.create(table + size_of(kind))
        self.parties = [record_at(Party, self.segment.base + i * STRIDE) for i in range(parties)]
        for i, party in enumerate(self.parties):
            for name, value in {"index": i, "stride": STRIDE, **settings}.items():
                setattr(party, name, value)
        self.shared: Any = record_at(kind, self.segment.base + table)
        self.pids: dict[int, int] = {}

    def fork(self, index: int, work: Callable[..., Any], *args: Any) -> int:
        """Run ``work(party, shared, *args)`` as a new process; the size of its result is the exit status."""
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = CRASHED
            try:
                _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == parent:
                    gc.disable()
                    status = min(abs(int(work(self.parties[index], self.shared, *args) or 0)), 255)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        self.pids[index] = pid
        self.parties[index].pid = pid
        return pid

    def kill(self, index: int, signum: int = signal.SIGKILL) -> None:
        """Signal a party's process."""
        os.kill(self.pids[index], signum)

    def reap(self, *indexes: int, seconds: float = 20) -> list[int]:
        """Wait for these processes, or all; their exit statuses, negative for a signal. A killed one is marked dead."""
        return [self._reap_one(i, time.monotonic() + seconds) for i in indexes or sorted(self.pids)]

    def _reap_one(self, index: int, deadline: float) -> int:
        pid = self.pids[index]
        handle = os.pidfd_open(pid)
        try:
            ended = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]
        finally:
            os.close(handle)
        assert ended, f"party {index} (pid {pid}) is still running"
        del self.pids[index]
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status < 0:
            store_release(self.parties[index], "dead", 1)
        return status

    def close(self) -> None:
        """End what still runs, and remove the segment."""
        for pid in self.pids.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pids.clear()
        self.segment.unlink()


def stop_and_wait(crew: Crew, index: int) -> None:
    """SIGSTOP a party's process, and return when it has stopped."""
    crew.kill(index, signal.SIGSTOP)
    os.waitid(os.P_PID, crew.pids[index], os.WSTOPPED | os.WNOWAIT)


def raised_to(record: Any, field: str, value: int) -> Callable[[], bool]:
    """Whether another process has brought a counter up to a value."""
    return lambda: load_acquire(record, field) >= value


def start(program: Path, *args: str, **environ: str) -> "subprocess.Popen[str]":
    """Run a Python program with this shm, and these variables, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(Path(shm.__file__).parents[1]), "PYTHONWARNINGS": "error", **environ}
    return subprocess.Popen(
        [sys.executable, str(program), *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: "subprocess.Popen[str]", seconds: float = 60) -> tuple[int, str, str]:
    """Its exit status and what it wrote."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err
