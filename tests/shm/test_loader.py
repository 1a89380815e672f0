"""The object cache: compiled once, by whoever comes first, and loaded without numba from then on."""

import fcntl
import os
import re
from pathlib import Path

import pytest

from shm import loader
from shm.core import core, entry
from shm.struct import Struct, i64, struct
from tests.shm.helpers import finish, start

pytestmark = pytest.mark.compiled

PROGRAM = """
import sys
from shm import loader
from shm.core import core, entry
from shm.struct import Struct, i64, struct

@struct
class S(Struct):
    a: int = i64()

@core
def twice(s: S, n: int) -> int:
    return n * 2

@entry
def main(s: S, n: int) -> int:
    return twice(s, n) + s.a

print("ready", loader.is_warm([main]), flush=True)
loader.load([main])
print(main(S(3), 4), "numba" in sys.modules)
"""


@struct
class S(Struct):
    a: int = i64()


@core
def leaf(s: S, n: int) -> int:
    return n ^ s.a


@entry
def main(s: S, n: int) -> int:
    return leaf(s, n) + 1


@entry
def other(s: S, n: int) -> int:
    return leaf(s, n) + 2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMU_CACHE", str(tmp_path / "cache"))
    for each in (main, other):
        monkeypatch.setattr(each, "native", None)
    return tmp_path / "cache"


def files(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


@pytest.mark.slow
def test_two_processes_at_once_compile_once_and_a_third_needs_no_numba(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    cache.mkdir()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # neither may go on until both have looked and found nothing
        pair = [start(tmp_path / "program.py") for _ in range(2)]
        for process in pair:
            assert process.stdout
            assert process.stdout.readline() == "ready False\n"
    ended = [finish(process) for process in pair]
    assert sorted(ended) == [(0, "11 False\n", ""), (0, "11 True\n", "")]

    before = files(cache)
    assert finish(start(tmp_path / "program.py")) == (0, "ready True\n11 False\n", "")
    assert files(cache) == before


def test_the_cache_holds_bitcode_by_function_and_one_object_by_program(cache: Path) -> None:
    assert not loader.is_warm([main])
    loader.load([main])
    assert loader.is_warm([main])
    assert main(S(5), 1) == 5
    shapes = sorted(re.sub(r"[0-9a-f]{32}", "*", name) for name in files(cache))
    assert shapes == ["bc/*.bc", "bc/*.bc", "lock", "obj/*.o"]
    assert cache.stat().st_mode & 0o077 == 0


def test_progress_counts_up_to_the_end(cache: Path) -> None:
    told: list[tuple[int, int, str]] = []
    loader.load([main], progress=lambda done, total, what: told.append((done, total, what)))
    assert [done for done, _, _ in told] == [1, 2, 3]
    assert {total for _, total, _ in told} == {3}
    assert {what.rpartition("_")[2] for _, _, what in told} == {"leaf", "main", "linked"}
    assert told[-1][2] == "linked"


def test_a_warm_load_makes_no_progress_calls_and_no_files(cache: Path) -> None:
    loader.load([main])
    before = files(cache)
    main.native = None
    told: list[str] = []
    loader.load([main], progress=lambda done, total, what: told.append(what))
    assert main(S(0), 7) == 8
    assert told == []
    assert files(cache) == before


def test_only_what_is_new_is_compiled(cache: Path) -> None:
    loader.load([main])
    told: list[str] = []
    loader.load([main, other], progress=lambda done, total, what: told.append(what))
    assert [what.rpartition("_")[2] for what in told] == ["other", "linked"]
    assert (main(S(0), 1), other(S(0), 1)) == (2, 3)


def test_a_program_is_the_same_whichever_of_its_entries_were_loaded_before(cache: Path) -> None:
    loader.load([main])
    loader.load([main, other])
    main.native = other.native = None
    told: list[str] = []
    loader.load([main, other], progress=lambda done, total, what: told.append(what))
    assert told == []
    assert (main(S(0), 1), other(S(0), 1)) == (2, 3)


def test_children_inherit_the_code(cache: Path) -> None:
    loader.load([main])
    pid = os.fork()
    if pid == 0:
        os._exit(main(S(0), 41))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EMU_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert loader.cache_dir() == tmp_path / ".cache/emu"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert loader.cache_dir() == tmp_path / "caches/emu"
    monkeypatch.setenv("EMU_CACHE", str(tmp_path / "here"))
    assert loader.cache_dir() == tmp_path / "here"
