"""What holds for every test: it leaves no shared memory and no process behind, or it fails by name.

Each process that runs tests keeps its segments in a directory of its own (``EMU_SHM``), so whatever lies there was made
by its tests, whoever else uses this machine; and it is the subreaper of its descendants, so a CPU whose parent was
killed comes back to it instead of vanishing from sight. Both are looked at after each test, and at the end of the run.

Compiled code is shared: the cache is the user's, or ``$EMU_CACHE``, and whoever comes first compiles for all, between
the collection and the first test, whose time limit would be too short for it.
"""

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

GRACE = 10.0  # s for a process that is already on its way out; nobody waits when nothing is left
PREFIX = "pytest-emu-"
ROOT = Path(__file__).parent.parent
PR_SET_CHILD_SUBREAPER = 36
LEAKS = pytest.StashKey[list[str]]()
ROOM = pytest.StashKey[Path]()
LOCK = pytest.StashKey[int]()

hypothesis.settings.register_profile("emu", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("emu")


# Segments


def locked(room: Path) -> int | None:
    """Return a descriptor that holds the directory's lock, or None where a live run holds it."""
    fd = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def remove_rooms_of_dead_runs(base: Path) -> None:
    for room in base.glob(f"{PREFIX}*"):
        try:
            if time.time() - room.stat().st_mtime < 60:
                continue  # it may be about to take its lock
            fd = locked(room)
        except OSError:
            continue
        if fd is not None:
            shutil.rmtree(room, ignore_errors=True)
            os.close(fd)


def segments(room: Path) -> set[Path]:
    """Return all below the directory, and what this process made in the default one while EMU_SHM was unset."""
    return {path for path in room.rglob("*") if not path.is_dir()} | set(Path("/dev/shm").glob(f"emu-{os.getpid()}-*"))


# Processes


def become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children() -> set[psutil.Process]:
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    return {child for child in psutil.Process().children(recursive=True) if child.pid != tracker}


def described(process: psutil.Process) -> str:
    try:
        return f"process {process.pid}: {' '.join(process.cmdline()) or process.name()}"[:200]
    except psutil.Error:
        return f"process {process.pid}"


def end(processes: set[psutil.Process]) -> list[str]:
    """Give processes a moment to end, kill those that don't, and name them."""
    if not processes:
        return []
    left = psutil.wait_procs(processes, timeout=GRACE)[1]
    names = sorted(described(process) for process in left)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(left, timeout=GRACE)
    return names


# The run


def pytest_xdist_auto_num_workers() -> int:
    """Two at least, so that tests meet each other on one core as well; not more than help."""
    return max(2, min(8, len(os.sched_getaffinity(0))))


def pytest_configure(config: pytest.Config) -> None:
    become_subreaper()
    base = Path(os.environ.get("EMU_SHM", "/dev/shm"))
    worker = getattr(config, "workerinput", None)
    if worker:
        room = base / worker["workerid"]  # inside the controller's, which sees what a crashed worker left
        room.mkdir()
    else:
        remove_rooms_of_dead_runs(base)
        room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        config.stash[LOCK] = locked(room) or 0
    os.environ["EMU_SHM"] = str(room)
    config.stash[ROOM] = room
    config.stash[LEAKS] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    room = config.stash.get(ROOM, None)
    if room is not None:
        shutil.rmtree(room, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("EMU_MODE") != "interpreted":
        return
    compiled = [item for item in items if item.get_closest_marker("compiled")]
    config.hook.pytest_deselected(items=compiled)
    items[:] = [item for item in items if item not in compiled]


# Native code


def build(mode: str, what: str) -> None:
    """Have a program in the cache: in a process of its own, since the mode is a process's."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {what}"],
        env=os.environ | {"EMU_MODE": mode}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.exit(f"the core can't be compiled ({mode}):\n{done.stderr}", pytest.ExitCode.TESTS_FAILED)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs that the tests will ask for. Each worker begins with another one, and they meet in the end."""
    if session.config.option.collectonly or os.environ.get("EMU_MODE") == "interpreted":
        return
    wanted: list[tuple[str, str]] = []
    mode = os.environ.get("EMU_MODE", "compiled")
    emulator = "from emu.programs import load_all; load_all()"
    if "tests.bench" in sys.modules:
        wanted.append((mode, "from tests.program import load; load()"))
    asks = {"emu.machine", "emu.testing"} & sys.modules.keys()
    if asks or any("run_emu" in getattr(item, "fixturenames", ()) for item in session.items):
        wanted.append((mode, emulator))
    modes = {item.callspec.params.get("mode") for item in session.items if hasattr(item, "callspec")}
    wanted += [(each, emulator) for each in ("checked", "instrumented") if each in modes]
    worker = getattr(session.config, "workerinput", {}).get("workerid", "gw0")
    turn = int(worker.removeprefix("gw")) % max(len(wanted), 1)
    for each in wanted[turn:] + wanted[:turn]:
        build(*each)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a segment or a process. Fixtures of wider scope are looked at when the run ends."""
    room = request.config.stash[ROOM]
    old, processes = segments(room), children()
    yield
    leaks = end(children() - processes)
    for path in sorted(segments(room) - old):
        leaks.append(f"segment {path.name}")
        path.unlink(missing_ok=True)
    if leaks:
        pytest.fail("left behind: " + ", ".join(leaks), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    leaks = config.stash[LEAKS]
    worker = getattr(config, "workerinput", None)
    who = worker["workerid"] if worker else "the run"
    if not config.option.collectonly:
        leaks += [f"{who} left {name}" for name in end(children())]
        leaks += [f"{who} left segment {path.name}" for path in sorted(segments(config.stash[ROOM]))]
    if worker:
        config.workeroutput["leaks"] = leaks  # type: ignore[attr-defined]
        shutil.rmtree(config.stash[ROOM], ignore_errors=True)
    elif leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        report_leaks(config, leaks)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEAKS] += getattr(node, "workeroutput", {}).get("leaks", [])


def report_leaks(config: pytest.Config, leaks: list[str]) -> None:
    """Show the leaks as an error of their own, so that pytest's closing line counts it."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:
        return
    report = pytest.TestReport(
        nodeid="leaks", location=("", None, "leaks"), keywords={}, outcome="failed", when="teardown",
        longrepr="\n".join(leaks),
    )  # fmt: skip
    terminal.stats.setdefault("error", []).append(report)


# What tests ask for

RunEmu = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_emu(tmp_path: Path) -> RunEmu:
    """Run the command line in a process of its own: ``run_emu("proc", "buddyinfo", mode="checked").stdout``.

    It runs in ``tmp_path``, with an empty stdin. Beside ``mode`` (EMU_MODE), ``timeout`` (s) and ``env`` (added; None
    removes), keywords go to :func:`subprocess.run`. The exit status is the caller's to check.
    """

    def run(
        *args: object,
        mode: str | None = None,
        timeout: float = 120,
        env: dict[str, str | None] | None = None,
        **kwargs: Any,
    ) -> "subprocess.CompletedProcess[str]":
        plain = {"COLUMNS": "120", "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "TERM": "dumb", "PYTHONWARNINGS": "error"}
        wanted = os.environ | plain | ({} if mode is None else {"EMU_MODE": mode}) | (env or {})
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("cwd", tmp_path)
        return subprocess.run(
            [sys.executable, "-m", "emu", *map(str, args)],
            env={name: value for name, value in wanted.items() if value is not None},
            timeout=timeout, capture_output=True, text=True, check=False, **kwargs,
        )  # fmt: skip

    return run
