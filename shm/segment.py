"""One named segment of shared memory.

Segments are files in /dev/shm, created 0600 under an unguessable name and mapped shared. Pages of it that nobody has
touched cost nothing, so a segment may be far larger than the host's memory::

    | header 4 KiB: magic, layout, owner | payload, laid out by whoever created the segment ... |

The creator owns the name: :meth:`Segment.unlink` removes it, and is called on every way out. ``emu gc`` removes
segments whose owner is gone (pid and start time are in the header, so a recycled pid doesn't count as alive).
"""

import ctypes
import mmap
import os
import secrets
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

__all__ = ["HEADER", "PREFIX", "Found", "Segment", "SegmentError", "directory", "segments"]

HEADER = 4096
PREFIX = "emu-"
MAGIC = b"EMUSEG1\0"
MAP_NORESERVE = 0x4000  # the mmap module has it from Python 3.13 on


class SegmentError(Exception):
    """A segment can't be created or attached: which, and why."""


def directory() -> Path:
    """Where segments live: ``$EMU_SHM`` or /dev/shm."""
    return Path(os.environ.get("EMU_SHM", "/dev/shm"))


def _started(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if it has ended, reaped or not.

    Not psutil's create_time(): that is wall-clock time and moves when the clock is set.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(fields[18])


class Segment:
    """A mapped segment. ``base`` is where the payload lies in this process."""

    def __init__(self, path: Path, mapping: mmap.mmap, facts: dict[str, Any], owner: bool) -> None:
        self.path, self.facts, self.owner = path, facts, owner
        self._mapping = mapping
        self._view = (ctypes.c_uint8 * len(mapping)).from_buffer(mapping)
        self.size = len(mapping) - HEADER
        self.base = ctypes.addressof(self._view) + HEADER
        if owner:  # whoever forgets to unlink: the name goes with the object, at the latest when the process ends
            weakref.finalize(self, _forgotten, path, os.getpid())

    @classmethod
    def create(cls, size: int, **facts: Any) -> "Segment":
        """A new segment with ``size`` bytes of zeroed payload; ``facts`` go into its header for whoever attaches."""
        total = -(-(HEADER + size) // mmap.PAGESIZE) * mmap.PAGESIZE
        facts = {**facts, "pid": os.getpid(), "started": _started(os.getpid()), "bytes": total}
        try:
            packed = msgpack.packb(facts)
        except OverflowError as err:
            raise SegmentError(f"{size:,} bytes can't be mapped: {err}") from err
        if len(packed) + len(MAGIC) + 8 > HEADER:
            raise SegmentError("too many facts for a segment's header")
        path = directory() / f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as err:
            raise SegmentError(f"{path}: {err.strerror}") from err
        try:
            os.ftruncate(fd, total)
            mapping = mmap.mmap(fd, total, mmap.MAP_SHARED | MAP_NORESERVE)
        except (OSError, ValueError, OverflowError) as err:
            os.unlink(path)
            raise SegmentError(f"{path}: {size:,} bytes can't be mapped: {err}") from err
        finally:
            os.close(fd)
        mapping[: len(MAGIC)] = MAGIC
        mapping[8:12] = len(packed).to_bytes(4, "little")
        mapping[12 : 12 + len(packed)] = packed
        return cls(path, mapping, facts, owner=True)

    @classmethod
    def attach(cls, name: str) -> "Segment":
        """Map a segment that another process created."""
        path = directory() / name
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as err:
            raise SegmentError(f"{path}: {err.strerror}") from err
        try:
            total = os.fstat(fd).st_size
            if total < HEADER:
                raise SegmentError(f"{path}: not a segment ({total} bytes)")
            facts = _facts(path, os.pread(fd, HEADER, 0))
            if facts["bytes"] != total:
                raise SegmentError(f"{path}: truncated: {total:,} bytes of {facts['bytes']:,}")
            mapping = mmap.mmap(fd, total, mmap.MAP_SHARED | MAP_NORESERVE)
        except OSError as err:
            raise SegmentError(f"{path}: {err.strerror}") from err
        finally:
            os.close(fd)
        return cls(path, mapping, facts, owner=False)

    def touched(self) -> int:
        """Bytes of memory that the segment really occupies."""
        return self.path.stat().st_blocks * 512

    def unlink(self) -> None:
        """Remove the name. Memory goes when the last process unmaps it. Safe to call twice."""
        if self.owner:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmap; records into the segment must not be used afterwards."""
        del self._view
        try:
            self._mapping.close()
        except BufferError:
            pass  # a record is still referenced: the mapping goes with it


def _forgotten(path: Path, creator: int) -> None:
    if os.getpid() == creator:  # a forked child has a copy of the object, not the duty
        path.unlink(missing_ok=True)


def _facts(path: Path, header: bytes) -> dict[str, Any]:
    if header[: len(MAGIC)] != MAGIC:
        raise SegmentError(f"{path}: not a segment of this program, or of another version")
    size = int.from_bytes(header[8:12], "little")
    try:
        facts = dict(msgpack.unpackb(header[12 : 12 + size]))
        if not all(isinstance(facts[name], int) for name in ("pid", "started", "bytes")):
            raise ValueError
    except Exception as err:
        raise SegmentError(f"{path}: its header is damaged") from err
    return facts


@dataclass(frozen=True)
class Found:
    """A segment seen in the directory."""

    name: str
    facts: dict[str, Any]
    size: int
    touched: int
    alive: bool


def segments() -> Iterator[Found]:
    """All segments of this program, whoever owns them."""
    for path in sorted(directory().glob(f"{PREFIX}*")):
        try:
            with path.open("rb") as file:
                facts = _facts(path, file.read(HEADER))
            stat = path.stat()
        except (OSError, SegmentError):
            continue
        alive = facts["started"] == _started(facts["pid"]) != 0
        yield Found(path.name, facts, stat.st_size, stat.st_blocks * 512, alive)
