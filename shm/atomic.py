"""Atomics, futex and clock for records in shared memory.

Every operation names a scalar field of a record: ``fetch_add(zone, "nr_free", -1)``. Loads acquire, stores release,
read-modify-writes are sequentially consistent. Interpreted mode uses the same machine instructions through a few
functions made with llvmlite alone, so interpreted and compiled processes may share a segment.

A plain read of shared memory in a loop may be hoisted out of it by the optimiser: a loop that waits for another
process reads with :func:`load_acquire` (a lint in the tests looks for it).
"""

import ctypes
import errno
import functools
import time
from typing import Any

from llvmlite import ir

from shm.core import primitive
from shm.here import free_running, here
from shm.lowering import (
    FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, lower_add, lower_address, lower_and, lower_barrier, lower_clock,
    lower_cmpxchg, lower_exit, lower_fence, lower_fls, lower_futex_wait, lower_futex_wake, lower_load, lower_or,
    lower_park, lower_prefetch, lower_read_once, lower_relax, lower_signal, lower_store, lower_unpark,
    lower_write_once, lower_xchg, syscall_number,
)  # fmt: skip
from shm.point import schedule_relax, schedule_wait

__all__ = [
    "address", "barrier", "clock_ns", "cmpxchg", "cpu_relax", "fetch_add", "fetch_and", "fetch_or", "fls", "futex_wait",
    "futex_wake", "load_acquire", "park", "prefetch", "process_exit", "process_signal", "read_once", "smp_mb",
    "store_release", "unpark", "write_once", "xchg",
]  # fmt: skip

# --- interpreted mode -------------------------------------------------------------------------------------------------


