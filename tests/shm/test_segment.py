"""Segments: who may open them, what attaching checks, what is left when the owner is killed."""

import gc
import os
import secrets
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from shm.atomic import fetch_add, load_acquire, store_release
from shm.segment import HEADER, PREFIX, Found, Segment, SegmentError, directory, segments
from shm.struct import Struct, i64, record_at, struct


@struct
class Words(Struct):
    first: int = i64()
    second: int = i64()


@contextmanager
def temporary(size: int, **facts: Any) -> Iterator[Segment]:
    made = Segment.create(size, **facts)
    try:
        yield made
    finally:
        made.unlink()


@pytest.fixture
def segment() -> Iterator[Segment]:
    with temporary(100_000, purpose="test", cpus=3) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of our own, for files that aren't segments."""
    monkeypatch.setenv("EMU_SHM", str(tmp_path))
    return tmp_path


def found(name: str) -> list[Found]:
    return [each for each in segments() if each.name == name]


def test_a_segment_is_private_and_its_name_unguessable(segment: Segment) -> None:
    assert stat.filemode(segment.path.stat().st_mode) == "-rw-------"
    assert segment.path.parent == directory()
    with temporary(1) as other:
        assert len(other.path.name) == len(segment.path.name)
        assert other.path.name.rpartition("-")[2] != segment.path.name.rpartition("-")[2]


def test_the_payload_is_zeroed_and_page_aligned(segment: Segment) -> None:
    assert segment.base % 4096 == 0
    assert segment.size >= 100_000
    words = record_at(Words, segment.base)
    assert (words.first, words.second) == (0, 0)


def test_another_process_that_attaches_sees_the_same_memory_and_facts(segment: Segment) -> None:
    words = record_at(Words, segment.base)
    words.first = 41
    pid = os.fork()
    if pid == 0:
        try:
            mine = Segment.attach(segment.path.name)
            there = record_at(Words, mine.base)
            good = mine.base != segment.base and mine.facts == segment.facts and mine.facts["cpus"] == 3
            fetch_add(there, "first", 1 if good else 100)
            store_release(there, "second", os.getpid())
            mine.unlink()  # not the owner: nothing happens
            mine.close()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert load_acquire(words, "first") == 42
    assert load_acquire(words, "second") == pid
    assert segment.path.exists()


def test_unlink_removes_the_name_and_may_be_repeated(segment: Segment) -> None:
    words = record_at(Words, segment.base)
    segment.unlink()
    segment.unlink()
    assert not segment.path.exists()
    assert not found(segment.path.name)
    words.first = 5  # the memory is still there
    assert words.first == 5
    with pytest.raises(SegmentError, match="No such file"):
        Segment.attach(segment.path.name)


def packed(**facts: Any) -> bytes:
    content = msgpack.packb(facts)
    return (b"EMUSEG1\0" + len(content).to_bytes(4, "little") + content).ljust(HEADER, b"\0")


STRANGERS = {
    "empty": b"",
    "short": b"EMUSEG1\0",
    "foreign": b"\x7fELF" * 2000,
    "another version": b"EMUSEG9\0".ljust(HEADER, b"\0"),
    "no facts": packed(),
    "facts that aren't numbers": packed(pid="1", started=None, bytes=HEADER),
    "garbled facts": b"EMUSEG1\0\xff\xff\0\0".ljust(HEADER, b"\xc1"),
    "facts of the wrong shape": b"EMUSEG1\0\x01\0\0\0\x05".ljust(HEADER, b"\0"),
}


@pytest.mark.parametrize("content", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_file_that_is_no_segment_is_refused_in_one_line_and_not_listed(place: Path, content: bytes) -> None:
    name = f"{PREFIX}1-{secrets.token_hex(8)}"
    (place / name).write_bytes(content)
    with pytest.raises(SegmentError) as refused:
        Segment.attach(name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(segments()) == []


def test_a_truncated_segment_is_refused(segment: Segment) -> None:
    os.truncate(segment.path, HEADER + 4096)
    with pytest.raises(SegmentError, match=r"truncated: 8,192 bytes of 106,496$"):
        Segment.attach(segment.path.name)


def test_what_cant_be_created_is_refused_in_one_line_and_leaves_nothing(place: Path) -> None:
    for size in (1 << 70, -HEADER):
        with pytest.raises(SegmentError) as refused:
            Segment.create(size)
        assert "\n" not in str(refused.value)
    with pytest.raises(SegmentError, match="too many facts"):
        Segment.create(1, text="x" * HEADER)
    assert list(place.iterdir()) == []


def test_a_missing_directory_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMU_SHM", str(tmp_path / "nowhere"))
    with pytest.raises(SegmentError, match=r"nowhere/emu-.*: No such file"):
        Segment.create(1)
    assert list(segments()) == []


def test_segments_lists_a_living_owner(segment: Segment) -> None:
    (one,) = found(segment.path.name)
    assert one.alive
    assert one.facts == segment.facts
    assert one.facts["purpose"] == "test"
    assert one.size == segment.size + HEADER
    assert one.touched == segment.touched() > 0


def test_a_recycled_pid_is_not_the_owner(place: Path) -> None:
    name = f"{PREFIX}1-0"
    (place / name).write_bytes(packed(pid=os.getpid(), started=1, bytes=HEADER))
    assert [each.alive for each in segments()] == [False]


def test_a_killed_owner_leaves_its_segment_and_is_found_dead_reaped_or_not() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            made = Segment.create(4096)
            os.write(write, made.path.name.encode())
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    name = os.read(read, 1000).decode()
    os.close(read)
    try:
        assert [each.alive for each in found(name)] == [True]
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert [each.alive for each in found(name)] == [False]
        os.waitpid(pid, 0)
        assert [each.alive for each in found(name)] == [False]
    finally:
        (directory() / name).unlink()


def test_a_huge_segment_costs_what_is_touched() -> None:
    with temporary(1 << 40) as huge:
        before = huge.touched()
        assert before <= 64 << 10
        record_at(Words, huge.base + (1 << 39)).first = 1
        record_at(Words, huge.base + (1 << 40) - 16).second = 1
        assert before < huge.touched() <= before + (16 << 10)
        huge.close()


def test_a_forgotten_segment_goes_with_its_object() -> None:
    seg = Segment.create(4096)
    path = seg.path
    pid = os.fork()
    if pid == 0:
        del seg
        os._exit(0)
    os.waitpid(pid, 0)
    assert path.exists()  # a child's copy is not the owner
    del seg
    gc.collect()
    assert not path.exists()