@functools.cache
def _native(op: str, bits: int) -> Any:
    """A machine-code atomic as a ctypes function, built with llvmlite (milliseconds, no numba)."""
    from shm.loader import native_function

    word = ir.IntType(bits)
    module = ir.Module(name=f"atomic_{op}_{bits}")
    fn = ir.Function(module, ir.FunctionType(word, [word.as_pointer(), word, word]), f"shm_atomic_{op}_{bits}")
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    ptr, one, two = fn.args
    if op == "load":
        b.ret(b.load_atomic(ptr, "acquire", bits // 8))
    elif op == "store":
        b.store_atomic(one, ptr, "release", bits // 8)
        b.ret(one)
    elif op == "cmpxchg":
        b.ret(b.extract_value(b.cmpxchg(ptr, one, two, "seq_cst", "acquire"), 0))
    elif op == "fence":
        b.fence("seq_cst")
        b.ret(one)
    else:
        b.ret(b.atomic_rmw(op, ptr, one, "seq_cst"))
    kind = {8: ctypes.c_int8, 16: ctypes.c_int16, 32: ctypes.c_int32, 64: ctypes.c_int64}[bits]
    return native_function(str(module), fn.name, kind, [ctypes.c_void_p, kind, kind])


def _do(op: str, rec: Any, name: str, one: int = 0, two: int = 0) -> int:
    field = getattr(type(rec), name)
    out = int(_native(op, field.size * 8)(ctypes.addressof(rec) + field.offset, one, two))
    kind = dict(type(rec)._fields_)[name]
    return out if kind(-1).value < 0 else out & ((1 << field.size * 8) - 1)


_libc = ctypes.CDLL(None, use_errno=True)


# --- the operations ---------------------------------------------------------------------------------------------------


@primitive(lower_load, literal=(1,))
def load_acquire(rec: Any, name: str) -> int:
    """``smp_load_acquire(&rec->name)``"""
    return _do("load", rec, name)


@primitive(lower_store, literal=(1,), void=True)
def store_release(rec: Any, name: str, value: int) -> None:
    """``smp_store_release(&rec->name, value)``"""
    _do("store", rec, name, value)


@primitive(lower_read_once, literal=(1,))
def read_once(rec: Any, name: str) -> int:
    """``READ_ONCE(rec->name)``: whole, once, and in no order with anything else."""
    return int(getattr(rec, name))


@primitive(lower_write_once, literal=(1,), void=True)
def write_once(rec: Any, name: str, value: int) -> None:
    """``WRITE_ONCE(rec->name, value)``"""
    setattr(rec, name, value)


@primitive(lower_add, literal=(1,))
def fetch_add(rec: Any, name: str, value: int) -> int:
    """``atomic_fetch_add``: returns the old value."""
    return _do("add", rec, name, value)


@primitive(lower_or, literal=(1,))
def fetch_or(rec: Any, name: str, value: int) -> int:
    """``atomic_fetch_or``: returns the old value."""
    return _do("or", rec, name, value)


@primitive(lower_and, literal=(1,))
def fetch_and(rec: Any, name: str, value: int) -> int:
    """``atomic_fetch_and``: returns the old value."""
    return _do("and", rec, name, value)


@primitive(lower_xchg, literal=(1,))
def xchg(rec: Any, name: str, value: int) -> int:
    """``xchg``: returns the old value."""
    return _do("xchg", rec, name, value)


@primitive(lower_cmpxchg, literal=(1,))
def cmpxchg(rec: Any, name: str, old: int, new: int) -> int:
    """``cmpxchg``: returns what was there; it was replaced if that equals ``old``."""
    return _do("cmpxchg", rec, name, old, new)


@primitive(lower_address)
def address(rec: Any) -> int:
    """Where the record lies in this process; only differences of addresses mean anything to others."""
    return ctypes.addressof(rec)


@primitive(lower_fence, void=True)
def smp_mb() -> None:
    """Full memory barrier."""
    _native("fence", 64)(None, 0, 0)


@primitive(lower_barrier, void=True)
def barrier() -> None:
    """``barrier()``: what this process does before is done before what it does after, for its own interrupts."""


@primitive(lower_fls)
def fls(value: int) -> int:
    """``fls64()``: position of the highest set bit, counted from 1; 0 for 0."""
    return value.bit_length()


@primitive(lower_relax, void=True, calls=(schedule_relax,))
def cpu_relax() -> None:
    """Tell the processor that this is a spin loop; in scheduled mode, somebody else's turn."""
    if not free_running():
        schedule_relax()


@primitive(lower_clock)
def clock_ns() -> int:
    """CLOCK_MONOTONIC in ns: the same clock in every process; in scheduled mode, virtual time."""
    if not free_running():
        return ctypes.c_int64.from_address(ctypes.c_int64.from_address(here()).value).value
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


@primitive(lower_futex_wait, literal=(1,), calls=(schedule_wait,))
def futex_wait(rec: Any, name: str, expected: int, bits: int, deadline_ns: int) -> int:
    """Sleep while the 32-bit field holds ``expected``, until woken with one of ``bits`` or CLOCK_MONOTONIC passes
    ``deadline_ns`` (negative: never). Returns 0 when woken, else negative; spurious returns are possible."""
    if not free_running():
        at = ctypes.addressof(rec) + getattr(type(rec), name).offset
        return schedule_wait(at, expected, deadline_ns)
    limit = (ctypes.c_int64 * 2)(deadline_ns // 1_000_000_000, deadline_ns % 1_000_000_000)
    return _futex(rec, name, FUTEX_WAIT_BITSET, expected, limit if deadline_ns >= 0 else None, bits)


@primitive(lower_futex_wake, literal=(1,))
def futex_wake(rec: Any, name: str, count: int, bits: int) -> int:
    """Wake at most ``count`` sleepers whose bits intersect ``bits``. Returns how many."""
    return _futex(rec, name, FUTEX_WAKE_BITSET, count, None, bits)


def _futex(rec: Any, name: str, op: int, value: int, limit: Any, bits: int) -> int:
    at = ctypes.addressof(rec) + getattr(type(rec), name).offset
    out = _libc.syscall(
        ctypes.c_long(syscall_number("futex")), ctypes.c_void_p(at), ctypes.c_long(op),
        ctypes.c_long(value & 0xFFFFFFFF),
        ctypes.byref(limit) if limit is not None else None, None, ctypes.c_long(bits & 0xFFFFFFFF),
    )  # fmt: skip
    if out < 0 and ctypes.get_errno() not in (errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR):
        raise OSError(ctypes.get_errno(), "futex")
    return int(out)


@primitive(lower_park, literal=(1,), void=True)
def park(rec: Any, name: str, expected: int) -> None:
    """``futex_wait`` on the host, also in scheduled mode: the process itself sleeps."""
    _futex(rec, name, FUTEX_WAIT_BITSET, expected, None, 0xFFFFFFFF)


@primitive(lower_unpark, literal=(1,), void=True)
def unpark(rec: Any, name: str) -> None:
    """Wake the process that has :func:`park`\\ ed on the field."""
    _futex(rec, name, FUTEX_WAKE_BITSET, 1, None, 0xFFFFFFFF)


@primitive(lower_exit, void=True)
def process_exit(status: int) -> None:
    """End this process at once, from any depth of the core (``exit_group``)."""
    import os

    os._exit(status)


@primitive(lower_signal)
def process_signal(pid: int, number: int) -> int:
    """Signal a process's main thread (``tgkill``). Returns 0, or a negative number when it is gone."""
    return int(_libc.syscall(ctypes.c_long(syscall_number("tgkill")), *(ctypes.c_long(v) for v in (pid, pid, number))))


@primitive(lower_prefetch, void=True)
def prefetch(rec: Any) -> None:
    """Ask for the record's cache line."""
